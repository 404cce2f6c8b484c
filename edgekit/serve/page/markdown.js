// Markdown as elements: the part of CommonMark and of GitHub's tables that models write. HTML in it stays text, links
// lead to http, https and mailto only, and images become links. A line break in the text is one on the page.

import { copyButton, element } from "./elements.js";
import { maths } from "./maths.js";

const DEEPEST = 10; // of quotations and lists in each other
const LONGEST = 8000; // characters of a paragraph that is looked through for emphasis and links

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`\s]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])( +|$)(.*)$/;
const DELIMITERS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

// Draws a text into an element. Blocks that have not changed since the last time stay, so that a growing text costs
// little and a selection in it is kept.
export function drawMarkdown(into, text) {
  const found = parse(text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n"), 0);
  const before = into.drawn ?? [];
  let same = 0;
  while (same < found.length && before[same] === found[same].source) same++;
  while (into.childNodes.length > same) into.lastChild.remove();
  for (const block of found.slice(same)) into.append(block.make());
  into.drawn = found.map((block) => block.source);
}

function parse(lines, depth) {
  const found = [];
  for (let at = 0; at < lines.length;) {
    if (!lines[at].trim()) { at++; continue; }
    const [make, end] = (depth < DEEPEST && (quote(lines, at, depth) ?? list(lines, at, depth)))
      || (code(lines, at) ?? rule(lines, at) ?? heading(lines, at) ?? formula(lines, at) ?? table(lines, at) ?? paragraph(lines, at));
    found.push({ make, source: lines.slice(at, end).join("\n") });
    at = end;
  }
  return found;
}

function code(lines, at) {
  const open = FENCE.exec(lines[at]);
  if (!open) return null;
  const indent = lines[at].search(/\S/);
  let end = at + 1;
  const closes = (line) => { const close = /^ {0,3}(`{3,}|~{3,}) *$/.exec(line); return close && close[1].startsWith(open[1]); };
  while (end < lines.length && !closes(lines[end])) end++;
  const text = lines.slice(at + 1, end).map((line) => line.slice(Math.min(indent, Math.max(line.search(/\S/), 0)))).join("\n");
  return [() => codeBlock(text, open[2]), Math.min(end + 1, lines.length)];
}

function codeBlock(text, language) {
  const made = element("div", "code"), pre = element("pre", "", element("code", "", text));
  pre.tabIndex = 0; // it may scroll
  pre.role = "group";
  pre.ariaLabel = language ? `Code, ${language}` : "Code";
  made.append(element("div", "head", element("span", "", language || "code"), copyButton(() => text)), pre);
  return made;
}

function rule(lines, at) {
  return RULE.test(lines[at]) ? [() => element("hr"), at + 1] : null;
}

function heading(lines, at) {
  const found = HEADING.exec(lines[at]);
  // The first level is the page's own.
  return found && [() => element(`h${Math.min(found[1].length + 1, 6)}`, `level${found[1].length}`, ...inline(found[2] ?? "")), at + 1];
}

function formula(lines, at) {
  const open = /^ {0,3}(\$\$|\\\[)/.exec(lines[at]);
  if (!open) return null;
  const close = open[1] === "$$" ? "$$" : "\\]";
  let text = lines[at].trimStart().slice(2), end = at + 1;
  while (!text.includes(close) && end < lines.length && lines[end].trim()) text += `\n${lines[end++]}`;
  const length = text.indexOf(close);
  if (length < 0 || text.slice(length + 2).trim().replace(/[.,;]/, "")) return null;
  return [() => maths(text.slice(0, length).trim(), true), end];
}

function quote(lines, at, depth) {
  if (!QUOTE.test(lines[at])) return null;
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end++;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return [() => element("blockquote", "", ...nodes(inner, depth + 1)), end];
}

function list(lines, at, depth) {
  const first = ITEM.exec(lines[at]);
  if (!first || RULE.test(lines[at])) return null;
  const ordered = /\d/.test(first[2]), items = [];
  let end = at;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    if (!item || item[1].length > first[1].length + 1 || /\d/.test(item[2]) !== ordered || RULE.test(lines[end])) break;
    const least = item[1].length + 2; // models indent by 2, whatever the marker's width
    const inner = [item[4]];
    for (end++; end < lines.length; end++) {
      const line = lines[end], indent = line.search(/\S/);
      if (indent < 0) {
        const next = lines.slice(end).find((each) => each.trim());
        if (!next || (next.search(/\S/) < least && !ITEM.test(next))) break;
        inner.push("");
      } else if (indent >= least) inner.push(line.slice(Math.min(indent, item[1].length + item[2].length + item[3].length)));
      else if (startsBlock(line) || !inner.at(-1).trim()) break;
      else inner.push(line.trimStart());
    }
    items.push(inner);
  }
  return [() => {
    const made = element(ordered ? "ol" : "ul", "", ...items.map((inner) => element("li", "", ...nodes(inner, depth + 1))));
    if (ordered && parseInt(first[2], 10) !== 1) made.start = parseInt(first[2], 10);
    return made;
  }, end];
}

function table(lines, at) {
  if (!lines[at].includes("|") || !DELIMITERS.test(lines[at + 1] ?? "")) return null;
  const head = cells(lines[at]), alignments = cells(lines[at + 1]);
  if (head.length !== alignments.length) return null;
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end++;
  const row = (values, kind) => element("tr", "", ...head.map((_, column) => {
    const side = `${alignments[column].startsWith(":") ? "l" : ""}${alignments[column].endsWith(":") ? "r" : ""}`;
    return element(kind, { r: "right", lr: "centre" }[side] ?? "", ...inline(values[column] ?? ""));
  }));
  return [() => {
    const body = lines.slice(at + 2, end).map((line) => row(cells(line), "td"));
    const made = element("div", "table", element("table", "", element("thead", "", row(head, "th")), element("tbody", "", ...body)));
    made.tabIndex = 0; // it may scroll
    made.role = "group";
    made.ariaLabel = "Table";
    return made;
  }, end];
}

function cells(line) {
  return line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function paragraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !startsBlock(lines[end]) && !DELIMITERS.test(lines[end + 1] ?? "")) end++;
  const text = lines.slice(at, end).map((line) => line.trim()).join("\n");
  return [() => element("p", "", ...inline(text)), end];
}

function startsBlock(line) {
  return FENCE.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line) || /^ {0,3}#{1,6} /.test(line) || /^ {0,3}(\$\$|\\\[)/.test(line);
}

function nodes(lines, depth) {
  return parse(lines, depth).map((block) => block.make());
}

// Within a paragraph: each rule is tried where its character stands.

const INLINE = [
  [/\\\(([^]+?)\\\)/y, (found) => maths(found[1].trim(), false)],
  [/\\\[([^]+?)\\\]|\$\$([^$]+)\$\$/y, (found) => maths((found[1] ?? found[2]).trim(), true)],
  [/\$(?=[^\s$])([^$\n]*?[^\s$\\])\$(?!\d)/y, (found) => maths(found[1], false)],
  [/\\([!-/:-@[-`{-~])/y, (found) => found[1]],
  [/(`+)(?!`)([^]*?[^`])\1(?!`)/y, (found) => element("code", "", found[2].replace(/^ (.*) $/, "$1"))],
  [/\*\*(?=\S)([^]*?\S\**)\*\*(?!\*)/y, (found, depth) => element("strong", "", ...inline(found[1], depth + 1))],
  [/\*(?=[^\s*])([^]*?[^\s*]|\*\*[^]*?\*\*)\*(?!\*)/y, (found, depth) => element("em", "", ...inline(found[1], depth + 1))],
  [/(?<!\w)__(?=\S)([^]*?\S)__(?!\w)/y, (found, depth) => element("strong", "", ...inline(found[1], depth + 1))],
  [/(?<!\w)_(?=[^\s_])([^]*?[^\s_])_(?!\w)/y, (found, depth) => element("em", "", ...inline(found[1], depth + 1))],
  [/~~(?=\S)([^]*?\S)~~/y, (found, depth) => element("s", "", ...inline(found[1], depth + 1))],
  [/!?\[((?:[^[\]]|\[[^[\]]*\])*)\]\(\s*<?([^\s()<>]*(?:\([^\s()]*\)[^\s()<>]*)*)>?(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/y,
    (found, depth) => link(found[2], inline(found[1] || found[2], depth + 1)) ?? found[0]],
  [/<(https?:\/\/[^\s<>]+)>/y, (found) => link(found[1], [found[1]]) ?? found[0]],
  [/<br ?\/?>/iy, () => element("br")],
  [/(?<!\w)https?:\/\/[^\s<>"'`]*[^\s<>"'`.,:;!?)\]}*_]/y, (found) => link(found[0], [found[0]]) ?? found[0]],
  [/\n/y, () => element("br")],
];
const PLAIN = /[^\\$`*_~[!<h\n]+/y;

function inline(text, depth = 0) {
  if (text.length > LONGEST || depth > DEEPEST) return [text];
  const found = [];
  let plain = "";
  for (let at = 0; at < text.length;) {
    PLAIN.lastIndex = at;
    const skipped = PLAIN.exec(text)?.[0];
    if (skipped) { plain += skipped; at += skipped.length; continue; }
    let made = null;
    for (const [rule, make] of INLINE) {
      rule.lastIndex = at;
      const match = rule.exec(text);
      if (match) { made = make(match, depth); at += match[0].length; break; }
    }
    if (made === null) plain += text[at++];
    else if (typeof made === "string") plain += made;
    else { if (plain) found.push(plain); plain = ""; found.push(made); }
  }
  if (plain) found.push(plain);
  return found;
}

function link(address, children) {
  let url;
  try { url = new URL(address); } catch { return null; }
  if (!["http:", "https:", "mailto:"].includes(url.protocol)) return null;
  const made = element("a", "", ...children);
  made.href = url.href;
  made.target = "_blank";
  made.rel = "noopener noreferrer nofollow";
  return made;
}
