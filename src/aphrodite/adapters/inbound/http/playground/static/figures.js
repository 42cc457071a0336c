// How fast an answer came, and what it took.

/** `times`: milliseconds of the start, the first text and the end; `usage`: the API's, or null. */
export function figures(times, usage, finishReason) {
  const rows = [];
  const numTokens = usage?.completion_tokens;
  if (numTokens !== undefined) rows.push(["Tokens", String(numTokens)]);
  if (times.first !== null) {
    const seconds = (times.end - times.first) / 1000;
    if (numTokens > 1 && seconds > 0) rows.push(["Tokens/s", ((numTokens - 1) / seconds).toFixed(1)]);
    rows.push(["First token", duration(times.first - times.start)]);
  }
  rows.push(["In all", duration(times.end - times.start)]);
  if (usage) {
    const { cached_tokens: cached = 0, image_tokens: image = 0 } = usage.prompt_tokens_details ?? {};
    rows.push(["Prompt tokens", String(usage.prompt_tokens)]);
    if (image) rows.push(["Image tokens", String(image)]);
    if (cached) rows.push(["Cached", String(cached)]);
  }
  if (finishReason) rows.push(["End", finishReason]);
  return rows;
}

const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`);

/** A probability from its logarithm, for people. */
export function percent(logprob) {
  const share = Math.exp(logprob) * 100;
  if (share >= 99.95) return "100%";
  return share >= 0.05 ? `${share.toFixed(1)}%` : "<0.1%";
}
