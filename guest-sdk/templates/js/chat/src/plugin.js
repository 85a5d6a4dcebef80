// A chat: names, rooms with presence, and private messages.
//
// A client sends JSON texts with an `action`, and gets JSON texts with an `event`; `protocol.js` lists both. A room is a
// group, a name is an attribute of the connection, and nothing is kept in memory, so any instance can handle any message.

import { connections, context, define, GatewayError, groups, json } from "@lockgate/sdk";

import { MAX_ROOMS, Member } from "./member.js";
import { checkName, Complaint, parseAction } from "./protocol.js";

/** The number of members that a client gets by name. They must fit in one message. */
const LISTED_MEMBERS = 200;

export default define({
  /** Lets every client in, under the name in the query string (`?name=ada`) if it is valid. */
  connect(event, handshake) {
    const member = new Member(event.connectionId);
    const name = validName(handshake.queryParameter("name"));
    if (name !== undefined) member.rename(name);
    connections.send(member.id, json({ event: "welcome", id: member.id, name: member.name }));
  },

  message(event, message) {
    try {
      if (typeof message !== "string") throw new Complaint("Send JSON as a text message.");
      const { action, ...words } = parseAction(message);
      return ACTIONS[action](Member.load(event.connectionId), words);
    } catch (error) {
      if (error instanceof Complaint) return json({ event: "error", text: error.message });
      throw error;
    }
  },

  /** Tells each room that the member left. The connection has left its groups by now. */
  disconnect(event) {
    const member = Member.load(event.connectionId);
    for (const room of member.rooms) groups.publish(room, left(member, room));
  },
});

/** What each action does, and answers. @type {Record<string, (member: Member, words: any) => string>} */
const ACTIONS = {
  /** Renames the member, and tells its rooms. */
  name(member, { name }) {
    member.rename(name);
    const renamed = json({ event: "renamed", id: member.id, name });
    for (const room of member.rooms) groups.publish(room, renamed, { exclude: member.id });
    return renamed;
  },

  /** Tells the room, and answers with its members. A second join only answers. */
  join(member, { room }) {
    if (!member.isIn(room)) {
      if (member.rooms.length >= MAX_ROOMS) throw new Complaint("You are in too many rooms. Leave one first.");
      member.enter(room);
      groups.publish(room, json({ event: "joined", room, id: member.id, name: member.name }));
    }
    return who(room);
  },

  leave(member, { room }) {
    if (!member.isIn(room)) throw new Complaint("You are not in that room.");
    member.exit(room);
    const message = left(member, room);
    groups.publish(room, message);
    return message;
  },

  say(member, { room, text }) {
    if (!member.isIn(room)) throw new Complaint("Join the room before you speak in it.");
    const said = json({ event: "said", room, id: member.id, name: member.name, text, at: context.current().requestedAt });
    return sent(said, () => groups.publish(room, said, { exclude: member.id }));
  },

  whisper(member, { to, text }) {
    if (to === member.id) throw new Complaint("That is you.");
    const whispered = json({ event: "whispered", id: member.id, name: member.name, to, text, at: context.current().requestedAt });
    return sent(whispered, () => connections.send(to, whispered));
  },

  who: (member, { room }) => who(room),
};

/** @param {string | undefined} written */
function validName(written) {
  try {
    return written === undefined ? undefined : checkName(written);
  } catch {
    return undefined;
  }
}

/** @param {string} room */
function who(room) {
  const members = [];
  for (const id of groups.members(room, { limit: LISTED_MEMBERS })) {
    try {
      members.push({ id, name: Member.load(id).name });
    } catch (error) {
      // The member has left meanwhile.
      if (!(error instanceof GatewayError && error.code === "gone")) throw error;
    }
  }
  return json({ event: "members", room, members, count: groups.count(room) });
}

/**
 * @param {Member} member
 * @param {string} room
 */
function left(member, room) {
  return json({ event: "left", room, id: member.id, name: member.name });
}

/** Texts for a sender whose message was not sent. @type {Record<string, string | undefined>} */
const NOT_SENT = {
  "gone": "That person is not here any more.",
  "busy": "That person reads too slowly just now. Try again.",
  "unreachable": "That person cannot be reached just now. Try again.",
  "too-large": "That is too long.",
};

/**
 * Sends a message, and gives it back as the answer to its sender.
 *
 * @param {string} message
 * @param {() => void} send
 */
function sent(message, send) {
  try {
    send();
    return message;
  } catch (error) {
    const text = error instanceof GatewayError ? NOT_SENT[error.code] : undefined;
    throw text === undefined ? error : new Complaint(text);
  }
}
