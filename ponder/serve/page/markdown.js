// A little Markdown as DOM nodes: paragraphs, headings, lists, code, bold. Everything else stays the text it is,
// links and HTML too. No single stars: in "2*3*4" they are no emphasis.

import { h } from "./dom.js";

const FENCE = /^\s*(```|~~~)/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const ITEM = /^\s{0,6}(?:[-*•]|(\d{1,3})[.)])\s+(.*)$/;
// a run is of limited length, so that no text takes quadratic time
const INLINE = /`([^`\n]{1,500})`|(?<![\w*])\*\*(?=\S)([^\n]{1,300}?)(?<=\S)\*\*(?![\w*])/g;

/** [{kind, lines, ...}]: each block with the lines it was made of. */
export function blocks(text) {
  const lines = text.split("\n");
  const found = [];
  let open = null;  // the paragraph or list that the next line may belong to
  const begin = (kind, lines, more) => found.push((open = { kind, lines, ...more }));
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i];
    const fence = FENCE.exec(line);
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

function inline(text) {
  const nodes = [];
  let position = 0;
  for (const match of text.matchAll(INLINE)) {
    nodes.push(text.slice(position, match.index));
    nodes.push(match[1] !== undefined ? h("code", {}, match[1]) : h("strong", {}, match[2]));
    position = match.index + match[0].length;
  }
  nodes.push(text.slice(position));
  return nodes.flatMap((node) => (typeof node === "string" ? broken(node) : [node]));
}

function broken(text) {
  return text.split("\n").flatMap((line, i) => (i ? [h("br"), line] : [line]));
}

function element(block) {
  if (block.kind === "code") return h("pre", { tabindex: 0 }, h("code", {}, block.lines.join("\n")));
  if (block.kind === "heading") return h("p", { class: "heading" }, ...inline(block.lines[0]));
  if (block.kind === "p") return h("p", {}, ...inline(block.lines.join("\n")));
  const start = block.kind === "ol" && block.start !== 1 ? block.start : null;
  return h(block.kind, { start }, ...block.lines.map((line) => h("li", {}, ...inline(line))));
}

/** Shows a text that grows: `markdown.update(text)` changes only the blocks that changed. */
export class Markdown {
  constructor(parent) {
    this.parent = parent;
    this.shown = [];  // [source, node]
  }

  update(text) {
    const wanted = blocks(text);
    wanted.forEach((block, i) => {
      const source = JSON.stringify(block);
      if (this.shown[i]?.[0] === source) return;
      const node = element(block);
      if (this.shown[i]) this.shown[i][1].replaceWith(node);
      else this.parent.append(node);
      this.shown[i] = [source, node];
    });
    for (const [, node] of this.shown.splice(wanted.length)) node.remove();
  }
}
