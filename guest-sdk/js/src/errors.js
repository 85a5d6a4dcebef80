const TEXTS = {
  "gone": "the connection is gone",
  "busy": "there is no room now: the connection reads too slowly, or a limit is reached that the gateway's log names",
  "too-large": "the message or value is over a limit that the gateway's log names",
  "denied": "the gateway's configuration does not allow it",
  "unreachable": "another node of the cluster did not answer",
};

export class GatewayError extends Error {
  constructor(code, reason) {
    super(code === "invalid" ? `invalid argument: ${reason}` : TEXTS[code]);
    this.name = "GatewayError";
    this.code = code;
    if (reason !== undefined) this.reason = reason;
  }
}

export class Refusal extends Error {
  constructor(status, message, options) {
    super(message ?? `refused with ${status}`, options);
    this.name = "Refusal";
    this.status = status;
    // The text for the client; without one it gets the status's own phrase.
    this.text = message;
  }
}
