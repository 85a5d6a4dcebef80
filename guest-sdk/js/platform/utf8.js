/** The UTF-8 of a text; half a surrogate pair becomes U+FFFD. The log needs it, and a library's would be as large as the rest. */
export function utf8(text) {
  const whole = text.toWellFormed();
  const bytes = new Uint8Array(whole.length * 3);
  let at = 0;
  for (let place = 0; place < whole.length; place += 1) {
    const point = whole.codePointAt(place);
    if (point < 0x80) {
      bytes[at] = point;
      at += 1;
      continue;
    }
    const rest = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    bytes[at] = [0, 0xc0, 0xe0, 0xf0][rest] | (point >> (6 * rest));
    for (let left = rest - 1; left >= 0; left -= 1) bytes[at + rest - left] = 0x80 | ((point >> (6 * left)) & 0x3f);
    at += rest + 1;
    if (rest === 3) place += 1;
  }
  return bytes.subarray(0, at);
}
