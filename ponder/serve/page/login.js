// The key: the form that asks for it, what is remembered of it, and what every page says of a failure.

import { $, h } from "./dom.js";
import * as keys from "./keys.js";

const words = (problem) => (problem ? [h("strong", {}, problem.message), " ", problem.advice] : []);

export class Login {
  /**
   * on: {enter(key), shut(isLeaving)}. `enter` tries the key, fails with a Problem where it is refused, and returns what
   * shows the page; `shut` ends what the page was doing, and with isLeaving what it had shown.
   */
  constructor(on) {
    this.on = on;
    $("key-form").onsubmit = async (event) => {
      event.preventDefault();
      const key = $("key").value.trim();
      await this.#enter(key, () => keys.keep(key, { remember: $("remember").checked }));
    };
    $("leave").onclick = () => {
      keys.forget();
      this.ask(null, { isLeaving: true });
    };
  }

  /** With the key that is remembered, if there is one. */
  begin() {
    const known = keys.load();
    if (known) this.#enter(known, () => {});
    else this.ask(null);
  }

  async #enter(key, accepted) {
    try {
      const show = await this.on.enter(key);
      accepted();
      $("login").hidden = true;
      $("main").hidden = false;
      $("key").value = "";
      await show();
    } catch (problem) {
      this.ask(problem);
    }
  }

  ask(problem, { isLeaving = false } = {}) {
    this.on.shut(isLeaving);
    $("main").hidden = true;
    $("login").hidden = false;
    $("key-problem").replaceChildren(...words(problem));
    $("key").focus();
  }

  /** A problem where it can be seen: a key that is no longer accepted leads back to the form. */
  failed = (problem) => {
    if (problem.name === "AbortError") return;
    if (problem.status === 401) {
      keys.forget();
      this.ask(problem);
    } else if (problem.advice) notice(problem);
    else throw problem;  // a bug of this page
  };
}

export function notice(problem) {
  $("notice").hidden = !problem;
  $("notice").replaceChildren(...words(problem));
}
