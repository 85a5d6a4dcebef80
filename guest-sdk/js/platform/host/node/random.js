import { randomBytes as bytes } from "node:crypto";

export const randomBytes = (length) => new Uint8Array(bytes(length));
