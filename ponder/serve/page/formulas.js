// Formulas in a text: $…$, $$…$$, \(…\), \[…\]. They become MathML, which browsers draw themselves; Temml (temml/, MIT)
// translates the TeX, and is loaded when the first formula is shown. Whatever it cannot read stays the text it is.

import { h } from "./dom.js";

const LONGEST = 3000;  // characters of one formula
const NESTED = 40;     // braces within braces
const DEEPEST = 80;    // elements within elements: a browser's layout is recursive
const ROOM = 100_000;  // characters of formulas in one text, EACH added for every one; of a paragraph that is looked at
const EACH = 20;

// --- where they stand ----------------------------------------------------------------------------------------------

const MARK = /\\[\\$()[\]]|\$\$?|`([^`\n]{1,500})`/g;
const CLOSING = { "\\(": "\\)", "\\[": "\\]", "$$": "$$", $: "$" };
// what stands between two prices: words, without a command or a brace around them
const WRAPPED = /\\[a-z]+|\{[^{}]*\}/gi;
const PROSE = /(?:^|\s)\d[\d.,]*[\s/-]+[a-z]{2,}\b|\b[a-z]{2,}[,.;:]?\s+[a-z]{2,}\b/i;

/** A text as a list of strings, {code} and {source, tex, display}, in linear time. */
export function pieces(text) {
  if (text.length > ROOM) return [text];
  const marks = [...text.matchAll(MARK)];
  // what may close each: the next mark of its kind. If that opens another one, this one was left open and takes nothing
  const next = [];
  const seen = {};
  for (let i = marks.length - 1; i >= 0; i--) {
    const [mark, code] = marks[i];
    if (code !== undefined) continue;
    next[i] = marks[seen[CLOSING[mark]]];
    seen[CLOSING[mark] ?? mark] = i;
    if (mark === "$$") seen.$ = i;
  }
  const found = [];
  let from = 0;
  marks.forEach(({ 0: mark, 1: code, index: start }, i) => {
    if (start < from) return;  // within the last one
    const piece = code !== undefined ? { source: mark, code } : next[i] && between(text, mark, start, next[i]);
    if (!piece) return;
    found.push(text.slice(from, start), piece);
    from = start + piece.source.length;
  });
  found.push(text.slice(from));
  return found.filter((piece) => piece !== "");
}

/** The formula that begins with `mark` at `start` and ends with the mark `end`; null if it is none. */
function between(text, mark, start, end) {
  const close = end.index + end[0].length;
  if (end[0] !== CLOSING[mark] || close - start > LONGEST) return null;
  const tex = text.slice(start + mark.length, end.index);
  if (!tex.trim()) return null;
  if (mark === "$") {
    // as Pandoc has it, so that prices stay text: nothing blank inside of a dollar, no digit after the second one
    if (/^\s|\n|\s$/.test(tex) || /[\p{L}\d]/u.test(text[start - 1] ?? "") || /\d/.test(text[close] ?? "")) return null;
    if (PROSE.test(tex.replace(WRAPPED, " "))) return null;
  }
  return { source: text.slice(start, close), tex, display: mark === "$$" || mark === "\\[" };
}

/** What closes a formula that a line begins and does not end; null if there is none. */
export function unclosed(line) {
  let closing = null;
  for (const [mark] of line.matchAll(MARK)) {
    if (mark === closing) closing = null;
    else if (closing === null && mark !== "$" && mark in CLOSING) closing = CLOSING[mark];
  }
  return closing;
}

// --- what they look like -------------------------------------------------------------------------------------------

/** How much of one text may still be drawn as formulas. */
export class Room {
  left = ROOM;
}

/** A piece of a text as an element: the formula, or its source where it cannot be read or the room is used up. */
export function formula({ source, tex, display }, room) {
  if ((room.left -= source.length + EACH) < 0) return source;
  const root = h("span", { class: display ? "formula display" : "formula", "data-source": source }, source);
  if (window.temml) draw(root, tex, display);
  else load().then(() => draw(root, tex, display), () => {});  // without Temml the source stays
  return root;
}

/** A text with its formulas and without any other form. */
export function withFormulas(text) {
  const room = new Room();
  const all = document.createDocumentFragment();
  for (const piece of text.split(/(\n\s*\n)/).flatMap(pieces)) {
    all.append(typeof piece === "string" || piece.code !== undefined ? piece.source ?? piece : formula(piece, room));
  }
  return all;
}

let library = null;
function load() {
  library ??= new Promise((done, failed) => {
    document.head.append(h("script", { src: "/web/temml/temml.min.js", onload: done, onerror: failed }));
  });
  return library;
}

const MATHML = "http://www.w3.org/1998/Math/MathML";
const ELEMENTS = new Set(
  `math menclose merror mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow mspace msqrt mstyle msub
  msubsup msup mtable mtd mtext mtr munder munderover none`.split(/\s+/),
);
const ATTRIBUTES = new Set(
  `accent accentunder columnalign columnlines columnspacing columnspan depth display displaystyle fence form height largeop
  linethickness lspace mathbackground mathcolor mathsize mathvariant maxsize minsize movablelimits notation rowlines
  rowspacing rspace scriptlevel separator stretchy symmetric voffset width`.split(/\s+/),
);
// an answer defines nothing: a definition may make a thousand times its length of text
const UNDEFINED = Object.fromEntries(
  "def gdef edef xdef let futurelet global long newcommand renewcommand providecommand".split(" ")
    .map((name) => [`\\${name}`, "\\definitionsAreNotRead"]),
);

const drawn = new Map();  // a growing text has the same formulas again and again
function translated(tex, display) {
  const key = `${display} ${tex}`;
  if (!drawn.has(key)) {
    if (drawn.size >= 2000) drawn.clear();
    drawn.set(key, translate(tex, display));
  }
  return drawn.get(key);
}

/** Temml's tree, or null: it cannot be read. */
function translate(tex, display) {
  let depth = 0;
  for (const [mark] of tex.matchAll(/\\.|[{}]/gs)) {
    depth += mark === "{" ? 1 : mark === "}" ? -1 : 0;
    if (depth > NESTED) return null;
  }
  const percent = tex.replace(/\\.|%/gs, (mark) => (mark === "%" ? "\\%" : mark));  // a comment would hide what follows
  try {
    return window.temml.__renderToMathMLTree(percent, {
      displayMode: display, throwOnError: true, trust: false, wrap: "tex", maxSize: [30, 10], macros: { ...UNDEFINED },
    });
  } catch {
    return null;  // of whatever kind: the text is a stranger's
  }
}

function draw(root, tex, display) {
  const tree = translated(tex, display);
  try {
    if (tree) return root.replaceChildren(element(tree, 0));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  root.classList.remove("display");  // the source, within its line
}

/** Temml's tree as elements: MathML of these names and nothing else, no address, no id. */
function element(node, depth) {
  if (typeof node.text === "string") return document.createTextNode(node.text);
  if (!node.type && node.classes.includes("tml-eqn")) return "";  // an equation's number
  if (depth > DEEPEST || (node.type && !ELEMENTS.has(node.type))) throw new RangeError(`no ${node.type} at ${depth}`);
  const made = node.type ? document.createElementNS(MATHML, node.type) : document.createDocumentFragment();
  if (node.type) {
    for (const [name, value] of Object.entries(node.attributes)) if (ATTRIBUTES.has(name)) made.setAttribute(name, value);
    if (node.classes.length) made.setAttribute("class", node.classes.filter(Boolean).join(" "));
    Object.assign(made.style, node.style);
  }
  for (const child of node.children) made.append(element(child, depth + 1));
  return made;
}

// --- what is copied ------------------------------------------------------------------------------------------------

document.addEventListener("copy", (event) => {
  const selection = getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return;
  const range = selection.getRangeAt(0);
  const within = range.commonAncestorContainer;
  const whole = (within.nodeType === Node.ELEMENT_NODE ? within : within.parentElement)?.closest(".formula");
  const copied = h("div", { class: "copied" }, range.cloneContents());
  const formulas = copied.querySelectorAll(".formula");
  if (!whole && !formulas.length) return;
  for (const each of formulas) each.replaceWith(each.dataset.source);
  document.body.append(copied);  // only what is laid out has lines
  event.clipboardData.setData("text/plain", whole ? whole.dataset.source : copied.innerText);
  copied.remove();
  event.preventDefault();
});
