// A member of the chat. Its state lives in the attributes of its connection.

import { type ConnectionId, connections, groups } from "@lockgate/sdk";

/** Far fewer than the limit of groups of a connection, and their names fit in its attributes. */
export const MAX_ROOMS = 16;

export class Member {
  name: string;
  rooms: string[];

  private constructor(
    readonly id: ConnectionId,
    attributes: Record<string, string>,
  ) {
    this.name = attributes["name"] ?? guestName(id);
    // The names of the rooms, separated by spaces. They can be read after the connection's end.
    this.rooms = attributes["rooms"]?.split(" ").filter(Boolean) ?? [];
  }

  /** A new member, named guest and in no room. */
  static create(id: ConnectionId): Member {
    return new Member(id, {});
  }

  static load(id: ConnectionId): Member {
    return new Member(id, connections.attributes(id));
  }

  isIn(room: string): boolean {
    return this.rooms.includes(room);
  }

  rename(name: string): void {
    this.name = name;
    connections.setAttribute(this.id, "name", name);
  }

  enter(room: string): void {
    groups.join(room, this.id);
    this.rooms.push(room);
    this.#storeRooms();
  }

  exit(room: string): void {
    groups.leave(room, this.id);
    this.rooms = this.rooms.filter((other) => other !== room);
    this.#storeRooms();
  }

  #storeRooms(): void {
    connections.setAttribute(this.id, "rooms", this.rooms.join(" "));
  }
}

/** A name that follows from the connection's id alone. */
function guestName(id: ConnectionId): string {
  let hash = 0;
  for (const character of id) hash = (hash * 31 + character.charCodeAt(0)) % 10_000;
  return `guest-${String(hash).padStart(4, "0")}`;
}
