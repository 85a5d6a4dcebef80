// A ticket: NAME.PLAN.EXPIRES.SIGNATURE. It expires at a time in seconds since 1970; the signature is the HMAC-SHA-256 of all before it,
// in hexadecimal. The name may have dots. Any language makes one, and so does a shell:
//
//   ticket=ada.gold.$(date -d '+5 minutes' +%s)
//   echo "$ticket.$(printf %s "$ticket" | openssl dgst -sha256 -hmac "$TICKET_SECRET" -r | cut -d ' ' -f 1)"

import { createHmac, timingSafeEqual } from "node:crypto";

export interface Ticket {
  name: string;
  plan: string;
  expires: Date;
}

const FORM = /^((.+)\.([^.]+)\.(\d{1,10}))\.([0-9a-f]{64})$/s;

/** Reads a ticket that was signed with this secret; undefined for any other text. */
export function readTicket(text: string, secret: string): Ticket | undefined {
  const [, signed, name, plan, expires, signature] = FORM.exec(text) ?? [];
  if (signed === undefined || name === undefined || plan === undefined || signature === undefined) return undefined;
  const expected = createHmac("sha256", secret).update(signed).digest();
  // In constant time: the time of an answer tells nothing of the right signature.
  if (!timingSafeEqual(expected, Buffer.from(signature, "hex"))) return undefined;
  return { name, plan, expires: new Date(Number(expires) * 1000) };
}
