// The page: what a person sees and does. The model itself runs in worker.js.

import { formatBytes, formatSeconds, plural } from "./units.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const base = new URL(`${query.get("model") ?? "model"}/`, location.href).href;

let worker, device = query.get("device"), history = [], current = null, info = null, followed = true;
// info is what the worker said when it was ready; null while a model is being opened.
const notes = new Set();

// The service worker keeps the page for visits without a network. Where the server does not send the headers for
// threads, it adds them, which takes effect when the page is loaded once more.
async function keepPage() {
  if (!navigator.serviceWorker) return;
  try {
    const { active, installing, waiting } = await navigator.serviceWorker.register("sw.js");
    if (!active) await activated(installing ?? waiting);
    if (!navigator.serviceWorker.controller)
      await new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
  } catch (error) {
    addNote(`This page cannot be kept for visits without a network (${error.message}).`);
    return;
  }
  if (!globalThis.crossOriginIsolated && !sessionStorage.getItem("reloaded")) {
    sessionStorage.setItem("reloaded", "1");
    location.reload();
    await new Promise(() => {});
  }
}

function activated(serviceWorker) {
  return new Promise((resolve, reject) => {
    serviceWorker.addEventListener("statechange", () => {
      if (serviceWorker.state === "activated") resolve();
      if (serviceWorker.state === "redundant") reject(new Error("its service worker was not installed"));
    });
  });
}

function start() {
  worker?.terminate();
  info = null;
  allowSending();
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => receive[data.type](data);
  worker.onerror = (event) => fail(event.message ? `The page's libraries cannot be loaded: ${event.message}. Run prepare.py to copy them into lib/.`
    : "The page's libraries cannot be loaded. Run prepare.py to copy them into lib/.");
  worker.postMessage({ type: "open", base, device });
}

const receive = {
  opened({ name, size, files, complete, stores }) {
    $("name").textContent = document.title = name;
    showParts(files);
    opening = complete ? "Opening the model" : `Downloading ${name}`;
    if (complete || startAtOnce) return load();
    $("setup-title").textContent = `Download ${name}?`;
    $("setup-text").textContent = stores
      ? `The model takes ${formatBytes(size)}. It is downloaded once, stays in this browser, and runs on this device. Nothing you write leaves it.`
      : `The model takes ${formatBytes(size)} and runs on this device. Nothing you write leaves it.`;
    const done = files.reduce((sum, file) => sum + file.done, 0);
    $("download").textContent = done ? `Continue: ${formatBytes(size - done)} left` : `Download ${formatBytes(size)}`;
    $("download").hidden = false;
    $("download").onclick = load;
  },

  progress({ name, done }) {
    parts.get(name)?.(done);
  },

  loading({ device, checking }) {
    $("rate").hidden = true;
    $("setup-title").textContent = checking ? "Checking the graphics processor" : "Starting the model";
    $("setup-text").textContent = checking ? "The model's own test question is answered once, to see that the results are right. This happens at the first visit only."
      : `By ${device === "webgpu" ? "WebGPU" : "WebAssembly"}. This takes a few seconds.`;
    say($("setup-title").textContent);
  },

  ready(content) {
    info = content;
    $("engine").textContent = content.device === "webgpu" ? ["WebGPU", content.adapter.description || content.adapter.architecture || content.adapter.vendor].filter(Boolean).join(", ")
      : `WebAssembly, ${plural(content.threads, "thread")}`;
    $("engine").title = `Started in ${formatSeconds(content.loadSeconds)}, room for ${content.limit} tokens`;
    for (const id of ["engine", "composer", "log"]) $(id).hidden = false;
    $("setup").hidden = true;
    showStored();
    if ($("log").querySelector("article")) setBusy(false); // WebAssembly has taken over
    else newChat();
    say("The model is ready.");
    if (matchMedia("(hover: hover)").matches) $("question").focus(); // on a phone, the keyboard would cover the page
    document.body.dataset.state = "ready";
  },

  update(state) {
    current.state = state;
    current.frame ??= requestAnimationFrame(draw);
  },

  answered(result) {
    draw();
    finish(result);
  },

  note({ text }) {
    addNote(text);
  },

  fallback({ reason }) {
    addNote(reason);
    device = "wasm";
    startAtOnce = true;
    start();
  },

  failed({ during, kind, lost, message }) {
    if (during === "ask") {
      if (current) {
        draw();
        finish({ ...current.state, finish: "failed", message });
      }
      if (lost && device !== "wasm") { // WebAssembly takes over, and the conversation goes on
        device = "wasm";
        startAtOnce = true;
        addNote("The graphics processor stopped answering, so the model runs by WebAssembly from here on.");
        start();
      }
      return;
    }
    fail(message, kind);
  },
};

let startAtOnce = false, opening; // opening: the title while files are read
const parts = new Map();

// One bar for the small files together, one for the graph, and one for each file of weights.
function showParts(files) {
  const groups = new Map();
  const weights = files.filter(({ name }) => name.includes("_data"));
  for (const file of files) {
    const at = weights.indexOf(file);
    const label = at >= 0 ? (weights.length > 1 ? `Weights, ${at + 1} of ${weights.length}` : "Weights") : file.name.endsWith(".onnx") ? "Graph" : "Tokenizer and settings";
    if (!groups.has(label)) groups.set(label, []);
    groups.get(label).push(file);
  }
  $("parts").replaceChildren();
  const total = files.reduce((sum, file) => sum + file.size, 0), done = new Map(files.map((file) => [file.name, file.done]));
  const sumOf = (names) => names.reduce((sum, name) => sum + done.get(name), 0);
  let started = null, before = 0;
  for (const [label, members] of [...groups].sort(([a], [b]) => a.localeCompare(b))) {
    const names = members.map(({ name }) => name), size = members.reduce((sum, file) => sum + file.size, 0);
    const name = element("span", "", label), figure = element("span", "size"), bar = element("progress");
    bar.max = size;
    bar.setAttribute("aria-label", label);
    const item = element("li");
    item.append(name, figure, bar);
    $("parts").append(item);
    const show = () => {
      bar.value = sumOf(names);
      figure.textContent = bar.value === size ? formatBytes(size) : `${formatBytes(bar.value)} of ${formatBytes(size)}`;
    };
    show();
    for (const file of names) parts.set(file, (bytes) => {
      done.set(file, bytes);
      show();
      const now = performance.now(), all = sumOf([...done.keys()]);
      if (started === null) [started, before] = [now, all];
      const rate = (all - before) / ((now - started) / 1e3);
      if (now - started > 500 && rate > 0) {
        $("rate").hidden = all === total;
        $("rate").textContent = `${formatBytes(rate)}/s, about ${formatSeconds((total - all) / rate)} left`;
      }
    });
  }
}

function load() {
  document.body.dataset.state = "loading";
  $("download").hidden = true;
  $("setup").hidden = $("log").childElementCount > 0;
  $("parts").hidden = false;
  $("setup-title").textContent = opening;
  $("setup-text").textContent = "";
  say(opening);
  worker.postMessage({ type: "load" });
}

// A message in place of the download, with a button that tries again.
function fail(message, kind = "error") {
  document.body.dataset.state = "failed";
  $("setup").hidden = false;
  $("rate").hidden = true;
  $("setup-title").textContent = { missing: "The model is not there", network: "No connection", server: "The server failed", changed: "The download does not fit" }[kind] ?? "The model did not start";
  $("setup-text").textContent = message;
  $("download").textContent = "Try again";
  $("download").hidden = false;
  $("download").onclick = () => {
    startAtOnce = kind === "network";
    $("download").hidden = true;
    document.body.dataset.state = "loading";
    start();
  };
  say(`${$("setup-title").textContent}. ${message}`);
}

function addNote(text) {
  if (notes.has(text)) return;
  notes.add(text);
  $("notes").append(element("li", "", text));
  $("notes").hidden = false;
}

async function showStored() {
  const { usage } = (await navigator.storage?.estimate?.()) ?? {};
  const kept = usage > 0 && globalThis.isSecureContext;
  $("stored").textContent = kept ? `${formatBytes(usage)} stored in this browser.` : "";
  $("remove").hidden = !kept;
}

$("remove").onclick = async () => {
  if (!confirm("Remove the model from this browser? The next visit downloads it again.")) return;
  await caches.delete("edgekit-model");
  $("stored").textContent = "The model was removed from this browser; it runs until the page is closed.";
  $("remove").hidden = true;
};

// The conversation.

function newChat() {
  if (current) return;
  history = [];
  const empty = element("div", "empty");
  empty.append(element("h2", "", "What is on your mind?"), element("p", "", "The model runs on this device. It works without a network, and nothing you write leaves it."));
  $("log").replaceChildren(empty);
  $("new").hidden = true;
  $("question").value = "";
  grow();
  setBusy(false);
}

$("new").onclick = () => {
  newChat();
  $("question").focus();
};

function ask(text) {
  $("log").querySelector(".empty")?.remove();
  const question = element("article", "question");
  question.setAttribute("aria-label", "Question");
  question.append(element("div", "text", text));
  const answer = element("article", "answer"), thought = element("details"), summary = element("summary");
  answer.setAttribute("aria-label", "Answer");
  const thoughtText = element("div", "text"), body = element("div", "text waiting"), figures = element("p", "figures");
  thought.append(summary, thoughtText);
  thought.hidden = true;
  answer.append(thought, body, figures);
  $("log").append(question, answer);
  history.push({ role: "user", content: text });
  current = { answer, thought, summary, thoughtText, body, figures, state: {}, frame: null };
  followed = true;
  setBusy(true);
  say("Answering.");
  follow();
  worker.postMessage({ type: "ask", messages: history, greedy: query.has("greedy") });
}

function draw() {
  if (!current) return;
  cancelAnimationFrame(current.frame);
  current.frame = null;
  const { state, thought, summary, thoughtText, body, figures } = current;
  if (state.read !== undefined) {
    figures.textContent = state.read < state.of ? `Reading, ${state.read} of ${plural(state.of, "token")}` : "";
    return;
  }
  if (state.thought || state.thinking) {
    thought.hidden = false;
    thoughtText.textContent = state.thought;
    summary.textContent = state.thinking ? `Thinking, ${plural(state.tokens, "token")}, ${formatSeconds(state.seconds ?? 0)}`
      : `Thought for ${formatSeconds(state.thoughtSeconds ?? 0)}, ${plural(words(state.thought), "word")}`;
  }
  body.textContent = state.answer ?? "";
  figures.textContent = state.rate ? `${plural(state.tokens, "token")}, ${state.rate.toFixed(1)} tokens/s` : "";
  follow();
}

function finish(result) {
  const { answer, thought, thoughtText, summary, body, figures } = current;
  body.classList.remove("waiting");
  if (result.thought) {
    thoughtText.textContent = result.thought;
    summary.textContent = result.thoughtSeconds != null ? `Thought for ${formatSeconds(result.thoughtSeconds)}, ${plural(words(result.thought), "word")}` : `Thought, not finished, ${plural(words(result.thought), "word")}`;
  } else thought.hidden = true;
  body.textContent = result.answer ?? "";
  body.hidden = !result.answer;
  const parts = [];
  if (result.ids?.length) parts.push(plural(result.ids.length, "token"));
  if (result.tokensPerSecond) parts.push(`${result.tokensPerSecond.toFixed(1)} tokens/s`);
  if (result.firstSeconds != null) parts.push(`the first after ${formatSeconds(result.firstSeconds)}`);
  if (result.finish === "stopped") parts.push("stopped");
  figures.textContent = parts.join(", ");
  const trouble = { length: `The conversation has reached the ${info?.limit} tokens that this model has room for. Start a new chat.`, failed: result.message }[result.finish];
  if (trouble) answer.append(element("p", "trouble", trouble));
  // What a person sees is what the model is told later; a template drops earlier thoughts itself.
  if (result.answer || result.thought) history.push({ role: "assistant", content: result.answer ?? "" });
  else history.pop();
  say(trouble ?? (result.answer ? `Answer: ${result.answer}` : "Stopped."));
  answer.dataset.finish = result.finish;
  if (result.ids) answer.dataset.ids = JSON.stringify(result.ids);
  current = null;
  setBusy(false);
  $("new").hidden = false;
  follow();
}

const words = (text) => text.split(/\s+/).filter(Boolean).length;

function setBusy(busy) {
  $("send").hidden = busy;
  $("stop").hidden = !busy;
  $("stop").disabled = false;
  $("new").disabled = busy;
  allowSending();
  $("log").setAttribute("aria-busy", busy);
}

function stop() {
  if (!current) return;
  worker.postMessage({ type: "stop" });
  $("stop").disabled = true;
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

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

// The composer.

function grow() {
  const field = $("question");
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + 2}px`;
  allowSending();
}

function allowSending() {
  $("send").disabled = !$("question").value.trim() || current !== null || info === null;
}

$("question").addEventListener("input", grow);

$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("question").value.trim();
  if (!text || current || !info) return;
  $("question").value = "";
  grow();
  ask(text);
});

$("stop").onclick = stop;
addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});

await keepPage();
start();
