// A member of the chat. Its state lives in the attributes of its connection.

import { connections, groups } from "@lockgate/sdk";

/** Far fewer than the limit of groups of a connection, and their names fit in its attributes. */
export const MAX_ROOMS = 16;

export class Member {
  /**
   * A member with the attributes of its connection; a new one is named guest and in no room.
   *
   * @param {string} id
   * @param {Record<string, string>} attributes
   */
  constructor(id, attributes = {}) {
    this.id = id;
    this.name = attributes.name ?? guestName(id);
    // The names of the rooms, separated by spaces. They can be read after the connection's end.
    this.rooms = attributes.rooms?.split(" ").filter(Boolean) ?? [];
  }

  /** @param {string} id */
  static load(id) {
    return new Member(id, connections.attributes(id));
  }

  /** @param {string} room */
  isIn(room) {
    return this.rooms.includes(room);
  }

  /** @param {string} name */
  rename(name) {
    this.name = name;
    connections.setAttribute(this.id, "name", name);
  }

  /** @param {string} room */
  enter(room) {
    groups.join(room, this.id);
    this.rooms.push(room);
    this.#storeRooms();
  }

  /** @param {string} room */
  exit(room) {
    groups.leave(room, this.id);
    this.rooms = this.rooms.filter((other) => other !== room);
    this.#storeRooms();
  }

  #storeRooms() {
    connections.setAttribute(this.id, "rooms", this.rooms.join(" "));
  }
}

/**
 * A name that follows from the connection's id alone.
 *
 * @param {string} id
 */
function guestName(id) {
  let hash = 0;
  for (const character of id) hash = (hash * 31 + character.charCodeAt(0)) % 10_000;
  return `guest-${String(hash).padStart(4, "0")}`;
}
