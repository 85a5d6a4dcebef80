// The actions of a client and the events that it gets, as JSON. This module calls nothing of the gateway.
//
// A client sends one of these, such as `{"action": "join", "room": "lobby"}`:
//
//   name     name       takes another name
//   join     room       enters a room
//   leave    room       leaves a room
//   say      room text  says something to a room
//   whisper  to text    says something to one member, by connection id
//   who      room       asks for the members of a room
//
// and gets these, where `id` and `name` are those of the member who acted:
//
//   welcome    id name             the client is connected, with this id and name
//   renamed    id name             a member has a new name
//   joined     room id name        a member entered a room
//   left       room id name        a member left a room, or its connection ended
//   members    room members count  the members of a room: `count` in all, with the first ones listed
//   said       room id name text at     a member said something to a room, in milliseconds since 1970-01-01 UTC
//   whispered  id name to text at       a member said something to the connection `to` alone
//   error      text                the action failed, for this reason

const NAME_CHARACTERS = 32;
/** At most 128 bytes in UTF-8, the limit of a group's name. */
const ROOM_CHARACTERS = 32;
const TEXT_CHARACTERS = 4096;

/** An action that cannot be done. The message is for the client. */
export class Complaint extends Error {}

/**
 * Parses the body of a message. Throws a {@link Complaint}.
 *
 * @param {string} body
 */
export function parseAction(body) {
  const parsed = parse(body);
  /** @param {string} name */
  const field = (name) => {
    const value = parsed?.[name];
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

/** @param {string} body */
function parse(body) {
  try {
    return JSON.parse(body);
  } catch {
    throw new Complaint("That is not JSON.");
  }
}

/** Control characters, and characters that could make a name look like another or reverse the line. */
const INVISIBLE = /[\p{Cc}\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/u;

/**
 * Checks the name of a member, and trims it.
 *
 * @param {string} written
 */
export function checkName(written) {
  const name = written.trim();
  const length = [...name].length;
  if (length === 0 || length > NAME_CHARACTERS || INVISIBLE.test(name)) {
    throw new Complaint(`A name has 1 to ${NAME_CHARACTERS} characters, all of them visible.`);
  }
  return name;
}

/** @param {string} room */
export function checkRoom(room) {
  if (!/^[\p{Alphabetic}\p{N}_-]+$/u.test(room) || [...room].length > ROOM_CHARACTERS) {
    throw new Complaint(`The name of a room has 1 to ${ROOM_CHARACTERS} letters, digits, \`-\` or \`_\`.`);
  }
  return room;
}

/** @param {string} text */
export function checkText(text) {
  if (text.trim() === "" || [...text].length > TEXT_CHARACTERS) {
    throw new Complaint(`A text has 1 to ${TEXT_CHARACTERS} characters, not all of them blank.`);
  }
  return text;
}
