import { ask } from "./gateway.js";

export const current = ask("context", "current");
export const isDatagram = ask("context", "isDatagram");
export const principal = ask("context", "principal");
export const authorizer = ask("context", "authorizer");
export const renew = ask("context", "renew");
export const timeLeft = ask("context", "timeLeft");
export const variables = ask("context", "variables");
