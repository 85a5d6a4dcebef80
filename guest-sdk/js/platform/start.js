// The first module of every component: the parts of the platform that each plugin has.

import { install as installDate } from "./date.js";
import { install as installJson } from "./json.js";
import { install as installTimers } from "./loop.js";
import { install as installPromise } from "./promise.js";

installPromise();
installTimers();
installDate();
installJson();
globalThis.global ??= globalThis;
globalThis.self ??= globalThis;
