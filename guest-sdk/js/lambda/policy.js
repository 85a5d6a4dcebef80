// The policies of Lambda authorizers, as IAM evaluates them, as far as that is here. Its like in Go is lambda/policy.go.

import { holds } from "./conditions.js";
import { meansAction, meansResource } from "./patterns.js";

const MEMBERS = ["Version", "Id", "Statement"];
const VERSIONS = ["", "2008-10-17", "2012-10-17"];
const STATEMENT_MEMBERS = ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"];

/**
 * Whether a statement allows the handshake and none denies it. All of the policy has to be understood: what is left out could be
 * what denies. `asked` has `arn`, and what conditions ask about: `sourceIp`, `secure` and `at` in milliseconds.
 */
export function allows(policy, asked) {
  checkMembers(policy, MEMBERS, "policyDocument");
  const { Version, Statement } = policy;
  if (Version !== undefined && !VERSIONS.includes(Version)) throw unclear("policyDocument.Version", 'write "2012-10-17"');
  if (Statement === null || typeof Statement !== "object") throw unclear("policyDocument.Statement", "write a statement, or a list of them");
  const statements = Array.isArray(Statement) ? Statement : [Statement];
  const effects = statements.map((statement, index) => effectOf(statement, `policyDocument.Statement[${index}]`, asked));
  return effects.includes("Allow") && !effects.includes("Deny");
}

/** The effect of a statement on the handshake; undefined if it is about something else. */
function effectOf(statement, place, asked) {
  checkMembers(statement, STATEMENT_MEMBERS, place);
  const { Effect, Condition } = statement;
  if (Effect !== "Allow" && Effect !== "Deny") throw unclear(`${place}.Effect`, 'write "Allow" or "Deny"');
  // Each is looked at, also where another one decides.
  const fits = [
    isAmong(statement, "Action", place, (action, isOpposite, unclear) => meansAction(action, unclear)),
    isAmong(statement, "Resource", place, (resource, isOpposite, unclear) => meansResource(resource, asked.arn, isOpposite, unclear)),
    Condition === undefined || conditionsHold(Condition, `${place}.Condition`, asked),
  ];
  return fits.includes(false) ? undefined : Effect;
}

/** Whether one of a member's patterns fits; of its opposite, `NotAction` or `NotResource`, whether none does. All are looked at. */
function isAmong(statement, name, place, fits) {
  const isOpposite = statement[name] === undefined;
  if (isOpposite === (statement[`Not${name}`] === undefined)) throw unclear(`${place}.${name}`, `write either ${name} or Not${name}`);
  const member = isOpposite ? `Not${name}` : name;
  const where = `${place}.${member}`;
  const patterns = texts(statement[member], where);
  if (isOpposite && patterns.length === 0) throw unclear(where, "an empty list means everything; name what it leaves out");
  const some = patterns.map((pattern) => fits(pattern, isOpposite, (remedy) => unclear(where, remedy))).includes(true);
  return some !== isOpposite;
}

function conditionsHold(conditions, place, asked) {
  checkMembers(conditions, undefined, place);
  const each = Object.entries(conditions).flatMap(([operator, keys]) => {
    checkMembers(keys, undefined, `${place}.${operator}`);
    if (Object.keys(keys).length === 0) throw unclear(`${place}.${operator}`, "name a key and its values");
    return Object.entries(keys).map(([key, values]) => {
      const where = `${place}.${operator}.${key}`;
      const listed = list(values);
      if (listed.length === 0 || listed.some((value) => !["string", "number", "boolean"].includes(typeof value))) throw unclear(where, "write a value, or a list of them");
      listed.forEach((value) => checkVariables(String(value), where));
      return holds(operator, key, listed.map(String), asked, (remedy) => unclear(where, remedy));
    });
  });
  return !each.includes(false);
}

/** Fails unless it is an object without other members than these. */
function checkMembers(value, names, place) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw unclear(place, "write an object");
  const other = names && Object.keys(value).find((name) => !names.includes(name));
  if (other !== undefined) throw unclear(`${place}.${other}`, `it may have ${names.join(", ")}`);
}

function texts(value, place) {
  const all = list(value);
  if (all.some((text) => typeof text !== "string")) throw unclear(place, "write a text, or a list of them");
  all.forEach((text) => checkVariables(text, place));
  return all;
}

function checkVariables(text, place) {
  if (text.includes("${")) throw unclear(place, "policy variables are not replaced; write the value");
}

const list = (value) => (Array.isArray(value) ? value : [value]);

const unclear = (place, remedy) => new Error(`malformed answer of the Lambda authorizer: ${place} is not understood; ${remedy}`);
