// The page of the chat: one connection, whose events are shown as they come. Texts of other members only ever
// become text nodes.

import { connect } from "./lockgate-client.js";

const FIRST_ROOM = "lobby";
const MAX_LINES = 500;

const byId = (id) => document.getElementById(id);
const page = {
  state: byId("state"),
  retry: byId("retry"),
  nameForm: byId("name-form"),
  name: byId("name"),
  ownId: byId("own-id"),
  rooms: byId("rooms"),
  roomForm: byId("room-form"),
  room: byId("room"),
  currentRoom: byId("current-room"),
  leave: byId("leave"),
  log: byId("log"),
  messages: byId("messages"),
  sayForm: byId("say-form"),
  text: byId("text"),
  send: byId("send"),
  whisper: byId("whisper"),
  whisperName: byId("whisper-name"),
  whisperCancel: byId("whisper-cancel"),
  count: byId("count"),
  members: byId("members"),
};

const me = { id: "", name: remembered("name") };
/** By room name: { members: Map of id → name, count, unread }. */
const rooms = new Map();
/** The room on the page. After a lost connection the page joins the keys of `rooms` again. */
let current = null;
/** The receiver of the next message: { id, name }, or null for the room. */
let recipient = null;

// The connection ---------------------------------------------------------------------------------

/** `lockgate dev` says whether it serves WebTransport, and by which digest its certificate is known. */
const options = await fetch("/lockgate-dev.json").then((answer) => answer.json(), () => ({}));
const connection = connect(address, [], { ...options, reconnect: () => true });
let attemptTimer = 0;

connection.onmessage = ({ data }) => receive(data);

connection.onclose = ({ code, reason, retryIn }) => {
  const seconds = Math.max(1, Math.round(retryIn / 1000));
  showState("waiting", `Not connected. Trying again in ${seconds} s`);
  page.state.title = reason ? `${code}: ${reason}` : `code ${code}`;
  for (const room of rooms.values()) {
    room.members.clear();
    room.count = 0;
  }
  speakToRoom();
  showMembers();
  clearTimeout(attemptTimer);
  attemptTimer = setTimeout(showAttempt, retryIn);
};

function address() {
  const url = new URL("/dev", location.href);
  if (me.name) url.searchParams.set("name", me.name);
  return url;
}

function showAttempt() {
  showState("connecting", "Connecting …");
}

function request(action, fields) {
  if (connection.readyState !== connection.OPEN) return false;
  connection.send(JSON.stringify({ action, ...fields }));
  return true;
}

function showState(state, text) {
  page.state.dataset.state = state;
  page.state.textContent = text;
  page.state.removeAttribute("title");
  page.retry.hidden = state !== "waiting";
  const open = state === "open";
  // The text field stays enabled, so that a sentence can be finished meanwhile.
  for (const control of document.querySelectorAll("form input, form button, #leave")) {
    control.disabled = !open;
  }
  page.whisperCancel.disabled = false;
}

// Events of the gateway --------------------------------------------------------------------------

function receive(data) {
  let event;
  try {
    event = JSON.parse(data);
  } catch {
    return;
  }
  if (event === null || typeof event !== "object") return;
  const handler = Object.hasOwn(handlers, event.event) ? handlers[event.event] : null;
  if (handler) handler(event);
  else if (event.message) addLine("error", { text: `The gateway says: ${event.message}` });
}

const handlers = {
  welcome({ id, name }) {
    clearTimeout(attemptTimer);
    showState("open", "Connected");
    page.state.dataset.transport = connection.transport;
    page.state.title = `by ${connection.transport}`;
    me.id = id;
    showOwnName(name);
    page.ownId.textContent = id;
    page.ownId.dataset.id = id;
    const wanted = rooms.size > 0 ? [...rooms.keys()] : [FIRST_ROOM];
    for (const room of wanted) request("join", { room });
  },

  renamed({ id, name }) {
    let before = null;
    for (const room of rooms.values()) {
      if (room.members.has(id)) {
        before = room.members.get(id);
        room.members.set(id, name);
      }
    }
    if (recipient?.id === id) speakTo(id, name);
    if (id === me.id) showOwnName(name);
    // The event comes once for each shared room, and is shown once.
    if (before !== null && before !== name) addLine("note", { text: `${before} is now ${name}.` });
    showMembers();
  },

  joined({ room, id, name }) {
    if (id !== me.id && !rooms.has(room)) return;
    const known = openRoom(room);
    if (!known.members.has(id)) known.count += 1;
    known.members.set(id, name);
    if (id !== me.id) addLine("note", { room, text: `${name} joined.` });
    showMembers();
  },

  left({ room, id, name }) {
    const known = rooms.get(room);
    if (!known) return;
    if (id === me.id) {
      closeRoom(room);
      return;
    }
    known.members.delete(id);
    known.count = Math.max(known.members.size, known.count - 1);
    if (recipient?.id === id) speakToRoom();
    addLine("note", { room, text: `${name} left.` });
    showMembers();
  },

  members({ room, members, count }) {
    const known = openRoom(room);
    known.members = new Map(members.map(({ id, name }) => [id, name]));
    known.count = count;
    showMembers();
  },

  said({ room, id, name, text, at }) {
    if (!rooms.has(room)) return;
    addLine("said", { room, id, name, text, at });
    if (room !== current || document.hidden) {
      rooms.get(room).unread += 1;
      showRooms();
    }
  },

  whispered({ id, name, to, text, at }) {
    const other = id === me.id ? nameOf(to) : null;
    addLine("whispered", { id, name, text, at, aside: other === null ? "to you" : `to ${other}` });
  },

  error({ text }) {
    addLine("error", { text });
  },
};

function nameOf(id) {
  for (const room of rooms.values()) {
    if (room.members.has(id)) return room.members.get(id);
  }
  return "someone who left";
}

// Rooms ------------------------------------------------------------------------------------------

function openRoom(name) {
  if (!rooms.has(name)) {
    rooms.set(name, { members: new Map(), count: 0, unread: 0 });
    enterRoom(name);
  }
  return rooms.get(name);
}

function closeRoom(name) {
  rooms.delete(name);
  for (const line of [...page.messages.children]) {
    if (line.dataset.room === name) line.remove();
  }
  if (current === name) enterRoom(rooms.keys().next().value ?? null);
  else showRooms();
}

function enterRoom(name) {
  current = name;
  page.currentRoom.textContent = name ?? "No room";
  page.leave.hidden = name === null;
  if (name !== null) rooms.get(name).unread = 0;
  for (const line of page.messages.children) line.hidden = !isShown(line);
  page.log.scrollTop = page.log.scrollHeight;
  speakToRoom();
  showRooms();
  showMembers();
}

function showRooms() {
  const focused = page.rooms.contains(document.activeElement) ? document.activeElement.dataset.room : null;
  page.rooms.replaceChildren(
    ...[...rooms].map(([name, { unread }]) => {
      const button = element("button", { type: "button" }, element("bdi", {}, name));
      button.dataset.room = name;
      if (name === current) button.setAttribute("aria-current", "true");
      if (unread > 0) {
        button.append(element("span", { className: "unread" }, String(unread)));
        button.setAttribute("aria-label", `${name}, ${unread} unread`);
      }
      return element("li", {}, button);
    }),
  );
  if (focused !== null) buttonOf(page.rooms, "room", focused)?.focus();

  const unread = [...rooms.values()].reduce((sum, room) => sum + room.unread, 0);
  document.title = unread > 0 ? `(${unread}) Lockgate chat` : "Lockgate chat";
}

// Members ----------------------------------------------------------------------------------------

function showMembers() {
  const room = rooms.get(current);
  const focused = page.members.contains(document.activeElement) ? document.activeElement.dataset.id : null;
  const members = [...(room?.members ?? [])].sort(([, a], [, b]) => a.localeCompare(b));
  page.members.replaceChildren(
    ...members.map(([id, name]) => {
      const own = id === me.id;
      const button = element(
        "button",
        { type: "button", disabled: own, title: own ? "You" : `Whisper to ${name}` },
        element("bdi", { className: "name" }, name),
        // Names are not unique: the end of the id tells members of one name apart.
        element("span", { className: "tag" }, own ? "you" : id.slice(-4)),
      );
      button.dataset.id = id;
      button.dataset.name = name;
      const item = element("li", {}, button);
      item.dataset.presence = "here";
      return item;
    }),
  );
  if (focused !== null) buttonOf(page.members, "id", focused)?.focus();

  page.count.textContent = room ? String(room.count) : "";
  const more = room ? room.count - members.length : 0;
  if (more > 0) page.members.append(element("li", { className: "tag" }, `and ${more} more`));
}

function showOwnName(name) {
  me.name = name;
  remember("name", name);
  page.name.value = name;
}

// Messages ---------------------------------------------------------------------------------------

function addLine(event, { room, id, name, text, at, aside }) {
  const line = element("li");
  line.dataset.event = event;
  if (room !== undefined) line.dataset.room = room;
  if (id !== undefined) line.dataset.from = id;
  if (name !== undefined) {
    const when = new Date(at);
    const time = element("time", { dateTime: when.toISOString(), title: when.toLocaleString() });
    time.textContent = when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const author = element("bdi", { className: "name", title: id }, name);
    author.style.setProperty("--hue", hue(id));
    line.append(time, " ", author, " ");
    if (aside !== undefined) line.append(element("span", { className: "tag" }, `(${aside})`), " ");
  }
  line.append(element("span", { className: "text", dir: "auto" }, text));
  line.hidden = !isShown(line);

  const { log, messages } = page;
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  messages.append(line);
  while (messages.children.length > MAX_LINES) messages.firstElementChild.remove();
  if (atEnd || id === me.id) log.scrollTop = log.scrollHeight;
}

/** Whispers, errors and notes without a room are shown in every room. */
function isShown(line) {
  return line.dataset.room === undefined || line.dataset.room === current;
}

function speakTo(id, name) {
  recipient = { id, name };
  page.whisperName.textContent = name;
  page.whisper.hidden = false;
}

function speakToRoom() {
  recipient = null;
  page.whisper.hidden = true;
}

// Small things -----------------------------------------------------------------------------------

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function buttonOf(list, key, value) {
  return [...list.querySelectorAll("button")].find((button) => button.dataset[key] === value);
}

function hue(id) {
  let sum = 0;
  for (const char of id) sum = (sum * 31 + char.codePointAt(0)) % 360;
  return String(sum);
}

/** Each tab has its own name, which a reload keeps. Where storage is forbidden the name is lost. */
function remembered(key) {
  try {
    return sessionStorage.getItem(`lockgate-chat-${key}`) ?? "";
  } catch {
    return "";
  }
}

function remember(key, value) {
  try {
    sessionStorage.setItem(`lockgate-chat-${key}`, value);
  } catch {
    // see above
  }
}

// Actions of the user ----------------------------------------------------------------------------

page.nameForm.addEventListener("submit", (event) => {
  event.preventDefault();
  request("name", { name: page.name.value });
});

page.roomForm.addEventListener("submit", (event) => {
  event.preventDefault();
  const room = page.room.value.trim();
  if (rooms.has(room)) enterRoom(room);
  else if (!request("join", { room })) return;
  page.room.value = "";
});

page.rooms.addEventListener("click", ({ target }) => {
  const button = target.closest("button[data-room]");
  if (button) enterRoom(button.dataset.room);
});

page.leave.addEventListener("click", () => request("leave", { room: current }));

page.members.addEventListener("click", ({ target }) => {
  const button = target.closest("button[data-id]");
  if (!button) return;
  speakTo(button.dataset.id, button.dataset.name);
  page.text.focus();
});

page.whisperCancel.addEventListener("click", () => {
  speakToRoom();
  page.text.focus();
});

page.sayForm.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = page.text.value;
  if (text.trim() === "") return;
  let sent = false;
  if (recipient) sent = request("whisper", { to: recipient.id, text });
  else if (current !== null) sent = request("say", { room: current, text });
  else addLine("error", { text: "Join a room first." });
  if (sent) page.text.value = "";
});

page.text.addEventListener("keydown", (event) => {
  if (event.key === "Escape") speakToRoom();
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    page.sayForm.requestSubmit();
  }
});

page.retry.addEventListener("click", () => {
  showAttempt();
  connection.retry();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden || current === null) return;
  rooms.get(current).unread = 0;
  showRooms();
});
