// Choices that outlive the page, on this device; a browser that keeps nothing forgets them.

export function recall(name) {
  try { return localStorage.getItem(`ponder.${name}`); } catch { return null; }
}

export function remember(name, value) {
  try { localStorage.setItem(`ponder.${name}`, value); } catch { /* it keeps nothing */ }
}
