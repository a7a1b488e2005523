// The arena: ask, read two answers, vote, and only then see the names. What the page does not know it cannot show: the
// server sends the names with its answer to the vote.

import { Api } from "./api.js";
import { $, announce, h } from "./dom.js";
import { Login, notice } from "./login.js";
import { Markdown } from "./markdown.js";

let api = null;
let dwell = 0;  // seconds from the answers to the first vote that the server takes
let battle = null;
let timer = null;
const buttons = [...document.querySelectorAll("[data-choice]")];
const said = {
  left: "You said that A is better.", right: "You said that B is better.", tie: "You said that they are equally good.",
  both_bad: "You said that both are bad.",
};

// --- logging in ----------------------------------------------------------------------------------------------------

async function enter(key) {
  api = new Api(key);
  const { data, dwell_s } = await api.domains();
  return async () => {
    dwell = dwell_s;
    $("domain").replaceChildren(
      h("option", { value: "", disabled: true, selected: true }, "Choose one"),
      ...data.map(({ id, title }) => h("option", { value: id }, title)),
    );
    const named = /^#battle_\w+$/.test(location.hash) ? location.hash.slice(1) : null;
    if (named) await reopen(named);
    else fresh();
  };
}

const login = new Login({ enter, shut: (isLeaving) => isLeaving && fresh() });
const { failed } = login;

// --- a battle ------------------------------------------------------------------------------------------------------

function fresh() {
  clearInterval(timer);
  battle = null;
  hideNames();
  history.replaceState(null, "", location.pathname);
  notice(null);
  $("battle").hidden = $("waiting").hidden = true;
  $("ask").hidden = false;
  $("question").value = "";
  $("domain").value = "";
  $("domain").focus();
}

async function reopen(id) {
  try {
    show(await api.battle(id));
  } catch (problem) {
    fresh();
    if (problem.status !== 404) failed(problem);
  }
}

$("ask").onsubmit = async (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question || !$("domain").value || $("send").disabled) return;
  notice(null);
  $("send").disabled = true;
  $("battle").hidden = true;
  $("waiting").hidden = false;
  try {
    show(await api.askBattle($("domain").value, question));
  } catch (problem) {
    failed(problem);
  } finally {
    $("send").disabled = false;
    $("waiting").hidden = true;
  }
};

$("question").onkeydown = (event) => {
  // an Enter that ends the composition of a character sends nothing
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
};

function show(found) {
  battle = found;
  history.replaceState(null, "", `#${battle.id}`);
  $("ask").hidden = true;
  $("battle").hidden = false;
  $("asked").textContent = battle.question;
  for (const side of ["left", "right"]) {
    $(side).replaceChildren();
    const text = battle[side].text;
    if (text === null) $(side).append(h("p", { class: "muted" }, "The server does not hold this text any more."));
    else if (!text.trim()) $(side).append(h("p", { class: "muted" }, "(no answer)"));
    else new Markdown($(side)).update(text);
  }
  if (battle.vote !== null) return reveal();
  hideNames();
  wait(dwell);  // after a reload too: how long the server still waits is not known here
  announce("Two answers are there.");
  $("battle-title").focus();
}

/** Nothing on the page is left of what a vote has told. */
function hideNames() {
  $("done").hidden = true;
  $("verdict").textContent = "";
  announce("");
  for (const side of ["left", "right"]) {
    $(`${side}-name`).hidden = true;
    $(`${side}-name`).textContent = "";
    $(side).parentElement.classList.remove("chosen");
  }
  for (const button of buttons) button.removeAttribute("aria-pressed");
}

/** Nobody reads two answers in no time: the server takes no vote before. */
function wait(seconds) {
  clearInterval(timer);
  const until = performance.now() + 1000 * seconds + 100;
  const tick = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    for (const button of buttons) button.disabled = left > 0;
    $("soon").textContent = left > 0 ? "You can vote in a moment." : "";
    if (left <= 0) clearInterval(timer);
  };
  tick();
  timer = setInterval(tick, 100);
}

for (const button of buttons) {
  button.onclick = async () => {
    notice(null);
    for (const each of buttons) each.disabled = true;
    try {
      battle = await api.vote(battle.id, button.dataset.choice);
      reveal();
      $("done").focus();
    } catch (problem) {
      if (problem.code === "already_voted") return reopen(battle.id);  // in another tab
      for (const each of buttons) each.disabled = false;
      failed(problem);
    }
  };
}

function reveal() {
  clearInterval(timer);
  $("soon").textContent = "";
  for (const button of buttons) {
    button.disabled = true;
    button.setAttribute("aria-pressed", String(button.dataset.choice === battle.vote));
  }
  for (const side of ["left", "right"]) {
    $(`${side}-name`).textContent = battle.models[side];
    $(`${side}-name`).hidden = false;
    $(side).parentElement.classList.toggle("chosen", battle.vote === side);
  }
  const names = `A is ${battle.models.left}, B is ${battle.models.right}.`;
  const withdrawn = battle.withdrawn ? " The vote is withdrawn and does not count." : "";
  $("verdict").textContent = `${said[battle.vote]}${withdrawn} ${names}`;
  $("undo").hidden = battle.withdrawn;
  $("done").hidden = false;
  announce($("verdict").textContent);
}

$("undo").onclick = async () => {
  notice(null);
  try {
    battle = await api.undoVote(battle.id);
    reveal();
    $("done").focus();
  } catch (problem) {
    failed(problem);
  }
};
$("again").onclick = fresh;
$("skip").onclick = (event) => {
  event.preventDefault();  // the address names the battle
  ($("ask").hidden ? $("battle-title") : $("question")).focus();
};

login.begin();
