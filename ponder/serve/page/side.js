// The list of conversations, kept by the server: open, rename, delete. On a phone it is a drawer.

import { $, h, icon } from "./dom.js";

const untitled = (conversation) => conversation.metadata?.title || "Untitled";

export class Side {
  /** on: {renamed(conversation), deleted(id), failed(problem)} */
  constructor(api, on) {
    this.api = api;
    this.on = on;
    this.known = [];
    this.current = null;
    $("more").onclick = () => this.load(this.known.at(-1)?.id);
    $("side-open").onclick = () => this.drawer(true);
    $("side-close").onclick = () => this.drawer(false);
    $("veil").onclick = () => this.drawer(false);
  }

  async load(after) {
    try {
      const page = await this.api.conversations(after);
      this.known = [...(after ? this.known : []), ...page.data];
      $("more").hidden = !page.has_more;
      this.show();
    } catch (problem) {
      this.on.failed(problem);
    }
  }

  add(conversation) {
    this.known.unshift(conversation);
    this.show();
  }

  mark(id) {
    this.current = id;
    this.show();
  }

  find(id) {
    return this.known.find((conversation) => conversation.id === id);
  }

  get isOpen() {
    return $("side").classList.contains("open");
  }

  drawer(open) {
    const was = this.isOpen;
    $("side").classList.toggle("open", open);
    $("veil").hidden = !open;
    $("side-open").setAttribute("aria-expanded", String(open));
    if (open) $("side-close").focus();
    else if (was) $("side-open").focus();
  }

  show() {
    $("list").replaceChildren(...this.known.map((conversation) => this.#row(conversation)));
    $("list-empty").hidden = this.known.length > 0;
  }

  #row(conversation) {
    const title = untitled(conversation);
    const row = h(
      "li", {},
      h("a", { href: `#${conversation.id}`, "aria-current": conversation.id === this.current ? "page" : null, title,
               onclick: () => this.drawer(false) }, title),
      h("button", { type: "button", class: "icon", "aria-label": `Rename ${title}`, onclick: () => this.#edit(conversation, row) },
        icon("pen")),
      h("button", { type: "button", class: "icon", "aria-label": `Delete ${title}`, onclick: () => this.#ask(conversation) },
        icon("bin")),
    );
    return row;
  }

  #edit(conversation, row) {
    const field = h("input", { value: untitled(conversation), maxlength: 200, "aria-label": "New name" });
    let over = false;
    const end = async (keeps) => {
      if (over) return;
      over = true;
      const title = field.value.trim();
      if (keeps && title && title !== untitled(conversation)) {
        try {
          Object.assign(conversation, await this.api.update(conversation, { title }));
          this.on.renamed(conversation);
        } catch (problem) {
          this.on.failed(problem);
        }
      }
      this.show();
    };
    field.onkeydown = (event) => {
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") end(false);
      event.stopPropagation();  // Escape ends the renaming, not the answer
    };
    field.onblur = () => end(true);
    row.replaceChildren(field);
    field.select();
  }

  #ask(conversation) {
    const dialog = $("sure");
    $("sure-what").textContent = untitled(conversation);
    $("sure-no").onclick = () => dialog.close();
    $("sure-yes").onclick = async () => {
      dialog.close();
      try {
        await this.api.deleteConversation(conversation.id);
        this.known = this.known.filter((other) => other !== conversation);
        this.on.deleted(conversation.id);
        this.show();
      } catch (problem) {
        this.on.failed(problem);
      }
    };
    dialog.showModal();
  }
}
