// What may be done with an answer: copy it, or the question behind it.

import { element, say } from "./elements.js";
import { address } from "./server.js";
import { curl, python } from "./snippets.js";

/** Buttons for the answer `text` to the request `body`, in which `pictures` were sent. */
export function actionsFor(body, pictures, text) {
  const button = (label, make) =>
    element("button", { type: "button", class: "quiet", text: label, onclick: ({ target }) => copy(target, make()) });
  return [
    button("Copy answer", () => text),
    button("Copy as curl", () => curl(address("v1/chat/completions"), body, pictures)),
    button("Copy as Python", () => python(address("v1"), body, pictures)),
  ];
}

async function copy(button, text) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page that did not come over https has no clipboard
    const area = element("textarea", { class: "hidden" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = "Copied";
  say("Copied.");
  setTimeout(() => { button.textContent = label; }, 1500);
}
