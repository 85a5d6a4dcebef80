// These modules stand in for the gateway's clock, random numbers and log where Node runs the tests of the platform.

export const wallTime = () => Date.now();
export const steadyTime = () => performance.now();

export function sleep(ms) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
