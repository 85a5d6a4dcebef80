export function json(value) {
  const text = JSON.stringify(value);
  if (text === undefined) throw new TypeError(`json: ${typeof value} has no JSON`);
  return text;
}

export function parseJson(message) {
  if (typeof message !== "string") throw new TypeError("parseJson: the message is binary; a client sends JSON as text");
  return JSON.parse(message);
}
