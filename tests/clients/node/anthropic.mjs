import assert from "node:assert";
import Anthropic from "@anthropic-ai/sdk";
import { isAnswer, key, picture, question, run, url, weather } from "./shared.mjs";

const client = new Anthropic({ apiKey: key, baseURL: url, maxRetries: 0 });
const hello = [{ role: "user", content: "Hello" }];
const source = { type: "base64", media_type: "image/png", data: picture };
const seen = [{ role: "user", content: [{ type: "image", source }, { type: "text", text: question }] }];
const body = (messages, more = {}) => ({ model: "demo", max_tokens: 100, messages, ...more });

await run({
  text: async () => assert((await client.messages.create(body(hello))).content[0].text.trim()),
  image: async () => isAnswer((await client.messages.create(body(seen))).content[0].text),
  stream: async () => isAnswer(await client.messages.stream(body(seen)).finalText()),
  structured: async () => {
    const answer = await client.messages.create(body(hello, { output_config: { format: { type: "json_schema", schema: weather } } }));
    assert(["Paris", "Rome"].includes(JSON.parse(answer.content[0].text).city));
  },
  tools: async () => {
    const tools = [{ name: "weather", input_schema: weather }];
    const answer = await client.messages.create(body(hello, { tools, tool_choice: { type: "any", disable_parallel_tool_use: true } }));
    assert.strictEqual(answer.content.find((block) => block.type === "tool_use").name, "weather");
  },
});
