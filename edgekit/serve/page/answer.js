// One answer: what the server streams, as the page draws it and as it is kept.
//
// A kept answer: { role, content, thought, state, trouble, seconds, firstSeconds, thoughtSeconds, tokens, thoughtTokens,
// promptTokens, cachedTokens, memory }. state: open while it is written, then done, length, stopped or failed.

import { serverMemory, streamChat } from "./api.js";
import { copyButton, element } from "./elements.js";
import { drawMarkdown } from "./markdown.js";
import { formatBytes, formatSeconds, plural } from "./units.js";

const CUT = "The answer was cut off: a limit on its tokens or its time was reached, or the context is full.";

export function newAnswer() {
  return { role: "assistant", content: "", thought: "", state: "open", seconds: 0 };
}

// Fills an answer from the server; calls changed after each part. Does not throw.
export async function fillAnswer(answer, request, key, signal, changed) {
  const began = performance.now(), since = () => (performance.now() - began) / 1e3;
  let finish = null;
  try {
    for await (const chunk of streamChat(request, key, signal)) {
      const { delta = {}, finish_reason: reason } = chunk.choices[0] ?? {};
      const text = delta.content ?? "", thought = delta.reasoning_content ?? "";
      if (text || thought) answer.firstSeconds ??= since();
      if (text && answer.thought) answer.thoughtSeconds ??= since();
      answer.content += text;
      answer.thought += thought;
      finish = reason ?? finish;
      if (chunk.usage) keepUsage(answer, chunk.usage);
      answer.seconds = since();
      changed();
    }
    answer.state = finish === "length" ? "length" : "done";
  } catch (error) {
    answer.state = error.name === "AbortError" ? "stopped" : "failed";
    answer.trouble = answer.state === "failed" ? error.message : undefined;
    if (error.status === 401) answer.refused = true;
  }
  answer.seconds = since();
  if (answer.thought) answer.thoughtSeconds ??= answer.seconds;
  answer.memory = answer.tokens ? await serverMemory(key).catch(() => undefined) : undefined;
}

function keepUsage(answer, usage) {
  answer.tokens = usage.completion_tokens; // on the way, so that they are known if the answer is stopped
  answer.thoughtTokens = usage.completion_tokens_details.reasoning_tokens;
  answer.promptTokens = usage.prompt_tokens ?? answer.promptTokens;
  answer.cachedTokens = usage.prompt_tokens_details?.cached_tokens ?? answer.cachedTokens;
}

// The element of an answer; draw brings it up to date.
export function answerView(answer, announce) {
  const made = element("article", "answer"), thought = element("details"), summary = element("summary");
  made.ariaLabel = "Answer";
  const inner = element("div", "text"), body = element("div", "markdown"), figures = element("p", "figures");
  const trouble = element("p", "trouble"), actions = element("div", "actions");
  thought.append(summary, inner);
  made.append(thought, body, trouble, figures, actions);
  actions.append(copyButton(() => answer.content, announce));

  const draw = () => {
    const open = answer.state === "open", thinking = open && !answer.content;
    thought.hidden = !answer.thought;
    if (answer.thought) {
      summary.textContent = thoughtSummary(answer, thinking);
      grow(inner, answer.thought.trimStart());
    }
    drawMarkdown(body, answer.content);
    body.classList.toggle("waiting", open);
    body.hidden = !open && !answer.content;
    trouble.textContent = answer.trouble ?? (answer.state === "length" ? CUT : "");
    trouble.hidden = !trouble.textContent;
    figures.textContent = open ? (answer.firstSeconds ? "" : "Reading the conversation") : figuresOf(answer);
    figures.hidden = !figures.textContent;
    actions.hidden = open;
    actions.firstChild.hidden = !answer.content;
    made.dataset.state = answer.state;
  };
  draw();
  return { made, draw, actions };
}

// Appends what is new, so that a selection in the text is kept.
function grow(into, text) {
  const node = into.firstChild ?? into.appendChild(document.createTextNode(""));
  node.appendData(text.slice(node.length));
}

function thoughtSummary(answer, thinking) {
  const length = answer.thoughtTokens ? plural(answer.thoughtTokens, "token") : plural(words(answer.thought), "word");
  return thinking ? `Thinking, ${formatSeconds(answer.seconds)}, ${length}` : `Thought for ${formatSeconds(answer.thoughtSeconds ?? answer.seconds)}, ${length}`;
}

function figuresOf(answer) {
  const parts = [];
  if (answer.tokens) parts.push(plural(answer.tokens, "token"));
  const writing = answer.seconds - (answer.firstSeconds ?? answer.seconds);
  if (answer.tokens > 1 && writing > 0) parts.push(`${((answer.tokens - 1) / writing).toFixed(1)} tokens/s`);
  if (answer.firstSeconds) parts.push(`the first after ${formatSeconds(answer.firstSeconds)}`);
  if (answer.promptTokens) parts.push(`${plural(answer.promptTokens, "token")} read${answer.cachedTokens ? `, ${answer.cachedTokens.toLocaleString("en")} of them from the cache` : ""}`);
  if (answer.memory) parts.push(`${formatBytes(answer.memory)} of memory`);
  if (answer.state === "stopped") parts.push(`stopped after ${formatSeconds(answer.seconds)}`);
  if (answer.state === "open") parts.push("not finished");
  return parts.join(" · ");
}

function words(text) {
  return text.split(/\s+/).filter(Boolean).length;
}
