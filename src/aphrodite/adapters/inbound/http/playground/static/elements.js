// Elements without markup: what is said is text, whatever it holds.

/** element("p", {class: "error", text: "..."}, child, ...) */
export function element(name, { text, ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

export const find = (selector) => document.querySelector(selector);

/** Tell it to those who do not see the page. */
export const say = (text) => { find("#status").textContent = text; };
