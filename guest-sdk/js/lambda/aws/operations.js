// The three operations of API Gateway's management API over the gateway's connections. Both generations of the AWS SDK
// stand on them. No endpoint, region or credential counts: every id belongs to this stage.

import * as connections from "../../src/connections.js";
import { GatewayError } from "../../src/errors.js";

/** What a client sees of a connection that the backend deletes at API Gateway. */
const DELETED = "Connection Closed Normally";

/** The exception and the HTTP status of each error of the gateway. */
const FAULTS = {
  "gone": ["GoneException", 410],
  "busy": ["LimitExceededException", 429],
  "too-large": ["PayloadTooLargeException", 413],
  "denied": ["ForbiddenException", 403],
  "invalid": ["BadRequestException", 400],
  "unreachable": ["ServiceUnavailableException", 503],
};

export const operations = {
  PostToConnection: { status: 200, required: ["ConnectionId", "Data"], run: ({ ConnectionId, Data }) => connections.send(ConnectionId, messageOf(Data)) },
  DeleteConnection: { status: 204, required: ["ConnectionId"], run: ({ ConnectionId }) => connections.close(ConnectionId, 1000, DELETED) },
  GetConnection: {
    status: 200,
    required: ["ConnectionId"],
    run({ ConnectionId }) {
      const { connectedAt, lastActiveAt, sourceIp, userAgent } = connections.info(ConnectionId);
      return {
        ConnectedAt: new Date(connectedAt),
        Identity: { SourceIp: sourceIp, ...(userAgent !== undefined && { UserAgent: userAgent }) },
        LastActiveAt: new Date(lastActiveAt),
      };
    },
  },
};

/** An error as the service words it: both SDKs make their own kind of exception of it. */
export class ServiceFault extends Error {
  constructor(code, status, message, options) {
    super(message, options);
    this.code = code;
    this.status = status;
  }
}

/** Runs an operation, and gives the fields of its output. */
export function run({ run }, input) {
  try {
    return run(input) ?? {};
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    const [code, status] = FAULTS[error.code] ?? ["InternalServerException", 500];
    throw new ServiceFault(code, status, error.message, { cause: error });
  }
}

/** API Gateway sends text only. Bytes that are UTF-8 become a text here too; others are sent as they are. */
function messageOf(data) {
  if (typeof data === "string") return data;
  const bytes = bytesOf(data);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return bytes;
  }
}

function bytesOf(data) {
  if (data instanceof Uint8Array) return data;
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw new TypeError(`Data has to be a string or bytes, and it is ${Array.isArray(data) ? "an array" : typeof data}`);
}
