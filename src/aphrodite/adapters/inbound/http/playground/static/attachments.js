// Pictures for the next question: chosen, dropped, pasted or drawn.

import { element, find, say } from "./elements.js";
import { drawExample, picturesIn, readPicture } from "./pictures.js";

/** How many pictures a conversation may hold; 0 for a model that reads text alone. */
export const maxImages = Number(document.documentElement.dataset.maxImages);

let attached = []; // {name, url}

export const attachedPictures = () => attached;

export function attach(pictures) {
  attached = pictures;
  find("#attached").replaceChildren(...pictures.map((picture) => element("li", {},
    element("img", { src: picture.url, alt: picture.name }),
    element("button", {
      type: "button", text: "✕", "aria-label": `Remove ${picture.name}`, onclick: () => remove(picture),
    }))));
}

function remove(picture) {
  attach(attached.filter((one) => one !== picture));
  find("#question").focus();
}

function add(pictures) {
  attach([...attached, ...pictures].slice(-maxImages)); // the newest, where there are too many
  say(`${pictures.map(({ name }) => name).join(", ")} attached.`);
  find("#question").focus();
}

/** `complain` is told what cannot be attached. */
export function setUpAttachments(complain) {
  for (const needy of document.querySelectorAll(".needs-pictures")) needy.hidden = !maxImages;
  if (!maxImages) {
    find(".lead").textContent = "Ask it something.";
    return;
  }
  const take = (files) => Promise.all(files.map(readPicture)).then((read) => read.length && add(read), complain);

  for (const button of document.querySelectorAll(".choose")) {
    button.addEventListener("click", () => find("#file").click());
  }
  find("#file").addEventListener("change", async ({ target }) => {
    await take([...target.files]);
    target.value = ""; // so that the same file can be chosen again
  });
  find("#draw").addEventListener("click", () => {
    add([drawExample()]);
    find("#question").value ||= "What is the content of this image?";
  });
  document.addEventListener("paste", (event) => {
    const files = picturesIn(event.clipboardData);
    if (files.length) event.preventDefault();
    take(files);
  });
  const veil = find("#dropping");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    veil.hidden = false;
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => { veil.hidden ||= relatedTarget === null; });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    veil.hidden = true;
    take([...event.dataTransfer.files]);
  });
}
