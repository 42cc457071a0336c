// One answer: its text as it comes, its figures, and what may be done with it.

import { tokenElement, watch } from "./alternatives.js";
import { element } from "./elements.js";
import { figures } from "./figures.js";
import { TokenAligner } from "./tokens.js";

export class AnswerView {
  text = "";
  finishReason = null;
  usage = null;
  #aligner = new TokenAligner();
  #hasTokens = false;
  #times = { start: performance.now(), first: null, end: null };
  #said = element("div", { class: "said", role: "group", "aria-label": "Answer" });

  constructor() {
    this.element = element("article", { class: "turn answer running" }, this.#said);
  }

  /** One chunk of the API's stream. */
  take({ choices, usage }) {
    this.usage = usage ?? this.usage;
    for (const { delta, logprobs, finish_reason: reason } of choices) {
      const text = delta.content ?? "";
      if (text && this.#times.first === null) this.#times.first = performance.now();
      this.text += text;
      this.finishReason = reason ?? this.finishReason;
      this.#hasTokens ||= Boolean(logprobs);
      this.#show(this.#aligner.push(text, logprobs?.content));
      if (!this.#hasTokens) this.#show(this.#aligner.end());
    }
  }

  /** No more comes; `actions` are buttons. */
  end(actions, error) {
    this.#times.end = performance.now();
    this.#show(this.#aligner.end());
    this.element.classList.remove("running");
    if (this.#said.querySelector(".token")) {
      this.#said.setAttribute("aria-description", "Arrow keys go from token to token, with its alternatives");
      watch(this.#said);
    }
    const rows = figures(this.#times, this.usage, this.finishReason);
    if (!error) this.element.append(figuresElement(rows));
    if (error) this.element.append(element("p", { class: "error", role: "alert", text: error.message }));
    if (!this.text && error) this.#said.remove();
    this.element.append(element("p", { class: "actions" }, ...actions));
    return rows;
  }

  #show(pieces) {
    for (const piece of pieces) this.#said.append(piece.tokens.length ? tokenElement(piece) : piece.text);
  }
}

/** An answer of the past. */
export function pastAnswer({ text, figures: rows = [] }, actions) {
  return element("article", { class: "turn answer" },
    element("div", { class: "said", role: "group", "aria-label": "Answer", text }),
    figuresElement(rows),
    element("p", { class: "actions" }, ...actions));
}

export function questionElement({ text, pictures }) {
  const images = pictures.map(({ name, url }) => element("img", { src: url, alt: name }));
  return element("article", { class: "turn user", "aria-label": "Question" },
    ...(images.length ? [element("div", { class: "pictures" }, ...images)] : []),
    element("div", { class: "said", text }));
}

function figuresElement(rows) {
  return element("dl", { class: "figures" }, ...rows.map(([name, value]) =>
    element("div", {}, element("dt", { text: name }), element("dd", { text: value }))));
}
