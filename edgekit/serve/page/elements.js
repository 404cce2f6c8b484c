// Makes elements. Text is always a text node: what a model writes never becomes markup.

export function element(name, className = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

export function button(label, className, action) {
  const made = element("button", className, label);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

// A button that copies a text, and says so for a moment.
export function copyButton(text, announce) {
  const made = button("Copy", "small", async () => {
    let done = "Copied";
    try {
      await navigator.clipboard.writeText(text());
    } catch { // without a secure context there is no clipboard object
      done = copyOld(text()) ? done : "Not copied";
    }
    made.textContent = done;
    announce?.(done);
    setTimeout(() => { made.textContent = "Copy"; }, 1500);
  });
  return made;
}

function copyOld(text) {
  const field = element("textarea", "hidden");
  field.value = text;
  const before = document.activeElement;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus();
  return done;
}
