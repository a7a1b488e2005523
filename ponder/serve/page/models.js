// Which model answers: one of those that are served. A conversation keeps its own; a new one begins with the last chosen.

import { $, h } from "./dom.js";
import { recall, remember } from "./remember.js";

export class ModelPicker {
  /** on: {chosen(model), shown(model)}: chosen by a person; shown, by whomever. */
  constructor(on) {
    this.on = on;
    this.models = [];
    $("model-choice").onchange = () => {
      remember("model", this.current.id);
      on.shown(this.current);
      on.chosen(this.current);
    };
  }

  /** There is something to choose. */
  get isOpen() {
    return this.models.length > 1;
  }

  get current() {
    return this.models.find((model) => model.id === $("model-choice").value) ?? this.models[0];
  }

  offer(models) {
    this.models = models;
    $("model").hidden = this.isOpen;
    $("model").textContent = models[0].id;
    $("model-pick").hidden = !this.isOpen;
    $("model-choice").replaceChildren(...models.map(({ id }) => h("option", { value: id }, id)));
    this.use();
  }

  /** The first of these names that is served, else the one that was chosen last. */
  use(...names) {
    const served = new Set(this.models.map((model) => model.id));
    $("model-choice").value = [...names, recall("model"), this.models[0].id].find((name) => served.has(name));
    this.on.shown(this.current);
  }
}
