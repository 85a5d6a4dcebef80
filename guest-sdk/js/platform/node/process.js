import { process } from "../process.js";

export const { argv, cwd, emitWarning, env, exit, hrtime, nextTick, pid, platform, release, stderr, stdout, title, uptime, version, versions } = process;
export default process;
