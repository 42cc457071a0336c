// What is sent: a conversation and the settings, as the body of POST v1/chat/completions.

const NUMBERS = [
  "temperature", "top_p", "top_k", "min_p", "max_tokens", "seed", "repetition_penalty", "presence_penalty",
  "frequency_penalty",
];
const NUM_ALTERNATIVES = 5;

/** `turns`: {role, text, pictures: [{name, url}]}; `settings`: strings by the names of the form's fields. */
export function requestBody(model, turns, settings) {
  const body = { model, messages: [], stream: true, stream_options: { include_usage: true } };
  if (settings.system?.trim()) body.messages.push({ role: "system", content: settings.system });
  for (const { role, text, pictures } of turns) body.messages.push({ role, content: content(text, pictures) });
  for (const name of NUMBERS) {
    if (settings[name]) body[name] = Number(settings[name]);
  }
  if (settings.stop) body.stop = [settings.stop];
  if (settings.alternatives) Object.assign(body, { logprobs: true, top_logprobs: NUM_ALTERNATIVES });
  if (settings.format === "json_object") body.response_format = { type: "json_object" };
  if (settings.format === "json_schema") body.response_format = schemaFormat(settings.schema);
  return body;
}

function content(text, pictures) {
  if (!pictures?.length) return text;
  return [...pictures.map(({ url }) => ({ type: "image_url", image_url: { url } })), { type: "text", text }];
}

function schemaFormat(text) {
  let schema;
  try {
    schema = JSON.parse(text);
  } catch (error) {
    throw new Error(`The JSON schema is not valid JSON: ${error.message}`);
  }
  return { type: "json_schema", json_schema: { name: "answer", schema, strict: true } };
}
