// Patterns of ARNs are compared with IAM's match of the whole ARN, in regions and accounts by brute force. Its like in Go is lambda/patterns_test.go.

import assert from "node:assert/strict";
import { test } from "node:test";

import { meansResource, PARTITIONS } from "../patterns.js";

const ARN = "arn:aws:execute-api:us-east-1:000000000000:api/stage/$connect";
const ACCOUNTS = ["000000000000", "111111111111", "121212121212", "123456789012"];

const arns = (partition, regions, accounts) =>
  regions.flatMap((region) => accounts.map((account) => `arn:${partition}:execute-api:${region}:${account}:api/stage/$connect`));
const REAL = new Map([...PARTITIONS].map(([partition, regions]) => [partition, arns(partition, regions, ACCOUNTS)]));
// What will never be one is here, too: it is refused rather than taken for none.
const ALL = [...PARTITIONS].flatMap(([partition, regions]) =>
  arns(partition, [...regions, "", "api", "a", "stage", "eu", "eu-west-1-api", "nowhere-12"], [...ACCOUNTS, "", "1", "12", "000000"]));

/** The partition that a pattern names; else `aws`. */
const partitionIn = (pattern) => [...PARTITIONS.keys()].find((partition) => pattern.split(":")[1] === partition) ?? "aws";

/** IAM's match: a regular expression over the whole text. */
const matches = (pattern) => {
  const expression = new RegExp(`^${pattern.replace(/[.*+?^${}()|[\]\\]/g, (character) => ({ "*": ".*", "?": "." })[character] ?? `\\${character}`)}$`, "s");
  return (text) => expression.test(text);
};

/** Accounts that fit the digits and wildcards of a pattern. */
const accountsIn = (pattern) =>
  (pattern.match(/[\d?*]*\d[\d?*]*/g) ?? []).flatMap((run) => {
    const zeros = "0".repeat(Math.max(0, 12 - run.replaceAll("*", "").length));
    return [run, `*${run}`, `${run}*`].map((padded) => padded.replaceAll("?", "0").replace("*", zeros).replaceAll("*", ""));
  }).filter((account) => account.length === 12);

/** Numbers that are the same in each run. */
const random = (seed) => (below) => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return Math.floor((seed / 2 ** 32) * below);
};

/** A pattern that is an ARN with wildcards for some of its characters and without some. */
function patternOf(below) {
  const one = (list) => list[below(list.length)];
  let pattern = `arn:${one(["aws", "aws", "aws", "aws-cn", "aws-*"])}:execute-api:${one(["eu-west-1", "us-east-1", "cn-north-1", "eu-*", "*", "a"])}:${one(["123456789012", "000000000000", "12", "*", "a"])}:${one(["api", "stage", "a", "*"])}/${one(["stage", "api", "*"])}/${one(["$connect", "*"])}`;
  for (let changes = below(4); changes > 0; changes -= 1) {
    const from = below(pattern.length + 1);
    const length = one([0, 1, 1, 3, 10, 25]);
    pattern = pattern.slice(0, from) + one(["*", "*", "*", "?", "", ":", "a"]) + pattern.slice(from + length);
  }
  return pattern;
}

/** Whether the pattern means the stage; undefined if it is refused. */
function meant(pattern, isOpposite) {
  const refusal = new Error("refused");
  try {
    return meansResource(pattern, ARN, isOpposite, () => refusal);
  } catch (error) {
    if (error === refusal) return undefined;
    throw error;
  }
}

test("patterns: mean a stage if IAM's match is true for some region and account, whatever their wildcards span", () => {
  const below = random(1);
  const seen = { true: 0, false: 0, undefined: 0 };
  for (let round = 0; round < 10000; round += 1) {
    const pattern = patternOf(below);
    const isMeant = meant(pattern, false);
    seen[isMeant] += 1;
    const fields = pattern.split(":");
    const isWhole = fields.length >= 6;
    const partition = partitionIn(pattern);
    // Of a whole ARN, partition, region and account may be any.
    if (isWhole && isMeant !== undefined) assert.equal(isMeant, matches([fields[0], "*", fields[2], "*", "*", ...fields.slice(5)].join(":"))(ARN), pattern);
    else if (isMeant === true) assert.ok(arns(partition, PARTITIONS.get(partition), [...ACCOUNTS, ...accountsIn(pattern)]).some(matches(pattern)), `${pattern} means more than IAM's match`);
    else if (isMeant === false) assert.ok(!ALL.some(matches(pattern)), `${pattern} means less than IAM's match`);
    else assert.ok(!REAL.get(partition).some(matches(pattern)), `${pattern} is refused, and IAM's match is true`);
  }
  for (const count of Object.values(seen)) assert.ok(count > 1000, JSON.stringify(seen));
});

test("patterns: in NotResource leave out what IAM's match is true of in all regions and accounts", () => {
  const below = random(2);
  const seen = { true: 0, false: 0, undefined: 0 };
  for (let round = 0; round < 10000; round += 1) {
    const pattern = patternOf(below);
    if (pattern.split(":").length >= 6) continue;
    const isMeant = meant(pattern, true);
    seen[isMeant] += 1;
    if (isMeant === true) assert.ok(REAL.get(partitionIn(pattern)).every(matches(pattern)), `${pattern} leaves out more than IAM's match`);
    else if (isMeant === false) assert.ok(!ALL.some(matches(pattern)), `${pattern} leaves out less than IAM's match`);
  }
  for (const count of Object.values(seen)) assert.ok(count > 100, JSON.stringify(seen));
});
