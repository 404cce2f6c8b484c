// Divides what a reasoning model writes into its thought and its answer.

const OPEN = "<think>", CLOSE = "</think>";

// text     what the model has written so far
// opened   whether the prompt ended with <think>, as the templates of DeepSeek-R1 do
// ended    whether the model is done, so that no half of a mark is held back
export function split(text, opened, ended = false) {
  if (!opened) {
    const start = text.trimStart();
    if (!ended && start.length < OPEN.length && OPEN.startsWith(start)) return { thought: "", answer: "", thinking: false };
    if (!start.startsWith(OPEN)) return { thought: "", answer: text, thinking: false };
    text = start.slice(OPEN.length);
  }
  const end = text.indexOf(CLOSE);
  if (end >= 0) return { thought: text.slice(0, end).trim(), answer: text.slice(end + CLOSE.length).trimStart(), thinking: false };
  return { thought: (ended ? text : withoutPartOf(CLOSE, text)).trim(), answer: "", thinking: true };
}

// The text without an end that may become one of the marks.
export function withoutPartOf(mark, text) {
  for (let length = Math.min(mark.length - 1, text.length); length > 0; length--)
    if (text.endsWith(mark.slice(0, length))) return text.slice(0, -length);
  return text;
}
