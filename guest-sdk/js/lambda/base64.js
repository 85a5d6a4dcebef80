// Bytes as base64, in pieces: a call takes no more than some ten thousand arguments.

const PIECE = 0x2000;

export function encodeBase64(bytes) {
  let binary = "";
  for (let start = 0; start < bytes.length; start += PIECE) binary += String.fromCharCode(...bytes.subarray(start, start + PIECE));
  return btoa(binary);
}

/** Fails with `undefined` for a text that is no base64. */
export function decodeBase64(text) {
  let binary;
  try {
    binary = atob(text);
  } catch {
    return undefined;
  }
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}
