import assert from "node:assert";
import OpenAI from "openai";
import { isAnswer, key, pictureUrl, question, run, url, weather } from "./shared.mjs";

const client = new OpenAI({ apiKey: key, baseURL: `${url}/v1`, maxRetries: 0 });
const hello = [{ role: "user", content: "Hello" }];
const seen = [
  { role: "user", content: [{ type: "text", text: question }, { type: "image_url", image_url: { url: pictureUrl } }] },
];
const ask = (messages, more = {}) => client.chat.completions.create({ model: "demo", messages, ...more });

await run({
  text: async () => assert((await ask(hello)).choices[0].message.content.trim()),
  image: async () => isAnswer((await ask(seen)).choices[0].message.content),
  stream: async () => {
    let text = "";
    for await (const chunk of await ask(seen, { stream: true })) text += chunk.choices[0]?.delta?.content ?? "";
    isAnswer(text);
  },
  structured: async () => {
    const format = { type: "json_schema", json_schema: { name: "weather", schema: weather, strict: true } };
    const answer = await ask(hello, { response_format: format });
    assert(["Paris", "Rome"].includes(JSON.parse(answer.choices[0].message.content).city));
  },
  tools: async () => {
    const tools = [{ type: "function", function: { name: "weather", parameters: weather } }];
    const answer = await ask(hello, { tools, tool_choice: "required", parallel_tool_calls: false });
    assert.strictEqual(answer.choices[0].message.tool_calls[0].function.name, "weather");
  },
});
