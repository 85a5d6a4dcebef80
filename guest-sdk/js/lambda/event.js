// The proxy events of a WebSocket API, with the fields that captures of API Gateway show, in their order.

import * as connections from "../src/connections.js";
import * as context from "../src/context.js";

import { encodeBase64 } from "./base64.js";

import { environment } from "#host/environment";

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Header names that are written in another way than with a capital letter for each word. */
const SPELLINGS = { dnt: "DNT", etag: "ETag", te: "TE" };

export function connectEvent(event, handshake) {
  return {
    ...headersOf(handshake),
    ...queryOf(handshake.query),
    ...stageVariables(),
    requestContext: requestContext(event, "CONNECT"),
    isBase64Encoded: false,
  };
}

/** The event of an authorizer of the type REQUEST. */
export function authorizerEvent(connectionId, handshake) {
  const { requestId, api, stage, requestedAt } = context.current();
  const { headers, multiValueHeaders } = headersOf(handshake);
  const userAgent = handshake.header("user-agent");
  const { sourceIp, domainName } = handshake;
  const query = queryOf(handshake.query) ?? { queryStringParameters: {}, multiValueQueryStringParameters: {} };
  return {
    type: "REQUEST",
    methodArn: methodArn(api, stage),
    headers,
    multiValueHeaders,
    ...query,
    stageVariables: context.variables(),
    requestContext: {
      routeKey: "$connect",
      eventType: "CONNECT",
      extendedRequestId: requestId,
      requestTime: commonLogTime(requestedAt),
      messageDirection: "IN",
      stage,
      connectedAt: requestedAt,
      requestTimeEpoch: requestedAt,
      identity: userAgent === undefined ? { sourceIp } : { userAgent, sourceIp },
      requestId,
      domainName,
      connectionId,
      apiId: api,
    },
  };
}

/** The name by which policies mean the handshakes of a stage. There is no account. */
export const methodArn = (api, stage) => `arn:aws:execute-api:${region()}:000000000000:${api}/${stage}/$connect`;

const region = () => new Map(environment()).get("AWS_REGION") ?? "us-east-1";

export function messageEvent(event, message) {
  const isText = typeof message === "string";
  const requested = requestContext(event, "MESSAGE");
  const body = isText ? message : encodeBase64(message);
  const stageVariables = variables();
  if (stageVariables === undefined) return { requestContext: requested, body, isBase64Encoded: !isText };
  return { stageVariables, requestContext: requested, body, isBase64Encoded: !isText };
}

export function disconnectEvent(event, closing) {
  const circumstances = requestContext(event, "DISCONNECT", closing);
  const headers = { "Host": circumstances.domainName, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": "" };
  return {
    headers,
    multiValueHeaders: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value]])),
    ...stageVariables(),
    requestContext: circumstances,
    isBase64Encoded: false,
  };
}

/** Written key by key: an engine without a compiler copies whole objects slowly, and every message has one of these. */
function requestContext({ connectionId, routeKey }, eventType, closing) {
  const { requestId, messageId, api, stage, requestedAt } = context.current();
  const { connectedAt, sourceIp, userAgent, domainName } = client(connectionId, eventType);
  const authorizer = authorizerOf();
  const requested = { routeKey };
  if (closing !== undefined) {
    requested.disconnectStatusCode = closing.code;
    requested.disconnectReason = closing.reason;
  }
  if (authorizer !== undefined) requested.authorizer = authorizer;
  if (messageId !== undefined) requested.messageId = messageId;
  requested.eventType = eventType;
  requested.extendedRequestId = requestId;
  requested.requestTime = commonLogTime(requestedAt);
  requested.messageDirection = "IN";
  requested.stage = stage;
  requested.connectedAt = connectedAt;
  requested.requestTimeEpoch = requestedAt;
  requested.identity = userAgent === undefined ? { sourceIp } : { userAgent, sourceIp };
  requested.requestId = requestId;
  requested.domainName = domainName;
  requested.connectionId = connectionId;
  requested.apiId = api;
  return requested;
}

/** The clients of the last connections: what an event says of a client does not change. */
const clients = new Map();
const CLIENTS = 256;

function client(id, eventType) {
  // The time of the connect is final once the client is in.
  if (eventType === "CONNECT") clients.delete(id);
  const known = clients.get(id);
  if (known !== undefined) return known;
  const info = connections.info(id);
  if (eventType === "CONNECT") return info;
  if (clients.size === CLIENTS) clients.delete(clients.keys().next().value);
  clients.set(id, info);
  return info;
}

function authorizerOf() {
  const principalId = context.principal();
  const values = context.authorizer();
  if (principalId !== undefined) values.principalId = principalId;
  for (const _ in values) return values;
  return undefined;
}

/** The last time that was written: most events of a second have the same. */
let written = { second: NaN, text: "" };

/** Writes a time as the common log format does: `29/Nov/2023:08:04:03 +0000`. */
function commonLogTime(ms) {
  const second = Math.floor(ms / 1000);
  if (second !== written.second) written = { second, text: commonLogSecond(ms) };
  return written.text;
}

function commonLogSecond(ms) {
  const time = new Date(ms);
  const two = (number) => String(number).padStart(2, "0");
  const day = `${two(time.getUTCDate())}/${MONTHS[time.getUTCMonth()]}/${time.getUTCFullYear()}`;
  return `${day}:${two(time.getUTCHours())}:${two(time.getUTCMinutes())}:${two(time.getUTCSeconds())} +0000`;
}

function headersOf(handshake) {
  const all = handshake.headers.filter(([name]) => !name.startsWith("x-forwarded-"));
  if (handshake.subprotocols.length > 0 && !all.some(([name]) => name === "sec-websocket-protocol")) {
    all.push(["sec-websocket-protocol", handshake.subprotocols.join(", ")]);
  }
  // A client can write these headers too. The gateway knows better.
  const scheme = handshake.secure ? "https" : "http";
  const port = /:(\d+)$/.exec(handshake.header("host") ?? "")?.[1] ?? (handshake.secure ? "443" : "80");
  all.push(["x-forwarded-for", handshake.sourceIp], ["x-forwarded-port", port], ["x-forwarded-proto", scheme]);
  const { last, every } = grouped(all.map(([name, value]) => [spelling(name), value]));
  return { headers: inAnyCase(last), multiValueHeaders: inAnyCase(every) };
}

/** Both maps are absent without a query, as in captures. */
function queryOf(query) {
  if (query.length === 0) return undefined;
  const { last, every } = grouped(query);
  return { queryStringParameters: last, multiValueQueryStringParameters: every };
}

/** The variables of the stage; undefined without any, as in captures. */
function variables() {
  const values = context.variables();
  for (const _ in values) return values;
  return undefined;
}

function stageVariables() {
  const values = variables();
  return values && { stageVariables: values };
}

/** The last value of each name, and every value of each. */
function grouped(pairs) {
  const [last, every] = [new Map(), new Map()];
  for (const [name, value] of pairs) {
    last.set(name, value);
    every.set(name, [...(every.get(name) ?? []), value]);
  }
  return { last: Object.fromEntries(last), every: Object.fromEntries(every) };
}

/** Writes a header's name as browsers do: the contract has it in lower case, and Lambda code reads `Authorization`. */
function spelling(name) {
  const words = name.split("-").map((word) => word.charAt(0).toUpperCase() + word.slice(1));
  return SPELLINGS[name] ?? words.join("-").replace(/^Sec-Websocket-/, "Sec-WebSocket-");
}

/**
 * Lets every spelling of a header's name find it, as the client's own spelling is not known. Keys and JSON have the
 * usual one.
 */
function inAnyCase(headers) {
  const names = new Map(Object.keys(headers).map((name) => [name.toLowerCase(), name]));
  const find = (name) => (typeof name === "string" ? names.get(name.toLowerCase()) : undefined);
  const fallback = new Proxy(Object.prototype, {
    get: (target, name, receiver) => (find(name) === undefined ? Reflect.get(target, name, receiver) : headers[find(name)]),
    has: (target, name) => find(name) !== undefined || Reflect.has(target, name),
  });
  return Object.setPrototypeOf(headers, fallback);
}
