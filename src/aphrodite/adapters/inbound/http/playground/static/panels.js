// History and settings: beside the conversation where there is room, above it on a phone.

import { find } from "./elements.js";

const NAMES = ["history", "settings"];
const isNarrow = () => matchMedia("(max-width: 60rem)").matches;

export function setUpPanels() {
  for (const name of NAMES) find(`#show-${name}`).addEventListener("click", () => toggle(name));
  find("#conversation").addEventListener("click", closeAbove);
  document.addEventListener("keydown", ({ key }) => { if (key === "Escape") closeAbove(); });
  addEventListener("resize", measureHeader);
  measureHeader();
  if (matchMedia("(min-width: 75rem)").matches) toggle("settings");
}

function toggle(name) {
  const opens = find(`#${name}`).hidden;
  if (opens) closeAbove();
  set(name, opens);
}

function closeAbove() {
  if (isNarrow()) for (const name of NAMES) set(name, false);
}

function set(name, isOpen) {
  find(`#${name}`).hidden = !isOpen;
  find(`#show-${name}`).setAttribute("aria-expanded", String(isOpen));
}

function measureHeader() { // what lies above the conversation begins below it
  const { height } = find("header").getBoundingClientRect();
  document.documentElement.style.setProperty("--header", `${height}px`);
}
