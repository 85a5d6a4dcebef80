import { steadyTime, wallTime } from "#host/clock";

// The origin is this instance's first question, never the build's.
let began;

function origin() {
  began ??= { steady: steadyTime(), wall: wallTime() };
  return began;
}

export const performance = {
  now() {
    const { steady } = origin();
    return steadyTime() - steady;
  },
  get timeOrigin() {
    return origin().wall;
  },
  toJSON() {
    return { timeOrigin: this.timeOrigin };
  },
};
