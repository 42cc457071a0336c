// The Vercel AI SDK, with both of the providers that people take; PROVIDER picks one.

import assert from "node:assert";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, streamText, tool } from "ai";
import { z } from "zod";
import { isAnswer, key, picture, question, run, url } from "./shared.mjs";

const options = { name: "aphrodite", apiKey: key, baseURL: `${url}/v1`, supportsStructuredOutputs: true };
const provider = process.env.PROVIDER === "openai" ? createOpenAI(options) : createOpenAICompatible(options);
const model = provider("demo");
const image = { type: "file", data: Buffer.from(picture, "base64"), mediaType: "image/png" };
const messages = [{ role: "user", content: [{ type: "text", text: question }, image] }];
const schema = z.object({ city: z.enum(["Paris", "Rome"]) });
const common = { model, maxRetries: 0 };

await run({
  text: async () => assert((await generateText({ ...common, prompt: "Hello" })).text.trim()),
  image: async () => isAnswer((await generateText({ ...common, messages })).text),
  stream: async () => {
    let text = "";
    for await (const piece of streamText({ ...common, messages }).textStream) text += piece;
    isAnswer(text);
  },
  structured: async () => {
    const answer = await generateText({ ...common, prompt: "Hello", output: Output.object({ schema }) });
    assert(["Paris", "Rome"].includes(answer.output.city));
  },
  tools: async () => {
    const tools = { weather: tool({ description: "The weather.", inputSchema: schema }) };
    const answer = await generateText({ ...common, prompt: "Hello", tools, toolChoice: "required" });
    assert.strictEqual(answer.toolCalls[0].toolName, "weather");
  },
});
