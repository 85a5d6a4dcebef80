import { getEnvironment } from "wasi:cli/environment@0.2.0";

import { needInstance } from "../phase.js";

/** The plugin's `environment` in the gateway's configuration, as pairs. */
export function environment() {
  needInstance("the environment");
  return getEnvironment();
}
