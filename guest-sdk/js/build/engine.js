// A component of a bundle and a JavaScript engine, whose memory is kept as it is once the bundle is loaded.

import { frames, located } from "../platform/lines.js";
import { NEEDS_INSTANCE } from "../platform/phase.js";
import { simplify } from "./component.js";
import { Mistake } from "./settings.js";
import { WORLD, withWorld } from "./world.js";

/**
 * Makes the component. Returns its bytes, or `needs`: what a module asks for when it is loaded that only an instance has,
 * and where.
 */
export async function componentize({ engine, project }, { code, imports, table }) {
  try {
    return { bytes: await ENGINES[engine]({ code, imports, project }) };
  } catch (error) {
    const text = error.message.replace(/^.*JavaScript module evaluation: /s, "").trim();
    const [place] = frames(text, table).filter((frame) => !frame.includes("(node_modules/@lockgate"));
    const needed = new RegExp(`${NEEDS_INSTANCE}: ([^\\n]*)`).exec(text)?.[1];
    if (needed !== undefined) return { needs: place === undefined ? needed : `${needed} ${place}` };
    throw new Mistake(`${project}: the plugin fails when its modules are loaded: ${located(text, table)}`);
  }
}

const ENGINES = {
  async quickjs({ code, imports }) {
    const { componentize } = await import("componentize-qjs");
    const made = await withWorld(imports, (witPath) => componentize({ witPath, world: WORLD, jsSource: code, sync: true }));
    return simplify(made.component);
  },

  async starlingmonkey({ code, imports, project }) {
    throw new Mistake("not yet");
  },
};
