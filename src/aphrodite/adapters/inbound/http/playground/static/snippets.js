// The same question for the terminal and for Python. A key is never part of it, and pictures are read from their files.

const isData = (value) => typeof value === "string" && value.startsWith("data:");

/** For a POSIX shell: a here-document whose pictures are put in by base64. */
export function curl(url, body, pictures) {
  const text = JSON.stringify(unstreamed(body), null, 2)
    .replace(/[\\$`]/g, "\\$&")
    .replace(/"(data:[^"]*)"/g, (whole, data) => {
      const picture = pictures.find(({ url: own }) => own === data);
      if (!picture) return whole;
      const mime = data.slice(0, data.indexOf(","));
      return `"${mime},$(base64 < ${quoted(picture.name)} | tr -d '\\n')"`;
    });
  return [
    `curl ${quoted(url)} -H "Content-Type: application/json" \\`,
    `  -H "Authorization: Bearer $OPENAI_API_KEY" -d @- <<EOF`,
    text,
    "EOF",
    "",
  ].join("\n");
}

/** With the openai package. */
export function python(baseUrl, body, pictures) {
  const { model, messages, ...rest } = unstreamed(body);
  const lines = ["import os", "", "from openai import OpenAI", ""];
  const used = pictures.filter(({ url }) => JSON.stringify(messages).includes(url));
  if (used.length) {
    lines.unshift("import base64");
    lines.push(
      "", "def picture(path, mime):", "    with open(path, \"rb\") as file:",
      "        data = base64.b64encode(file.read()).decode()", "    return f\"data:{mime};base64,{data}\"", "",
    );
  }
  const known = new Set([
    "temperature", "top_p", "max_tokens", "seed", "presence_penalty", "frequency_penalty", "stop", "logprobs",
    "top_logprobs", "response_format",
  ]);
  const own = Object.fromEntries(Object.entries(rest).filter(([name]) => !known.has(name)));
  lines.push(
    "", `client = OpenAI(base_url=${literal(baseUrl)}, api_key=os.environ.get("OPENAI_API_KEY", "EMPTY"))`,
    "completion = client.chat.completions.create(", `    model=${literal(model)},`,
    `    messages=${literal(messages, used, 1)},`,
  );
  for (const [name, value] of Object.entries(rest)) {
    if (known.has(name)) lines.push(`    ${name}=${literal(value, used, 1)},`);
  }
  if (Object.keys(own).length) lines.push(`    extra_body=${literal(own, used, 1)},`);
  lines.push(")", "print(completion.choices[0].message.content)", "");
  return lines.join("\n");
}

function unstreamed(body) {
  const { stream, stream_options, ...rest } = body;
  return rest;
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A value as Python writes it. JSON's strings are Python's, but for pairs of surrogates, which JSON leaves as they are. */
function literal(value, pictures = [], depth = 0) {
  const inner = "    ".repeat(depth + 1), outer = "    ".repeat(depth);
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (isData(value)) {
    const picture = pictures.find(({ url }) => url === value);
    if (picture) return `picture(${JSON.stringify(picture.name)}, ${JSON.stringify(value.slice(5, value.indexOf(";")))})`;
  }
  if (Array.isArray(value)) {
    if (!value.length) return "[]";
    return `[\n${value.map((item) => `${inner}${literal(item, pictures, depth + 1)},\n`).join("")}${outer}]`;
  }
  if (typeof value === "object") {
    const entries = Object.entries(value);
    if (!entries.length) return "{}";
    const shown = entries.map(([key, item]) => `${inner}${JSON.stringify(key)}: ${literal(item, pictures, depth + 1)},\n`);
    return `{\n${shown.join("")}${outer}}`;
  }
  return JSON.stringify(value);
}
