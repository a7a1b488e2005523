// A little Markdown as DOM nodes: paragraphs, headings, lists, code, bold, formulas. Everything else stays the text it
// is, links and HTML too. No single stars: in "2*3*4" they are no emphasis.

import { h } from "./dom.js";
import { Room, formula, pieces, unclosed } from "./formulas.js";

const FENCE = /^\s*(```|~~~)/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const ITEM = /^\s{0,6}(?:[-*•]|(\d{1,3})[.)])\s+(.*)$/;
// a run is of limited length, so that no text takes quadratic time
const BOLD = /(?<![\w*])\*\*(?=\S)([^\n]{1,300}?)(?<=\S)\*\*(?![\w*])/g;

/** [{kind, lines, ...}]: each block with the lines it was made of. */
export function blocks(text) {
  const lines = text.split("\n");
  const found = [];
  let open = null;  // the paragraph or list that the next line may belong to
  const begin = (kind, lines, more) => found.push((open = { kind, lines, ...more }));
  const last = formulasEnds(lines);
  for (let i = 0; i < lines.length; i++) {
    const fence = FENCE.exec(lines[i]);
    const end = fence ? i : last(i);
    const line = lines.slice(i, end + 1).join(" ");
    i = end;
    const heading = HEADING.exec(line);
    const item = ITEM.exec(line);
    if (fence) {
      const code = [];
      while (++i < lines.length && !lines[i].trimStart().startsWith(fence[1])) code.push(lines[i]);
      begin("code", code);
      open = null;
    } else if (!line.trim()) {
      open = null;
    } else if (heading) {
      begin("heading", [heading[2]]);
      open = null;
    } else if (item) {
      const kind = item[1] ? "ol" : "ul";
      if (open?.kind === kind) open.lines.push(item[2]);
      else begin(kind, [item[2]], { start: Number(item[1] ?? 1) });
    } else if (open?.kind === "p") {
      open.lines.push(line);
    } else if (open && /^\s/.test(line)) {
      open.lines[open.lines.length - 1] += "\n" + line.trim();
    } else {
      begin("p", [line]);
    }
  }
  return found;
}

/** (i) => the line in which a formula ends that line i begins, else i: no line of a formula is a list or a heading. */
function formulasEnds(lines) {
  const vain = {};  // up to which line nothing closes it
  return (i) => {
    const closing = unclosed(lines[i]);
    if (closing === null || vain[closing] > i) return i;
    let j = i + 1;
    for (; j < lines.length && lines[j].trim() && !FENCE.test(lines[j]); j++) if (lines[j].includes(closing)) return j;
    vain[closing] = j;
    return i;
  };
}

/** A text into an element. What has a form of its own stands for one character while bold text is looked for. */
function inline(parent, text, room) {
  const whole = [];  // [where it stands, code or formula]
  let flat = "";
  for (const piece of pieces(text)) {
    if (typeof piece !== "string") whole.push([flat.length, piece]);
    flat += typeof piece === "string" ? piece : "\ufffc";
  }
  let done = 0;
  let from = 0;
  const upTo = (end, into) => {
    for (; whole[done]?.[0] < end; done++) {
      const [position, piece] = whole[done];
      broken(into, flat.slice(from, position));
      into.append(piece.code !== undefined ? h("code", {}, piece.code) : formula(piece, room));
      from = position + 1;
    }
    broken(into, flat.slice(from, end));
    from = end;
    return into;
  };
  for (const match of flat.matchAll(BOLD)) {
    upTo(match.index, parent);
    from += 2;
    parent.append(upTo(match.index + match[0].length - 2, h("strong")));
    from += 2;
  }
  return upTo(flat.length, parent);
}

function broken(parent, text) {
  const shown = text.replaceAll("\\$", "$");  // a dollar that begins no formula
  shown.split("\n").forEach((line, i) => {
    if (i) parent.append(h("br"));
    if (line) parent.append(line);
  });
}

function element(block, room) {
  if (block.kind === "code") return h("pre", { tabindex: 0 }, h("code", {}, block.lines.join("\n")));
  if (block.kind === "heading") return inline(h("p", { class: "heading" }), block.lines[0], room);
  if (block.kind === "p") return inline(h("p"), block.lines.join("\n"), room);
  const list = h(block.kind, { start: block.kind === "ol" && block.start !== 1 ? block.start : null });
  for (const line of block.lines) list.append(inline(h("li"), line, room));
  return list;
}

/** Shows a text that grows: `markdown.update(text)` changes only the blocks that changed. */
export class Markdown {
  constructor(parent) {
    this.parent = parent;
    this.shown = [];  // [source, node, the room that its formulas take]
  }

  update(text) {
    const wanted = blocks(text);
    const room = new Room();
    wanted.forEach((block, i) => {
      const source = JSON.stringify(block);
      if (this.shown[i]?.[0] === source) return void (room.left -= this.shown[i][2]);
      const before = room.left;
      const node = element(block, room);
      if (this.shown[i]) this.shown[i][1].replaceWith(node);
      else this.parent.append(node);
      this.shown[i] = [source, node, before - room.left];
    });
    for (const [, node] of this.shown.splice(wanted.length)) node.remove();
  }
}
