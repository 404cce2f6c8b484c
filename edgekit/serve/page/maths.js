// Formulas as MathML, which browsers draw with their own fonts. Temml, which makes MathML of TeX, is loaded when the
// first formula comes; until then, and where a formula is not valid, its source stands there as code.

import { element } from "./elements.js";

const waiting = new Set();
let state = "absent"; // absent, loading, ready, failed

export function maths(tex, display) {
  const made = element(display ? "div" : "span", display ? "maths display" : "maths");
  if (display) {
    made.tabIndex = 0; // it may scroll
    made.role = "group";
    made.ariaLabel = "Formula";
  }
  if (state === "ready") draw(made, tex, display);
  else {
    made.append(element("code", "", tex));
    waiting.add([made, tex, display]);
    if (state === "absent") load();
  }
  return made;
}

function load() {
  state = "loading";
  const script = element("script");
  script.src = new URL("lib/temml.min.js", import.meta.url).href;
  script.onload = () => {
    state = "ready";
    for (const each of waiting) draw(...each);
    waiting.clear();
  };
  script.onerror = () => { state = "failed"; waiting.clear(); };
  document.head.append(script);
}

function draw(into, tex, display) {
  try {
    const tree = temml.__renderToMathMLTree(tex, { displayMode: display, throwOnError: true, annotate: true, maxExpand: 200 });
    withoutStyleAttributes(tree);
    into.replaceChildren(tree.toNode());
  } catch {
    into.replaceChildren(element("code", "", tex));
  }
}

// The page's Content-Security-Policy forbids style attributes, but not styles that a script sets.
function withoutStyleAttributes(node) {
  const text = node.attributes?.style;
  if (text) {
    delete node.attributes.style;
    for (const rule of text.split(";")) {
      const [name, value] = rule.split(":").map((part) => part.trim());
      if (value) node.style[name] = value;
    }
  }
  for (const child of node.children ?? []) withoutStyleAttributes(child);
}
