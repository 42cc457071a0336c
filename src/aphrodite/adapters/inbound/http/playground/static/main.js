// The page: what is asked, by whom it is answered, and what is kept.

import { actionsFor } from "./actions.js";
import { hide } from "./alternatives.js";
import { AnswerView, pastAnswer, questionElement } from "./answer.js";
import { attach, attachedPictures, maxImages, setUpAttachments } from "./attachments.js";
import { element, find, say } from "./elements.js";
import * as history from "./history.js";
import { setUpPanels } from "./panels.js";
import { listPast } from "./past.js";
import { requestBody } from "./request.js";
import { answer, apiKey, modelNames, setApiKey } from "./server.js";

const [conversation, question, model, sampling] = ["#conversation", "#question", "#model", "#sampling"].map(find);

let turns = []; // {role, text, pictures, figures}
let id = null; // of the conversation, once it is kept
let running = null; // the AbortController of an answer

// Asking

async function ask() {
  const text = question.value.trim();
  if (running || !text) return;
  for (const failed of document.querySelectorAll(".failed")) failed.remove();
  const asked = { role: "user", text, pictures: attachedPictures() };
  if (asksOfTooMany(asked)) startOver("A new conversation, as there may be no more pictures in the last one.");
  let body;
  try {
    body = requestBody(model.value, [...turns, asked], settings());
  } catch (error) {
    return complain(error);
  }
  question.value = "";
  attach([]);
  await run(asked, body);
}

/** Whether it is what was said before that leaves no room for the pictures. */
function asksOfTooMany({ pictures }) {
  return pictures.length > 0 && turns.length > 0 && picturesOf(turns).length + pictures.length > maxImages;
}

const picturesOf = (some) => some.flatMap(({ pictures }) => pictures ?? []);

async function run(asked, body) {
  const view = new AnswerView(), shown = questionElement(asked), before = turns;
  let failure = null;
  show(shown);
  show(view.element);
  setRunning(new AbortController());
  try {
    for await (const chunk of answer(body, running.signal)) {
      const isAtEnd = conversation.scrollTop + conversation.clientHeight > conversation.scrollHeight - 60;
      view.take(chunk);
      if (isAtEnd) scrollDown();
    }
  } catch (error) {
    if (error.name === "AbortError") view.finishReason = "stopped";
    else failure = error;
  }
  setRunning(null);
  if (turns !== before) return; // another conversation was begun meanwhile
  const all = [...before, asked];
  const rows = view.end(actionsFor(body, picturesOf(all), view.text), failure);
  scrollDown();
  if (failure && !view.text) return takeBack(asked, failure, [shown, view.element]);
  turns = [...all, { role: "assistant", text: view.text, figures: rows }];
  say(failure ? failure.message : `Answer: ${view.text}`);
  await keep();
}

function setRunning(controller) {
  running = controller;
  find("#send").hidden = running !== null;
  find("#stop").hidden = running === null;
  if (running) say("The answer is on its way.");
}

/** What was not answered can be asked again. */
function takeBack(asked, failure, shown) {
  for (const one of shown) one.classList.add("failed");
  question.value ||= asked.text;
  if (!attachedPictures().length) attach(asked.pictures);
  say(failure.message);
  if (failure.status === 401) askForKey();
}

function settings() {
  const given = Object.fromEntries(new FormData(sampling));
  return { ...given, alternatives: "alternatives" in given };
}

// Showing

const scrollDown = () => { conversation.scrollTop = conversation.scrollHeight; };

function show(shown) {
  find("#empty").hidden = true;
  conversation.append(shown);
  scrollDown();
}

function complain(error) {
  say(error.message);
  show(element("p", { class: "turn error failed", role: "alert", text: error.message }));
}

function startOver(reason) {
  running?.abort();
  turns = [];
  id = null;
  conversation.replaceChildren();
  find("#empty").hidden = false;
  hide();
  say(reason);
  list();
}

function open(kept) {
  startOver(`Opened: ${kept.title}`);
  ({ turns, id } = kept);
  turns.forEach((turn, index) => {
    show(turn.role === "user" ? questionElement(turn) : pastAnswer(turn, pastActions(turns.slice(0, index), turn.text)));
  });
  list();
}

function pastActions(before, text) {
  try {
    return actionsFor(requestBody(model.value, before, settings()), picturesOf(before), text);
  } catch { // a schema that is being written
    return [];
  }
}

// Keeping

const list = () => listPast(id, open, (deleted) => {
  if (deleted === null || deleted === id) startOver("Deleted.");
  else list();
});

async function keep() {
  id ??= Date.now();
  try {
    await history.keep({ id, title: turns[0].text.slice(0, 80), turns });
  } catch {
    say("This browser keeps no history, or has no room left for it.");
  }
  await list();
}

// The server

async function connect() {
  try {
    const names = await modelNames();
    model.replaceChildren(...names.map((name) => element("option", { text: name })));
    model.disabled = false;
  } catch (error) {
    if (error.status === 401) askForKey();
    else complain(error);
  }
}

function askForKey() {
  find("#key").value = apiKey();
  if (!find("#key-dialog").open) find("#key-dialog").showModal();
}

function useKey() {
  setApiKey(find("#key").value.trim());
  find("#key-dialog").close();
  connect();
}

// What the user does

const onSubmit = (form, act) => find(form).addEventListener("submit", (event) => { event.preventDefault(); act(); });

onSubmit("#composer", ask);
onSubmit("#key-form", useKey);
onSubmit("#sampling", () => {});
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
});
find("#stop").addEventListener("click", () => running?.abort());
find("#new").addEventListener("click", () => {
  startOver("A new conversation.");
  question.focus();
});
find("#show-key").addEventListener("click", askForKey);
find("#key-cancel").addEventListener("click", () => find("#key-dialog").close());
for (const name of ["change", "reset"]) {
  sampling.addEventListener(name, () => setTimeout(() => { // a form is reset after this event
    find("#schema-field").hidden = sampling.elements.format.value !== "json_schema";
  }));
}
conversation.addEventListener("scroll", hide);
document.addEventListener("keydown", ({ key }) => { if (key === "Escape") hide(); });

setUpPanels();
setUpAttachments(complain);
list();
connect();
question.focus();
