// The key of the person at this browser: for this tab only, or on this device if asked. Never in an address.

const NAME = "ponder.key";

function stored(storage, work) {
  try { return work(storage()); } catch { return null; }  // a browser that keeps nothing
}

export function load() {
  return stored(() => sessionStorage, (s) => s.getItem(NAME)) || stored(() => localStorage, (s) => s.getItem(NAME));
}

export function keep(key, { remember }) {
  forget();
  stored(() => (remember ? localStorage : sessionStorage), (s) => s.setItem(NAME, key));
}

export function forget() {
  stored(() => sessionStorage, (s) => s.removeItem(NAME));
  stored(() => localStorage, (s) => s.removeItem(NAME));
}
