// Where a question is written, and how much the model may think about it.

import { $, h } from "./dom.js";
import { recall, remember } from "./remember.js";

const AUTO = "";  // the mode that the effort stands for at this server
const NAMES = {
  [AUTO]: "By effort", dvts: "Diverse tree search", mcts: "Monte Carlo search", xhigh: "Extra high", best_of_n: "Best of n",
};
const words = (name) => NAMES[name] ?? (name[0].toUpperCase() + name.slice(1)).replaceAll("_", " ");

/** What a level of effort stands for: {max_reasoning_tokens, mode, n}. */
function described({ max_reasoning_tokens: most, mode, n }) {
  const samples = n > 1 ? `, ${words(mode)} of ${n} samples` : "";
  return most === undefined ? null : `Thinks up to ${most} tokens${samples}`;
}

const percent = (share) => `${Math.round(100 * share)} %`;
const count = (number) => Math.round(number).toLocaleString("en");

/** What a level was measured to give and to cost; "" if it was not. */
const worth = ({ accuracy, tokens }) => (accuracy === undefined ? "" : `${percent(accuracy)} right, ${count(tokens)} tokens`);

/** A level as a row of the table of all: what it gives, what it costs, what it is. */
function row(name, level) {
  const { accuracy, low, high, tokens, max_reasoning_tokens: most, mode, n } = level;
  const interval = `${Math.round(100 * low)}–${Math.round(100 * high)}`;
  const measured = accuracy === undefined ? ["–", "–"] : [`${percent(accuracy)} (${interval})`, count(tokens)];
  const cells = [...measured, most === undefined ? "–" : count(most), n > 1 ? `${words(mode)} of ${n}` : "1"];
  return h("tr", {}, h("th", { scope: "row" }, words(name)), ...cells.map((cell) => h("td", {}, cell)));
}

function fill(select, options, preferred, changed) {
  select.replaceChildren(...options.map(([value, title]) => h("option", { value, title }, words(value))));
  const wanted = recall(select.id);
  const values = options.map(([value]) => value);
  select.value = values.includes(wanted) ? wanted : values.includes(preferred) ? preferred : values[0];
  select.onchange = () => {
    remember(select.id, select.value);
    changed();
  };
}

export class Composer {
  /** on: {ask(text, replaced), stop()}; replaced: the turn that an edited question stands for, or null */
  constructor(on) {
    this.field = $("question");
    this.isRunning = false;
    this.replaces = null;
    $("edit-cancel").onclick = () => {
      this.edit(null);
      this.field.focus();
    };
    this.field.oninput = () => this.#fit();
    this.field.onkeydown = (event) => {
      // an Enter that ends the composition of a character sends nothing
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      $("ask").requestSubmit();
    };
    $("ask").onsubmit = (event) => {
      event.preventDefault();
      const text = this.field.value.trim();
      if (!text || this.isRunning) return;
      const replaced = this.replaces;
      this.edit(null);
      this.put("");
      on.ask(text, replaced);
    };
    $("stop").onclick = () => on.stop();
    $("worths-open").onclick = () => $("worths").showModal();
    $("worths-close").onclick = () => $("worths").close();
  }

  offer(model) {
    const { measured, levels, task, num_problems: problems } = model.efforts;
    this.efforts = model.efforts;
    const changed = () => this.#showWorth();
    fill($("effort"), Object.entries(levels).map(([name, level]) => [name, described(level)]), "medium", changed);
    // where efforts are points of a measured curve they name a mode themselves, unless one is chosen
    const modes = [...(measured ? [AUTO] : []), ...model.modes];
    fill($("mode"), modes.map((name) => [name, null]), modes[0], changed);
    changed();
    $("worths-rows").replaceChildren(...Object.entries(levels).map(([name, level]) => row(name, level)));
    $("worths-what").textContent = `${model.id}, on ${problems} problems of ${task}. In brackets: 95 % intervals.`;
  }

  /** A level's measure holds for the mode that it stands for, and for no other. */
  #showWorth() {
    const { effort, mode } = this.chosen;
    const level = this.efforts.levels[effort];
    $("worth").textContent = mode === undefined || mode === level.mode ? worth(level) : "";
  }

  get chosen() {
    return { effort: $("effort").value, mode: $("mode").value || undefined };
  }

  put(text) {
    this.field.value = text;
    this.#fit();
  }

  /** Write a question again: {text, replaces, notice}; null = no more of it. */
  edit(how) {
    const was = this.replaces;
    this.replaces = how?.replaces ?? null;
    $("editing").hidden = !how;
    $("editing-what").textContent = how?.notice ?? "";
    if (how) {
      this.put(how.text);
      this.field.focus();
    } else if (was) this.put("");
  }

  /** Text that was not sent comes back, unless something new was written. */
  giveBack(text) {
    if (!this.field.value.trim()) this.put(text);
  }

  running(is) {
    const hadFocus = [$("send"), $("stop")].includes(document.activeElement);
    this.isRunning = is;
    $("send").hidden = is;
    $("stop").hidden = !is;
    if (hadFocus) this.field.focus();
  }

  focus() {
    if (matchMedia("(pointer: fine)").matches) this.field.focus();  // elsewhere it would bring up a keyboard
  }

  #fit() {
    this.field.style.height = "auto";
    this.field.style.height = `${Math.min(this.field.scrollHeight, innerHeight * 0.4)}px`;
  }
}
