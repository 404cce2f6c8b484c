// The page: what a person sees and does.

import { answerView, fillAnswer, newAnswer } from "./answer.js";
import { listModels } from "./api.js";
import { button, copyButton, element } from "./elements.js";
import { showChats } from "./chats.js";
import { loadChat, openStore, saveChat, settings, tab } from "./store.js";

const $ = (id) => document.getElementById(id);
const SAVE_MS = 1000; // between two times that an answer is kept while it is written

let chat, models = [], stored = false, followed = true;
let current = null; // the answer being written: { abort, draw, frame }

// The server's models, and the key that they may need.

async function connect() {
  $("key-form").hidden = $("failure").hidden = true;
  try {
    models = await listModels(tab.getItem("key"));
  } catch (error) {
    models = [];
    if (error.status === 401) askForKey();
    else {
      $("failure-text").textContent = error.message;
      $("failure").hidden = false;
    }
  }
  const chosen = settings.getItem("model");
  $("model").replaceChildren(...models.map(({ id }) => new Option(id, id, false, id === chosen)));
  $("model").hidden = !models.length;
  $("log").hidden = !models.length;
  $("forget").hidden = !tab.getItem("key");
  modelChanged();
}

function modelChanged() {
  $("thinking").hidden = !model()?.reasoning;
  $("composer").hidden = !models.length;
  document.title = model() ? `${model().id} · edgekit chat` : "edgekit chat";
  allowSending();
}

const model = () => models.find(({ id }) => id === $("model").value);

function askForKey() {
  const given = tab.getItem("key");
  tab.removeItem("key");
  $("key-trouble").textContent = given ? "The server does not accept this key." : "";
  $("key-form").hidden = false;
  $("key").focus();
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  tab.setItem("key", $("key").value.trim());
  $("key").value = "";
  connect().then(() => { if (models.length) $("question").focus(); });
});

$("again").onclick = connect;
$("forget").onclick = () => {
  tab.removeItem("key");
  location.reload();
};

$("model").onchange = () => {
  settings.setItem("model", $("model").value);
  modelChanged();
};

// The conversation.

function newChat() {
  chat = { id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, title: "", updated: 0, messages: [] };
  tab.removeItem("chat");
  show();
}

function show() {
  $("new").hidden = !chat.messages.length;
  if (!chat.messages.length) {
    const kept = stored ? "Conversations are kept in this browser, nowhere else." : "This browser keeps nothing: conversations last until the page is closed.";
    $("log").replaceChildren(element("div", "empty", element("h2", "", "What is on your mind?"), element("p", "", kept)));
    return;
  }
  const last = chat.messages.length - 1;
  $("log").replaceChildren(...chat.messages.map((message, at) => message.role === "user" ? questionView(at) : shownAnswer(message, at === last).made));
  if (chat.messages[last].role === "user") $("log").append(element("div", "actions", button("Answer", "small", () => ask())));
}

function shownAnswer(answer, isLast) {
  const view = answerView(answer, say);
  if (answer.state === "open" && !current) { // the page was closed meanwhile
    answer.state = "stopped";
    view.draw();
  }
  if (isLast) view.actions.append(button(answer.state === "failed" ? "Try again" : "Regenerate", "small", () => {
    if (!current && model()) ask(chat.messages.pop());
  }));
  return view;
}

function questionView(at) {
  const { content } = chat.messages[at], made = element("article", "question");
  made.ariaLabel = "Question";
  const edit = button("Edit", "small", () => {
    if (current) return;
    made.replaceChildren(...editor(at));
    made.classList.add("editing");
    made.querySelector("textarea").focus();
  });
  edit.classList.add("edit");
  made.append(element("div", "text", content), element("div", "actions", edit, copyButton(() => content, say)));
  return made;
}

function editor(at) {
  const field = element("textarea"), note = element("p", "soft", "The messages after it are removed.");
  field.value = chat.messages[at].content;
  field.ariaLabel = "Edit the message";
  const send = button("Send", "primary small", () => {
    const text = field.value.trim();
    if (!text || current) return;
    chat.messages.splice(at);
    chat.messages.push({ role: "user", content: text });
    ask();
  });
  const cancel = () => {
    const view = questionView(at);
    field.closest("article").replaceWith(view);
    view.querySelector(".edit").focus();
  };
  field.addEventListener("input", () => grow(field));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); cancel(); }
    if (sends(event)) { event.preventDefault(); send.click(); }
  });
  requestAnimationFrame(() => grow(field));
  const row = element("div", "actions", send, button("Cancel", "small", cancel));
  return at < chat.messages.length - 2 ? [field, note, row] : [field, row];
}

// Asks for an answer to the conversation, whose last message is a question. An answer that stood there before comes back
// if none takes its place.
async function ask(before = null) {
  if (current || !model()) return;
  const asked = chat, system = settings.getItem("system")?.trim(), budget = settings.getItem("budget");
  const said = asked.messages.map(({ role, content }) => ({ role, content })); // thoughts do not go back to the model
  const request = { model: model().id, messages: system ? [{ role: "system", content: system }, ...said] : said };
  if (budget && model().reasoning) request.think_tokens = Number(budget);
  asked.title ||= asked.messages[0].content.slice(0, 100);
  const answer = newAnswer();
  asked.messages.push(answer);
  current = { abort: new AbortController(), frame: null };
  show();
  const view = answerView(answer, say);
  $("log").lastElementChild.replaceWith(view.made);
  setBusy(true);
  if (document.activeElement === document.body) $("question").focus(); // what was pressed is gone
  followed = true;
  follow();
  say("Waiting for the answer.");
  tab.setItem("chat", asked.id);
  await keep(asked);
  let keptAt = performance.now(), spoken = "";
  const changed = () => {
    const phase = answer.content ? "Answering." : answer.thought ? "Thinking." : "";
    if (phase !== spoken) say(spoken = phase);
    current.frame ??= requestAnimationFrame(() => {
      current.frame = null;
      view.draw();
      follow();
    });
    if (performance.now() - keptAt > SAVE_MS) { keptAt = performance.now(); keep(asked); }
  };
  await fillAnswer(answer, request, tab.getItem("key"), current.abort.signal, changed);
  cancelAnimationFrame(current.frame);
  current = null;
  const empty = !answer.content && !answer.thought;
  if (answer.refused) askForKey();
  if (answer.refused || (empty && (before || answer.state === "stopped"))) asked.messages.pop();
  if (before && empty) asked.messages.push(before);
  await keep(asked);
  finishView(view, answer);
  setBusy(false);
}

function finishView(view, answer) {
  const kept = chat.messages.at(-1) === answer;
  if (kept) {
    const open = view.made.querySelector("details").open, shown = shownAnswer(answer, true);
    shown.made.querySelector("details").open = open;
    view.made.replaceWith(shown.made);
  } else {
    show();
    if (answer.trouble && !answer.refused) $("log").append(element("p", "trouble", answer.trouble));
  }
  say(answer.trouble ?? (answer.state === "stopped" ? "Stopped." : `Answer: ${answer.content}`));
  follow();
}

async function keep(what) {
  what.updated = Date.now();
  try {
    await saveChat(what);
  } catch (error) {
    say(`The conversation cannot be kept in this browser: ${error.message}`);
  }
}

function setBusy(busy) {
  const inFooter = $("composer").contains(document.activeElement);
  $("send").hidden = busy;
  $("stop").hidden = !busy;
  for (const id of ["new", "chats", "model"]) $(id).disabled = busy;
  for (const each of document.querySelectorAll("article .edit")) each.disabled = busy;
  $("log").ariaBusy = String(busy);
  allowSending();
  if (inFooter && document.activeElement === document.body) $("question").focus();
}

function stop() {
  current?.abort.abort();
}

$("stop").onclick = stop;
$("new").onclick = () => {
  newChat();
  $("question").focus();
};
$("chats").onclick = () => showChats({ stored, currentId: chat.id, open: openChat, gone: newChat });

async function openChat(id) {
  const found = await loadChat(id);
  if (!found) return newChat();
  chat = found;
  tab.setItem("chat", id);
  show();
  scrollTo({ top: document.documentElement.scrollHeight });
}

// Scrolls along, unless the person has scrolled up.
addEventListener("scroll", () => {
  followed = innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
}, { passive: true });

function follow() {
  if (followed) scrollTo({ top: document.documentElement.scrollHeight });
}

function say(text) {
  $("spoken").textContent = text;
}

// The composer.

function grow(field) {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + 2}px`;
}

function allowSending() {
  $("send").disabled = !$("question").value.trim() || current !== null || !model();
}

const sends = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing;

$("question").addEventListener("input", () => {
  grow($("question"));
  allowSending();
});
$("question").addEventListener("keydown", (event) => {
  if (!sends(event)) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("question").value.trim();
  if (!text || current || !model()) return;
  $("question").value = "";
  grow($("question"));
  chat.messages.push({ role: "user", content: text });
  ask();
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) stop();
});

// Settings.

for (const [id, changed] of [["budget", null], ["theme", (value) => { document.documentElement.dataset.theme = value; }], ["system", null]]) {
  $(id).value = settings.getItem(id) ?? "";
  $(id).addEventListener("change", () => {
    settings.setItem(id, $(id).value);
    changed?.($(id).value);
  });
}
$("settings").onclick = () => $("settings-dialog").showModal();
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector(".close").onclick = () => dialog.close();
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); }); // beside it
}

stored = await openStore();
await openChat(tab.getItem("chat") ?? "");
await connect();
if (models.length && matchMedia("(hover: hover)").matches) $("question").focus(); // on a phone, the keyboard would cover the page
document.body.dataset.state = "ready";
