// Lets in whoever has a ticket that a backend has signed, and tells each client who it is.
//
// The backend and this plugin share a secret, which the configuration gives the plugin as TICKET_SECRET. Who has logged in at the
// backend gets a ticket from it, and connects with ?ticket=….

import { context, define, Refusal } from "@lockgate/sdk";

import { readTicket } from "./ticket.ts";

export default define({
  /**
   * Decides on a client. The gateway refuses a ticket whose time is over, and closes the connection when it comes: `on_expiry` in
   * gateway.toml.
   */
  authorize(id, request) {
    const text = request.queryParameter("ticket");
    if (text === undefined) throw new Refusal(401, "connect with ?ticket=…");
    const secret = process.env["TICKET_SECRET"];
    if (!secret) throw new Error("TICKET_SECRET is not set");
    const ticket = readTicket(text, secret);
    if (ticket === undefined) throw new Refusal(403, "this is no ticket of ours");
    return { principal: ticket.name, values: { plan: ticket.plan }, expiresAt: ticket.expires };
  },

  /** Handlers read what the authorizer says of a client: here in the same plugin, as well in any other. */
  message() {
    return `${context.principal()} (${context.authorizer()["plan"]})`;
  },
});
