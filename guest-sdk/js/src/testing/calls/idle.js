/** Resolves when the jobs that are queued have run. Node does not say whether timers are left. */
export function idle() {
  return new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
}
