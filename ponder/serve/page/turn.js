// One question and its answer on the page. `show()` brings the elements up to date with the state.

import { announce, copy, h, icon } from "./dom.js";
import { withFormulas } from "./formulas.js";
import { Markdown } from "./markdown.js";
import { duration, isRunning, part } from "./state.js";

const NOTES = {
  cancelled: "You stopped this answer.",
  incomplete: "Cut off: the limit of tokens was reached. Ask it to go on, or start a new conversation.",
};

export class Turn {
  /** on: {answerNow(turn), again(turn), regenerate(turn), edit(turn), reasoning(turn)}; without reasoning it stays hidden */
  constructor(state, { model, namesModel, on }) {
    this.state = state;
    this.namesModel = namesModel;  // several may have answered in the same conversation
    this.on = on;
    this.ahead = null;  // seconds that the server's clock is ahead of performance.now()
    this.lost = false;
    this.label = h("span", { class: "thought-label" });
    this.latest = h("span", { class: "thought-latest" });
    this.parts = h("div", { class: "parts", "aria-live": "polite" });
    this.thought = h(
      "details", { class: "thought" },
      h("summary", {}, icon("chevron"), this.label, this.latest), this.parts,
    );
    this.answerNowButton = h("button", { type: "button", class: "chip", onclick: () => this.on.answerNow(this) }, "Answer now");
    this.waiting = h("p", { class: "waiting" });
    this.answer = h("div", { class: "answer" });
    this.raw = h("pre", { class: "raw", tabindex: 0, "aria-label": "Raw reasoning", hidden: true });
    this.rawButton = h("button", { type: "button", class: "quiet", onclick: () => this.#toggleRaw() }, "Show the reasoning");
    const quiet = (label, name, work) => h("button", { type: "button", class: `quiet ${name}`, onclick: work }, label);
    this.copyButton = quiet("Copy", "copy", () => this.#copy());
    this.actions = h(
      "div", { class: "actions" }, this.copyButton,
      quiet("Regenerate", "regenerate", () => this.on.regenerate(this)), quiet("Edit", "edit", () => this.on.edit(this)),
      this.rawButton,
    );
    this.note = h("p", { class: "note" });
    this.meta = h("p", { class: "meta" });
    this.markdown = new Markdown(this.answer);
    this.root = h(
      "article", { class: "turn" },
      h("h2", { class: "sr-only" }, "You"), h("div", { class: "asked" }, state.question),
      h("h2", { class: "sr-only" }, state.model ?? model),
      h("div", { class: "thinking-row" }, this.thought, this.answerNowButton),
      this.waiting, this.answer, this.note, this.meta, this.raw, this.actions,
    );
    this.show();
  }

  /** time: the server's, when its answer's header came. */
  clock(time) {
    if (time) this.ahead = Number(time) - performance.now() / 1000;
  }

  elapsed() {
    const { since } = this.state;
    return this.ahead === null || since === null ? 0 : Math.max(0, performance.now() / 1000 + this.ahead - since);
  }

  show() {
    const { state } = this;
    this.root.dataset.status = state.status;
    this.#showThought();
    this.markdown.update(state.answer);
    this.#showWaiting();
    this.#showNote();
    this.#showMeta();
    this.#showActions();
  }

  /** Once a quarter of a second while it runs. */
  tick() {
    if (this.state.thinking) this.label.textContent = `Thinking… ${Math.floor(this.elapsed())} s`;
  }

  #showThought() {
    const { state } = this;
    this.thought.hidden = !state.thought;
    this.answerNowButton.hidden = !state.thinking;
    this.thought.classList.toggle("live", state.thinking);
    if (state.thinking) this.tick();
    else if (state.seconds !== null) {
      this.label.textContent = `Thought for ${duration(state.seconds)}${state.early ? ", then answered at once" : ""}`;
    } else this.label.textContent = "Thought";
    while (this.parts.children.length > state.summary.length) this.parts.lastChild.remove();
    state.summary.slice(this.parts.children.length).forEach((summary) => {
      const { title, body } = part(summary);
      const shown = [title && h("strong", {}, withFormulas(title)), body && h("p", {}, withFormulas(body))];
      this.parts.append(h("div", { class: "part" }, ...shown));
    });
    const empty = !state.summary.length;
    this.parts.dataset.empty = !empty ? "" : isRunning(state) ? "The summary comes as it thinks." : "There is no summary.";
    this.latest.textContent = state.thinking && !empty ? part(state.summary.at(-1)).title : "";
  }

  #showWaiting() {
    const { state } = this;
    let words = "";
    if (this.lost && isRunning(state)) words = "The connection broke. Trying again…";
    else if (state.status === "sending") words = "Sending…";
    else if (state.status === "queued") words = "Waiting for the model…";
    else if (isRunning(state) && !state.thinking && !state.answer) words = "Answering…";
    this.waiting.textContent = words;
    this.waiting.hidden = !words;
  }

  #showNote() {
    const { state } = this;
    this.note.hidden = !(state.problem || NOTES[state.status]);
    if (this.note.hidden) return;
    this.note.classList.toggle("bad", Boolean(state.problem));
    if (!state.problem) return this.note.replaceChildren(NOTES[state.status]);
    const again = h("button", { type: "button", class: "chip", onclick: () => this.on.again(this) }, "Try again");
    this.note.replaceChildren(h("strong", {}, state.problem.message), ` ${state.problem.advice} `, again);
  }

  #showMeta() {
    const { usage } = this.state;
    this.meta.hidden = !usage;
    if (!usage) return;
    const { reasoning_tokens: reasoning, samples } = usage.output_tokens_details;
    const count = (number) => number.toLocaleString("en");
    const words = [
      this.namesModel && this.state.model, `${count(usage.input_tokens)} tokens in`, `${count(reasoning)} thinking`,
      `${count(usage.output_tokens - reasoning)} answer`, samples > 1 && `${samples} samples`,
    ];
    this.meta.textContent = words.filter(Boolean).join(" · ");
  }

  #showActions() {
    const { state } = this;
    this.actions.hidden = isRunning(state);
    this.copyButton.hidden = !state.answer;
    this.rawButton.hidden = !this.on.reasoning || !state.thought || state.id === null;
    this.actions.classList.toggle("fixed", state.id === null);  // of another client, and not one response: nothing replaces it
  }

  async #copy() {
    try {
      await copy(this.state.answer);
      this.copyButton.textContent = "Copied";
      announce("Copied");
    } catch (error) {
      this.copyButton.textContent = "Not copied";
      this.copyButton.title = error.message;
    }
    setTimeout(() => (this.copyButton.textContent = "Copy"), 1500);
  }

  async #toggleRaw() {
    if (this.raw.hidden) {
      const text = await this.on.reasoning(this);
      if (text === null) return;  // told elsewhere
      this.raw.replaceChildren(withFormulas(text || "(nothing is stored)"));
    }
    this.raw.hidden = !this.raw.hidden;
    this.rawButton.textContent = this.raw.hidden ? "Show the reasoning" : "Hide the reasoning";
    this.actions.scrollIntoView({ block: "nearest" });
  }

  /** What a screen reader hears of a change: whole things, never token by token. */
  announceChange(before) {
    const { state } = this;
    if (state.thinking && !before.thinking) announce("Thinking");
    if (!isRunning(state)) {
      const end = state.problem ? `${state.problem.message} ${state.problem.advice}` : NOTES[state.status] ?? "";
      announce(`${state.answer.slice(0, 2000)} ${end} ${this.thought.hidden ? "" : this.label.textContent}`.trim());
    } else if (before.thinking && !state.thinking) announce(this.label.textContent);
  }
}
