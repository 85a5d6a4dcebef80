// The place of an error, for the log.
export function fail(why) {
  throw new Error(why);
}
