import { ask } from "./gateway.js";

export const join = ask("groups", "join");
export const leave = ask("groups", "leave");
export const publish = ask("groups", "publish");
export const members = ask("groups", "members");
export const count = ask("groups", "count");
