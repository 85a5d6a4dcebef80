// The part of DynamoDB's expressions that connection tables have: comparisons joined by AND, and projections of whole
// attributes.

import { ServiceFault } from "./operations.js";

const NAME = "(#?[A-Za-z_][A-Za-z0-9_]*)";
const VALUE = "(:[A-Za-z0-9_]+)";
const COMPARISON = new RegExp(`^${NAME}\\s*(=|<>|<=|>=|<|>)\\s*${VALUE}$`);
const EXISTS = new RegExp(`^attribute_(exists|not_exists)\\s*\\(\\s*${NAME}\\s*\\)$`, "i");
const PART = new RegExp(`^(begins_with|contains)\\s*\\(\\s*${NAME}\\s*,\\s*${VALUE}\\s*\\)$`, "i");

/** A test of items; without an expression all pass. */
export function condition(expression, { ExpressionAttributeNames: names = {}, ExpressionAttributeValues: values = {} }) {
  if (expression === undefined) return () => true;
  const tests = expression
    .replace(/^\s*\((.*)\)\s*$/s, (whole, inner) => (/[()]/.test(inner) ? whole : inner))
    .split(/\s+AND\s+/i)
    .map((text) => test(text.trim(), names, values));
  return (item) => tests.every((passes) => passes(item));
}

/** The attributes of an item that `ProjectionExpression` names. */
export function project(item, { ProjectionExpression: expression, ExpressionAttributeNames: names = {} }) {
  if (expression === undefined) return item;
  const wanted = expression.split(",").map((name) => nameOf(name.trim(), names));
  return Object.fromEntries(Object.entries(item).filter(([name]) => wanted.includes(name)));
}

function test(text, names, values) {
  const [, left, operator, right] = COMPARISON.exec(text) ?? [];
  if (left) {
    const [name, value] = [nameOf(left, names), valueOf(right, values)];
    return (item) => compares(item[name], operator, value);
  }
  const [, exists, attribute] = EXISTS.exec(text) ?? [];
  if (exists) {
    const name = nameOf(attribute, names);
    return (item) => (item[name] !== undefined) === (exists.toLowerCase() === "exists");
  }
  const [, part, whole, sought] = PART.exec(text) ?? [];
  if (part) {
    const [name, value] = [nameOf(whole, names), valueOf(sought, values)];
    return (item) => (part.toLowerCase() === "contains" ? contains(item[name], value) : Boolean(item[name]?.S?.startsWith(value.S ?? NaN)));
  }
  throw invalid(`a connection table does not know ${JSON.stringify(text)}: its expressions are comparisons, attribute_exists, attribute_not_exists, begins_with and contains, joined by AND`);
}

function nameOf(text, names) {
  if (!new RegExp(`^${NAME}$`).test(text)) throw invalid(`a connection table does not know the path ${JSON.stringify(text)}: it has whole attributes`);
  if (!text.startsWith("#")) return text;
  if (names[text] === undefined) throw invalid(`An expression attribute name used in the document path is not defined; attribute name: ${text}`);
  return names[text];
}

function valueOf(text, values) {
  if (values[text] === undefined) throw invalid(`An expression attribute value used in expression is not defined; attribute value: ${text}`);
  return values[text];
}

/** Values of different types are unequal, and in no order. */
function compares(attribute, operator, value) {
  if (attribute === undefined) return operator === "<>";
  const [[type, found]] = Object.entries(attribute);
  const [[other, sought]] = Object.entries(value);
  const equal = type === other && (type === "N" ? Number(found) === Number(sought) : JSON.stringify(found) === JSON.stringify(sought));
  if (operator === "=") return equal;
  if (operator === "<>") return !equal;
  if (type !== other || (type !== "S" && type !== "N")) return false;
  const [a, b] = type === "N" ? [Number(found), Number(sought)] : [found, sought];
  return { "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b }[operator];
}

function contains(attribute, value) {
  if (attribute?.S !== undefined) return value.S !== undefined && attribute.S.includes(value.S);
  const [[type, sought]] = Object.entries(value);
  if (attribute?.L) return attribute.L.some((element) => JSON.stringify(element) === JSON.stringify(value));
  return Boolean(attribute?.[`${type}S`]?.includes(sought));
}

function invalid(message) {
  return new ServiceFault("ValidationException", 400, message);
}
