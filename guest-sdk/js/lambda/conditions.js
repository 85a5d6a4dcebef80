// The conditions of a policy that are evaluated here. Their like in Go is lambda/conditions.go.

const ADDRESSES = { IpAddress: true, NotIpAddress: false };

const TIMES = {
  DateEquals: (now, time) => now === time,
  DateNotEquals: (now, time) => now === time,
  DateLessThan: (now, time) => now < time,
  DateLessThanEquals: (now, time) => now <= time,
  DateGreaterThan: (now, time) => now > time,
  DateGreaterThanEquals: (now, time) => now >= time,
};

/**
 * Whether a condition holds: for one of its values, or for none if its operator is negative. All values are looked at. `unclear`
 * makes the error of what is not understood, from its remedy.
 */
export function holds(operator, key, values, { sourceIp, secure, at }, unclear) {
  // Of keys that a handshake always has, IfExists says nothing.
  const plain = operator.replace(/IfExists$/, "");
  const name = key.toLowerCase();
  if (Object.hasOwn(ADDRESSES, plain) && name === "aws:sourceip") {
    const address = bytesOf(sourceIp);
    if (address === undefined) throw unclear("the client's address is none of IPv4 or IPv6");
    return values.map((value) => isWithin(unmapped(address), value, unclear)).includes(true) === ADDRESSES[plain];
  }
  if (Object.hasOwn(TIMES, plain) && (name === "aws:currenttime" || name === "aws:epochtime")) {
    return values.map((value) => TIMES[plain](at, millisecondsOf(value, unclear))).includes(true) === (plain !== "DateNotEquals");
  }
  if (plain === "Bool" && name === "aws:securetransport") {
    if (values.some((value) => value !== "true" && value !== "false")) throw unclear("write true or false");
    return values.includes(String(secure));
  }
  throw unclear("evaluated are IpAddress and NotIpAddress of aws:SourceIp, Date… of aws:CurrentTime and aws:EpochTime, and Bool of aws:SecureTransport; decide by others in the authorizer");
}

/** Whether an address is of a network: `192.0.2.0/24`, or an address alone. */
function isWithin(address, network, unclear) {
  const [, start, length] = /^([^/]*)(?:\/(0|[1-9]\d{0,2}))?$/.exec(network) ?? [];
  const first = bytesOf(start ?? "");
  const bits = length === undefined ? (first?.length ?? 0) * 8 : Number(length);
  if (first === undefined || isMapped(first) || bits > first.length * 8) throw unclear('write networks as in "192.0.2.0/24" and "2001:db8::/32"');
  if (first.length !== address.length) return false;
  return first.every((byte, index) => {
    const kept = Math.min(Math.max(bits - index * 8, 0), 8);
    return (byte ^ address[index]) >> (8 - kept) === 0;
  });
}

/** The bytes of an address; undefined if it is none. */
function bytesOf(text) {
  if (!text.includes(":")) return bytesOfIpv4(text);
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const [before, after] = halves.map((half, index) => groupsOf(half, index === halves.length - 1));
  if (before === undefined || after === undefined) return halves.length === 1 && before?.length === 16 ? before : undefined;
  const left = 16 - before.length - after.length;
  return left >= 2 ? [...before, ...Array(left).fill(0), ...after] : undefined;
}

/** The bytes of groups of an IPv6 address, of which the last may be an IPv4 address. */
function groupsOf(text, isLast) {
  if (text === "") return [];
  const groups = text.split(":");
  const bytes = [];
  for (const [index, group] of groups.entries()) {
    const ipv4 = isLast && index === groups.length - 1 ? bytesOfIpv4(group) : undefined;
    if (ipv4 !== undefined) bytes.push(...ipv4);
    else if (/^[0-9a-f]{1,4}$/i.test(group)) bytes.push(parseInt(group, 16) >> 8, parseInt(group, 16) & 255);
    else return undefined;
  }
  return bytes;
}

function bytesOfIpv4(text) {
  if (!/^(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}$/.test(text)) return undefined;
  const bytes = text.split(".").map(Number);
  return bytes.every((byte) => byte < 256) ? bytes : undefined;
}

/** Whether it is an IPv4 address within IPv6: `::ffff:192.0.2.1`. */
const isMapped = (bytes) => bytes.length === 16 && bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 255 && bytes[11] === 255;

const unmapped = (bytes) => (isMapped(bytes) ? bytes.slice(12) : bytes);

/** A date or time of ISO 8601, or seconds since 1970. */
function millisecondsOf(text, unclear) {
  const fault = () => unclear('write times as in "2030-01-31T12:00:00Z", or as whole seconds since 1970');
  // Eleven digits end in the year 5138. Milliseconds have thirteen, and would be a time that never comes.
  if (/^\d{5,11}$/.test(text)) return Number(text) * 1000;
  const parts = /^(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{3}))?)?(?:Z|([+-])(\d\d):(\d\d)))?$/.exec(text);
  if (parts === null) throw fault();
  const [year, month, day, hour, minute, second, millisecond, zoneHour, zoneMinute] = [1, 2, 3, 4, 5, 6, 7, 9, 10].map((part) => Number(parts[part] ?? 0));
  const date = new Date(Date.UTC(year, month - 1, day));
  const exists = year >= 1000 && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  if (!exists || hour > 23 || minute > 59 || second > 59 || zoneHour > 23 || zoneMinute > 59) throw fault();
  const zone = (zoneHour * 60 + zoneMinute) * (parts[8] === "-" ? -60_000 : 60_000);
  return date.getTime() + ((hour * 60 + minute) * 60 + second) * 1000 + millisecond - zone;
}
