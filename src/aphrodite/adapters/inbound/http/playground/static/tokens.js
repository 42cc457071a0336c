// Which part of an answer's text is which token's.

/**
 * Text and tokens arrive beside each other, but not in step: a character may take several tokens, text may be held back
 * until it is sure that no stop string begins, and some tokens have no text.
 */
export class TokenAligner {
  #text = "";
  #tokens = [];

  /** Pieces {text, tokens, isSpecial} that are sure by now. */
  push(text, tokens = []) {
    this.#text += text;
    this.#tokens.push(...tokens);
    return this.#drain(false);
  }

  /** The rest. */
  end() {
    const pieces = this.#drain(true);
    if (this.#text) pieces.push({ text: this.#text, tokens: [], isSpecial: false });
    this.#text = "";
    return pieces;
  }

  #drain(isLast) {
    const pieces = [];
    while (this.#tokens.length) {
      const { count, text } = character(this.#tokens, isLast);
      if (!count) break; // the character's other tokens are still to come
      const wanted = [text, text.trimStart()].find((form) => form && this.#text.startsWith(form));
      if (wanted === undefined && !isLast && text.startsWith(this.#text)) break; // its text is still to come
      const tokens = this.#tokens.splice(0, count);
      if (wanted === undefined) {
        pieces.push({ text: tokens[0].token, tokens, isSpecial: true });
      } else {
        this.#text = this.#text.slice(wanted.length);
        pieces.push({ text: wanted, tokens, isSpecial: false });
      }
    }
    return pieces;
  }
}

/** How many of the tokens make the first whole characters, and these; none while they are not whole. */
function character(tokens, isLast) {
  const bytes = [];
  for (let count = 1; count <= tokens.length; count++) {
    bytes.push(...(tokens[count - 1].bytes ?? new TextEncoder().encode(tokens[count - 1].token)));
    const data = new Uint8Array(bytes);
    try {
      return { count, text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data) };
    } catch {
      if (isBroken(data)) return { count, text: lossy(data) };
    }
  }
  return isLast ? { count: tokens.length, text: lossy(new Uint8Array(bytes)) } : { count: 0, text: "" };
}

function isBroken(data) { // rather than cut off
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(data, { stream: true });
    return false;
  } catch {
    return true;
  }
}

const lossy = (data) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(data);
