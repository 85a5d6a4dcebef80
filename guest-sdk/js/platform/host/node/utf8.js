export const utf8 = (text) => new TextEncoder().encode(text);
