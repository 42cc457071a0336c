// What is asked of every client, and how one of the things that it can do is tried: node CLIENT.mjs FEATURE

import assert from "node:assert";

export const { SERVER_URL: url, SERVER_KEY: key, PICTURE: picture } = process.env;
export const pictureUrl = `data:image/png;base64,${picture}`;
export const question = "What is the content of this image?";
export const isAnswer = (text) => assert.strictEqual(text.trim(), "Two red triangles.");
export const weather = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
  required: ["city"],
  additionalProperties: false,
};

export async function run(features) {
  await features[process.argv[2]]();
}
