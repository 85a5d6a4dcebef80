// A chat: names, rooms with presence, and private messages.
//
// A client sends JSON texts with an `action`, and gets JSON texts with an `event`; `protocol.ts` lists both. A room is a
// group, a name is an attribute of the connection, and nothing is kept in memory, so any instance can handle any message.

import { type ConnectionId, connections, context, define, GatewayError, groups, json } from "@lockgate/sdk";

import { MAX_ROOMS, Member } from "./member.ts";
import { type Action, checkName, Complaint, parseAction, type Reply } from "./protocol.ts";

/** The number of members that a client gets by name. They must fit in one message. */
const LISTED_MEMBERS = 200;

export default define({
  /** Lets every client in, under the name in the query string (`?name=ada`) if it is valid. */
  connect(event, handshake) {
    const member = Member.create(event.connectionId);
    const name = validName(handshake.queryParameter("name"));
    if (name !== undefined) member.rename(name);
    connections.send(member.id, reply({ event: "welcome", id: member.id, name: member.name }));
  },

  message(event, message) {
    try {
      if (typeof message !== "string") throw new Complaint("Send JSON as a text message.");
      const action = parseAction(message);
      return act(Member.load(event.connectionId), action);
    } catch (error) {
      if (error instanceof Complaint) return reply({ event: "error", text: error.message });
      throw error;
    }
  },

  /** Tells each room that the member left. The connection has left its groups by now. */
  disconnect(event) {
    const member = Member.load(event.connectionId);
    for (const room of member.rooms) groups.publish(room, left(member, room));
  },
});

const reply = (event: Reply): string => json(event);

function validName(written: string | undefined): string | undefined {
  try {
    return written === undefined ? undefined : checkName(written);
  } catch {
    return undefined;
  }
}

function act(member: Member, action: Action): string {
  switch (action.action) {
    case "name":
      return rename(member, action.name);
    case "join":
      return join(member, action.room);
    case "leave":
      return leave(member, action.room);
    case "say":
      return say(member, action.room, action.text);
    case "whisper":
      return whisper(member, action.to, action.text);
    case "who":
      return who(action.room);
  }
}

/** Renames the member, and tells its rooms. */
function rename(member: Member, name: string): string {
  member.rename(name);
  const renamed = reply({ event: "renamed", id: member.id, name });
  for (const room of member.rooms) groups.publish(room, renamed, { exclude: member.id });
  return renamed;
}

/** Tells the room, and answers with its members. A second join only answers. */
function join(member: Member, room: string): string {
  if (!member.isIn(room)) {
    if (member.rooms.length >= MAX_ROOMS) throw new Complaint("You are in too many rooms. Leave one first.");
    member.enter(room);
    groups.publish(room, reply({ event: "joined", room, id: member.id, name: member.name }));
  }
  return who(room);
}

function leave(member: Member, room: string): string {
  if (!member.isIn(room)) throw new Complaint("You are not in that room.");
  member.exit(room);
  const message = left(member, room);
  groups.publish(room, message);
  return message;
}

function say(member: Member, room: string, text: string): string {
  if (!member.isIn(room)) throw new Complaint("Join the room before you speak in it.");
  const said = reply({ event: "said", room, id: member.id, name: member.name, text, at: context.current().requestedAt });
  return sent(said, () => groups.publish(room, said, { exclude: member.id }));
}

function whisper(member: Member, to: ConnectionId, text: string): string {
  if (to === member.id) throw new Complaint("That is you.");
  const whispered = reply({ event: "whispered", id: member.id, name: member.name, to, text, at: context.current().requestedAt });
  return sent(whispered, () => connections.send(to, whispered));
}

function who(room: string): string {
  const members = [];
  for (const id of groups.members(room, { limit: LISTED_MEMBERS })) {
    try {
      members.push({ id, name: Member.load(id).name });
    } catch (error) {
      // The member has left meanwhile.
      if (!(error instanceof GatewayError && error.code === "gone")) throw error;
    }
  }
  return reply({ event: "members", room, members, count: groups.count(room) });
}

function left(member: Member, room: string): string {
  return reply({ event: "left", room, id: member.id, name: member.name });
}

/** Texts for a sender whose message was not sent. */
const NOT_SENT: Partial<Record<GatewayError["code"], string>> = {
  "gone": "That person is not here any more.",
  "busy": "That person reads too slowly just now. Try again.",
  "unreachable": "That person cannot be reached just now. Try again.",
  "too-large": "That is too long.",
};

/** Sends a message, and gives it back as the answer to its sender. */
function sent(message: string, send: () => void): string {
  try {
    send();
    return message;
  } catch (error) {
    const text = error instanceof GatewayError ? NOT_SENT[error.code] : undefined;
    throw text === undefined ? error : new Complaint(text);
  }
}
