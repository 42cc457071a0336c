// Talking to the server: which models there are, and an answer as it is made.

const KEY = "aphrodite.key";

export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const apiKey = () => sessionStorage.getItem(KEY) ?? "";

export function setApiKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/** The API's address, whatever a proxy puts in front of it. */
export const address = (path) => new URL(path, document.baseURI).href;

export async function modelNames() {
  const response = await call("v1/models", {});
  return (await response.json()).data.map(({ id }) => id);
}

/** The chunks of a streamed answer. */
export async function* answer(body, signal) {
  const headers = { "Content-Type": "application/json" };
  const response = await call("v1/chat/completions", { method: "POST", headers, body: JSON.stringify(body), signal });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(chunk.error.message);
    yield chunk;
  }
  throw new ServerError("The answer broke off.");
}

async function call(path, options) {
  const key = apiKey();
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(address(path), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server cannot be reached.");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw new ServerError(said?.error?.message ?? `The server answers with status ${response.status}.`, response.status);
}

/** The data of each server-sent event in a stream of bytes, however it is cut into pieces. */
export async function* events(stream) {
  let text = "";
  for await (const piece of pieces(stream.pipeThrough(new TextDecoderStream()))) {
    const whole = (text + piece).split(/\r?\n\r?\n/);
    text = whole.pop();
    for (const event of whole) {
      const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      if (data.length) yield data.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
    }
  }
}

async function* pieces(stream) { // not every browser can iterate over a stream
  const reader = stream.getReader();
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}
