// The key of connection tables: `"connectionTable"` in package.json.

let key;

export function setTableKey(name) {
  key = name;
}

export function tableKey() {
  return key;
}
