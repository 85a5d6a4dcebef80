import { ask } from "./gateway.js";

export const send = ask("connections", "send");
export const sendDatagram = ask("connections", "sendDatagram");
export const close = ask("connections", "close");
export const info = ask("connections", "info");
export const attribute = ask("connections", "attribute");
export const attributes = ask("connections", "attributes");
export const setAttribute = ask("connections", "setAttribute");
