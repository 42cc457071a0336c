// A token's alternatives, beside it while it is pointed at or reached with the arrow keys.

import { element, find } from "./elements.js";
import { percent } from "./figures.js";

const tokensOf = new WeakMap(); // of each token's element
const tip = find("#alternatives");
const status = find("#status");
let current = null;

/** The element of a piece of text, as tokens.js makes them. */
export function tokenElement({ text, tokens, isSpecial }) {
  const made = element("span", { class: isSpecial ? "token special" : "token", text });
  tokensOf.set(made, tokens);
  const doubt = 1 - Math.exp(Math.min(...tokens.map(({ logprob }) => logprob)));
  if (doubt > 0.02) {
    made.dataset.doubt = "";
    made.style.setProperty("--doubt", doubt.toFixed(3));
  }
  return made;
}

/** Let the tokens of an answer be looked at. */
export function watch(answer) {
  answer.tabIndex = 0;
  answer.addEventListener("pointerover", ({ target }) => tokensOf.has(target) && show(target));
  answer.addEventListener("pointerleave", hide);
  answer.addEventListener("blur", hide);
  answer.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    const all = [...answer.querySelectorAll(".token")];
    if (!all.length) return;
    event.preventDefault();
    const next = all.indexOf(current) + step;
    show(all[Math.max(0, Math.min(all.length - 1, next))]);
    status.textContent = spoken(tokensOf.get(current));
  });
}

function show(token) {
  hide();
  current = token;
  token.classList.add("current");
  tip.replaceChildren(...tokensOf.get(token).map(table));
  tip.hidden = false;
  const place = token.getClientRects()[0] ?? token.getBoundingClientRect();
  const { width, height } = tip.getBoundingClientRect();
  const below = place.bottom + 6;
  tip.style.left = `${Math.max(6, Math.min(place.left, innerWidth - width - 6))}px`;
  tip.style.top = `${below + height < innerHeight ? below : Math.max(6, place.top - height - 6)}px`;
}

export function hide() {
  current?.classList.remove("current");
  current = null;
  tip.hidden = true;
}

function table(token) {
  const candidates = candidatesOf(token);
  const rows = candidates.map(({ token: name, logprob, isChosen }) => {
    const bar = element("i");
    bar.style.setProperty("--share", Math.exp(logprob).toFixed(4));
    return element("tr", isChosen ? { class: "chosen" } : {},
      element("th", { scope: "row", text: shown(name) }),
      element("td", { class: "bar" }, bar),
      element("td", { text: percent(logprob) }));
  });
  return element("table", {}, ...rows);
}

/** The likeliest, and the token itself where it is none of them. */
function candidatesOf({ token, logprob, bytes, top_logprobs: top }) {
  const same = (other) => other.token === token && String(other.bytes) === String(bytes);
  const all = top.some(same) ? top : [...top, { token, logprob, bytes }];
  return all.map((candidate) => ({ ...candidate, isChosen: same(candidate) }));
}

const shown = (name) => name.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "␣");

function spoken(tokens) {
  return tokens.map((token) => {
    const others = candidatesOf(token).filter(({ isChosen }) => !isChosen);
    const said = ({ token: name, logprob }) => `${name.trim() || "blank"}, ${percent(logprob)}`;
    return `${said(token)}${others.length ? `; else ${others.map(said).join("; ")}` : ""}`;
  }).join(". ");
}
