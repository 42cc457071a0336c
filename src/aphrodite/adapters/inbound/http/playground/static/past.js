// The list of past conversations.

import { element, find } from "./elements.js";
import * as history from "./history.js";

/** Show what is kept; `open` is called with a conversation, `deleted` with the id of one, or with null for all. */
export async function listPast(currentId, open, deleted) {
  const kept = await history.all().catch(() => []); // a browser that keeps nothing
  const remove = async (id) => {
    await (id === null ? history.forgetAll() : history.forget(id));
    deleted(id);
  };
  find("#forget").hidden = !kept.length;
  find("#forget").onclick = () => remove(null);
  find("#past").replaceChildren(...kept.map((one) => {
    const opener = element("button", { type: "button", class: "open", text: one.title, onclick: () => open(one) });
    if (one.id === currentId) opener.setAttribute("aria-current", "true");
    return element("li", {}, opener, element("button", {
      type: "button", class: "quiet", text: "✕", "aria-label": `Delete: ${one.title}`, onclick: () => remove(one.id),
    }));
  }));
}
