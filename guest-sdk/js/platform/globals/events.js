export { CustomEvent, Event, EventTarget } from "../events.js";
