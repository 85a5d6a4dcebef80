// The actions of a client and the events that it gets, as JSON. This module calls nothing of the gateway.

import type { ConnectionId } from "@lockgate/sdk";

const NAME_CHARACTERS = 32;
/** At most 128 bytes in UTF-8, the limit of a group's name. */
const ROOM_CHARACTERS = 32;
const TEXT_CHARACTERS = 4096;

/** A valid action of a client. As JSON: `{"action": "join", "room": "lobby"}`. */
export type Action =
  /** Takes another name. */
  | { action: "name"; name: string }
  /** Enters a room. */
  | { action: "join"; room: string }
  /** Leaves a room. */
  | { action: "leave"; room: string }
  /** Says something to a room. */
  | { action: "say"; room: string; text: string }
  /** Says something to one member, by connection id. */
  | { action: "whisper"; to: ConnectionId; text: string }
  /** Asks for the members of a room. */
  | { action: "who"; room: string };

/** An event for a client. `id` and `name` are those of the member who acted. */
export type Reply =
  /** The client is connected, with this id and name. */
  | { event: "welcome"; id: ConnectionId; name: string }
  /** A member has a new name. */
  | { event: "renamed"; id: ConnectionId; name: string }
  /** A member entered a room. */
  | { event: "joined"; room: string; id: ConnectionId; name: string }
  /** A member left a room, or its connection ended. */
  | { event: "left"; room: string; id: ConnectionId; name: string }
  /** The members of a room: `count` in all, with the first ones listed. */
  | { event: "members"; room: string; members: { id: ConnectionId; name: string }[]; count: number }
  /** A member said something to a room, at a time in milliseconds since 1970-01-01 UTC. */
  | { event: "said"; room: string; id: ConnectionId; name: string; text: string; at: number }
  /** A member said something to the connection `to` alone. */
  | { event: "whispered"; id: ConnectionId; name: string; to: ConnectionId; text: string; at: number }
  /** The action failed, for this reason. */
  | { event: "error"; text: string };

/** An action that cannot be done. The message is for the client. */
export class Complaint extends Error {}

/** Parses the body of a message. Throws a {@link Complaint}. */
export function parseAction(body: string): Action {
  const parsed = parse(body);
  const field = (name: string): string => {
    const value: unknown = parsed?.[name];
    if (typeof value !== "string") throw new Complaint(`\`${name}\` is missing, or is not a text.`);
    return value;
  };
  const action = field("action");
  switch (action) {
    case "name":
      return { action, name: checkName(field("name")) };
    case "join":
    case "leave":
    case "who":
      return { action, room: checkRoom(field("room")) };
    case "say":
      return { action, room: checkRoom(field("room")), text: checkText(field("text")) };
    case "whisper":
      return { action, to: field("to"), text: checkText(field("text")) };
    default:
      throw new Complaint("An action is name, join, leave, say, whisper or who.");
  }
}

function parse(body: string): Record<string, unknown> | null {
  try {
    return JSON.parse(body);
  } catch {
    throw new Complaint("That is not JSON.");
  }
}

/** Control characters, and characters that could make a name look like another or reverse the line. */
const INVISIBLE = /[\p{Cc}\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/u;

/** Checks the name of a member, and trims it. */
export function checkName(written: string): string {
  const name = written.trim();
  const length = [...name].length;
  if (length === 0 || length > NAME_CHARACTERS || INVISIBLE.test(name)) {
    throw new Complaint(`A name has 1 to ${NAME_CHARACTERS} characters, all of them visible.`);
  }
  return name;
}

export function checkRoom(room: string): string {
  if (!/^[\p{Alphabetic}\p{N}_-]+$/u.test(room) || [...room].length > ROOM_CHARACTERS) {
    throw new Complaint(`The name of a room has 1 to ${ROOM_CHARACTERS} letters, digits, \`-\` or \`_\`.`);
  }
  return room;
}

export function checkText(text: string): string {
  if (text.trim() === "" || [...text].length > TEXT_CHARACTERS) {
    throw new Complaint(`A text has 1 to ${TEXT_CHARACTERS} characters, not all of them blank.`);
  }
  return text;
}
