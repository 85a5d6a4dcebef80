// The patterns of a policy: `*` stands for any run of characters, colons and slashes included, and `?` for one. Their like in Go is lambda/patterns.go.

/** The partitions of AWS with their regions, for patterns that do not say where the region ends. One that only another region could fit is refused. */
export const PARTITIONS = new Map([
  ["aws", [
    "af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2", "ap-southeast-1",
    "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7", "ca-central-1", "ca-west-1",
    "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3", "il-central-1",
    "me-central-1", "me-south-1", "me-west-1", "mx-central-1", "sa-east-1", "sa-west-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2",
  ]],
  ["aws-cn", ["cn-north-1", "cn-northwest-1"]],
  ["aws-eusc", ["eusc-de-east-1"]],
  ["aws-iso", ["us-iso-east-1", "us-iso-west-1"]],
  ["aws-iso-b", ["us-isob-east-1", "us-isob-west-1"]],
  ["aws-iso-e", ["eu-isoe-west-1"]],
  ["aws-iso-f", ["us-isof-east-1", "us-isof-south-1"]],
  ["aws-us-gov", ["us-gov-east-1", "us-gov-west-1"]],
]);

/** In a text for `glob`, any digit, and a character that only a wildcard fits. */
const [DIGIT, UNKNOWN] = ["\0", "\x01"];

/** A piece of texts: a run of these characters, of any length. */
const run = (characters) => ({ characters });

const FIELD = run(/[^:]/);
const SEGMENT = run(/[^/]/);
const NAME = run(/[a-z0-9-]/);
const ACCOUNT = run(/[0-9]/);

/** Whether a pattern of actions means that of a handshake. `unclear` makes the error of a pattern that no action fits. */
export function meansAction(pattern, unclear) {
  if (glob(pattern.toLowerCase(), "execute-api:invoke")) return true;
  if (!begins(pattern, [FIELD, ":"])) throw unclear(`${JSON.stringify(pattern)} is no action; write service and action, as in "execute-api:Invoke"`);
  return false;
}

/**
 * Whether a pattern of ARNs means the handshakes of a stage. A gateway has no partition, no region and no account, and policies that were
 * written for AWS name theirs: it does if IAM's match is true for some region and account, in the partition that it names. A pattern that leaves
 * them out may have a text that fits them or else what follows; it is refused where that decides. In NotResource (`isOpposite`) what is meant is
 * left out, so there it has to be true for all regions and accounts.
 */
export function meansResource(pattern, arn, isOpposite, unclear) {
  const refused = (reason) => unclear(`${JSON.stringify(pattern)} ${reason}; write ARNs whole, as in "arn:aws:execute-api:*:*:API/STAGE/*", or "*"`);
  const [scheme, partition, service, ...rest] = pattern.split(":");
  const start = ["arn:aws", NAME, ":execute-api:"];
  const resource = arn.slice(arn.lastIndexOf(":") + 1);

  // With all its colons, no wildcard can stand for one.
  if (rest.length >= 3) {
    const isPartition = glob(partition, "aws") || fits(partition, ["aws-", NAME]);
    const isArn = glob(scheme, "arn") && isPartition && service !== "" && !`${rest[0]}${rest[1]}`.includes("/");
    if (!isArn) throw refused("is no ARN");
    if (!glob(service, "execute-api")) return false;
    const path = rest.slice(2).join(":");
    if (!begins(path, [SEGMENT, "/", SEGMENT, "/"])) throw refused("ends before the route of an API's stage");
    return glob(path, resource);
  }

  if (pattern === "*" || (!isOpposite && glob(pattern, arn))) return true;
  if (!begins(pattern, [...start, NAME, ":", ACCOUNT, ":", SEGMENT, "/", SEGMENT, "/"])) {
    const isOther = begins(pattern, ["arn:aws", NAME, ":", FIELD, ":", FIELD, ":", FIELD, ":"]) && !begins(pattern, [...start, FIELD, ":", FIELD, ":"]);
    if (!isOther) throw refused("is no whole ARN");
  }
  if (!fits(pattern, [...start, NAME, ":", ACCOUNT, `:${resource}`])) return false;
  const account = (isOpposite ? UNKNOWN : DIGIT).repeat(12);
  // A wildcard may stand for the partition or for the colons after it: then it is `aws`.
  const its = PARTITIONS.has(partition) ? partition : "aws";
  const isMeantIn = (region) => glob(pattern, `arn:${its}:execute-api:${region}:${account}:${resource}`);
  const regions = PARTITIONS.get(its);
  if (isOpposite ? regions.every(isMeantIn) : regions.some(isMeantIn)) return true;
  throw refused("means this stage or not by what stands for partition, region and account");
}

/** Whether a pattern fits a text. In linear time for one star, and never worse than the product of both lengths. */
function glob(pattern, text) {
  let [at, star, mark] = [0, -1, 0];
  for (let place = 0; place < text.length; ) {
    if (pattern[at] === "*") {
      star = at;
      mark = place;
      at += 1;
    } else if (at < pattern.length && (pattern[at] === "?" || takes(pattern[at], text[place]))) {
      at += 1;
      place += 1;
    } else if (star >= 0) {
      at = star + 1;
      mark += 1;
      place = mark;
    } else {
      return false;
    }
  }
  while (pattern[at] === "*") at += 1;
  return at === pattern.length;
}

const takes = (literal, character) => (character === DIGIT ? /[0-9]/.test(literal) : character !== UNKNOWN && literal === character);

/** Whether a pattern fits some text that is made of these pieces. */
const fits = (pattern, pieces) => placesAfter(pattern, pieces).has(pattern.length);

/** Whether a pattern fits some text that begins with these pieces, and goes on. */
const begins = (pattern, pieces) => [...placesAfter(pattern, pieces)].some((place) => place < pattern.length);

/** The places in a pattern at which the texts that are made of these pieces may go on. */
function placesAfter(pattern, pieces) {
  let places = passed(pattern, [0]);
  for (const piece of pieces) {
    if (typeof piece !== "string") places = passed(pattern, places, piece.characters);
    else for (const character of piece) places = passed(pattern, next(pattern, places, character));
  }
  return places;
}

/** The places after one character more. */
const next = (pattern, places, character) =>
  [...places].flatMap((place) => {
    if (pattern[place] === "*") return [place];
    return pattern[place] === "?" || pattern[place] === character ? [place + 1] : [];
  });

/** These places, and those that are reached by none or more of the characters. */
function passed(pattern, places, characters) {
  const all = new Set(places);
  const isFree = (character) => character === "*" || (characters !== undefined && (character === "?" || characters.test(character)));
  for (const place of all) if (place < pattern.length && isFree(pattern[place])) all.add(place + 1);
  return all;
}
