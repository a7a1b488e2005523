// Where a question is written, and how much the model may think about it.

import { $, h } from "./dom.js";

const AUTO = "";  // the mode that the effort stands for at this server
const words = (name) => (name === AUTO ? "By effort" : (name[0].toUpperCase() + name.slice(1)).replaceAll("_", " "));

/** What a level of effort stands for: {max_reasoning_tokens, mode, n}. */
function told({ max_reasoning_tokens: most, mode, n }) {
  const samples = n > 1 ? `, ${words(mode)} of ${n} samples` : "";
  return most === undefined ? null : `Thinks up to ${most} tokens${samples}`;
}

function remembered(name) {
  try { return localStorage.getItem(`ponder.${name}`); } catch { return null; }
}

function fill(select, options, preferred) {
  select.replaceChildren(...options.map(([value, title]) => h("option", { value, title }, words(value))));
  const wanted = remembered(select.id);
  const values = options.map(([value]) => value);
  select.value = values.includes(wanted) ? wanted : values.includes(preferred) ? preferred : values[0];
  select.onchange = () => {
    try { localStorage.setItem(`ponder.${select.id}`, select.value); } catch { /* a browser that keeps nothing */ }
  };
}

export class Composer {
  /** on: {ask(text), stop()} */
  constructor(on) {
    this.field = $("question");
    this.isRunning = false;
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
      this.put("");
      on.ask(text);
    };
    $("stop").onclick = () => on.stop();
  }

  offer(model) {
    const { measured, levels } = model.efforts;
    fill($("effort"), Object.entries(levels).map(([name, level]) => [name, told(level)]), "medium");
    // where efforts are points of a measured curve they name a mode themselves, unless one is chosen
    const modes = [...(measured ? [AUTO] : []), ...model.modes];
    fill($("mode"), modes.map((name) => [name, null]), modes[0]);
  }

  get chosen() {
    return { effort: $("effort").value, mode: $("mode").value || undefined };
  }

  put(text) {
    this.field.value = text;
    this.#fit();
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
