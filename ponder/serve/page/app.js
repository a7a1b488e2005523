// The page: which conversation is shown, what runs in it, and what the keys do. The parts are in the other files.

import { Api } from "./api.js";
import { Composer } from "./composer.js";
import { $, announce } from "./dom.js";
import { follow } from "./follow.js";
import { Login, notice } from "./login.js";
import { ModelPicker } from "./models.js";
import { Problem } from "./problems.js";
import { Side } from "./side.js";
import { apply, fresh, fromItems, fromResponse, isRunning } from "./state.js";
import { Turn } from "./turn.js";

let api, side;
let current = { id: null, turns: [], leave: new AbortController() };  // the conversation that is shown
let run = null;  // {turn}: what is being answered in it

const composer = new Composer({ ask: send, stop });
const models = new ModelPicker({ chosen: keepModel, shown: (model) => composer.offer(model) });
const on = { answerNow, again, regenerate, edit, reasoning: null };

// --- logging in ----------------------------------------------------------------------------------------------------

async function enter(key) {
  api = new Api(key);
  const served = await api.models();
  return async () => {
    on.reasoning = api.showsReasoning ? reasoning : null;
    models.offer(served);
    side = new Side(api, {
      failed,
      renamed: (conversation) => conversation.id === current.id && showTitle(conversation),
      deleted: (id) => id === current.id && show(null),
    });
    await side.load();
    await show(named());
  };
}

function shut(isLeaving) {
  current.leave.abort();
  run = null;
  if (isLeaving) history.replaceState(null, "", location.pathname);
}

const login = new Login({ enter, shut });
const { failed } = login;

// --- the conversation ----------------------------------------------------------------------------------------------

const named = () => (/^#conv_\w+$/.test(location.hash) ? location.hash.slice(1) : null);

function showTitle(conversation) {
  $("title").textContent = conversation ? conversation.metadata?.title || "Untitled" : "New conversation";
  document.title = conversation ? `${$("title").textContent} · ponder` : "ponder";
}

/** Another conversation, or none. What runs in the one before goes on at the server. */
async function show(id) {
  current.leave.abort();
  current = { id, turns: [], leave: new AbortController() };
  run = null;
  if (named() !== id) history.pushState(null, "", id ? `#${id}` : location.pathname);
  composer.running(false);
  composer.edit(null);
  notice(null);
  $("turns").replaceChildren();
  $("blank").hidden = id !== null;
  side.mark(id);
  showTitle(id && side.find(id));
  models.use(side.find(id)?.metadata?.model);
  composer.focus();
  if (id === null) return;
  const here = current;
  try {
    const [conversation, responses, items] = await Promise.all([
      api.conversation(id, here.leave.signal), api.responses(id, here.leave.signal), api.items(id, here.leave.signal),
    ]);
    if (here !== current) return;
    showTitle(conversation);
    models.use(conversation.metadata?.model, responses.at(-1)?.model);
    fill(responses, items);
  } catch (problem) {
    failed(problem);
  }
}

/** A model that a person chose is its conversation's from then on. */
async function keepModel({ id: model }) {
  const { id } = current;
  if (id === null) return;
  try {
    const conversation = side.find(id) ?? (await api.conversation(id));
    Object.assign(conversation, await api.update(conversation, { model }));
  } catch (problem) {
    failed(problem);
  }
}

function fill(responses, items) {
  const covered = new Set(responses.flatMap((response) => [...response.input, ...response.output].map((item) => item.id)));
  const earlier = fromItems(items.filter((item) => !covered.has(item.id)));
  for (const state of [...earlier, ...responses.map(fromResponse)]) add(state);
  const last = current.turns.at(-1);
  if (last && isRunning(last.state)) answer(last, null);
  bottom(true);
}

function add(state) {
  const turn = new Turn(state, { model: models.current.id, namesModel: models.isOpen, on });
  current.turns.push(turn);
  $("turns").append(turn.root);
  $("blank").hidden = true;
  return turn;
}

/** Stay at the end of the text, unless somebody has scrolled up to read. */
let isAtEnd = true;
$("log").onscroll = () => (isAtEnd = $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 60);
function bottom(always) {
  if (always || isAtEnd) $("log").scrollTop = $("log").scrollHeight;
}

// --- asking --------------------------------------------------------------------------------------------------------

async function ask(text) {
  notice(null);
  const here = current;
  const model = models.current.id;
  const turn = add(fresh(text, model));
  run = { turn };
  composer.running(true);
  bottom(true);
  try {
    if (here.id === null) {
      const title = text.replace(/\s+/g, " ").slice(0, 80);
      const conversation = await api.newConversation(models.isOpen ? { title, model } : { title });
      side.add(conversation);
      if (here !== current) return;
      here.id = conversation.id;
      history.pushState(null, "", `#${here.id}`);
      side.mark(here.id);
      showTitle(conversation);
    }
    const request = { conversation: here.id, model, input: text, ...composer.chosen };
    await answer(turn, api.ask(request, here.leave.signal));
  } catch (problem) {
    if (here !== current) return;
    run = null;
    composer.running(false);
    turn.root.remove();
    current.turns.pop();
    $("blank").hidden = current.turns.length > 0;
    composer.giveBack(text);
    failed(problem);
  }
}

/** Follow a response to its end; `opened` is null for one that ran already when the page was loaded. */
async function answer(turn, opened) {
  const here = current;
  if (run?.turn !== turn) run = { turn };  // it may have been stopped already
  composer.running(true);
  const id = turn.state.id;
  if (opened === null) turn.state = { ...fresh(turn.state.question), id, status: "queued" };
  try {
    await follow(api, {
      opened, id, signal: here.leave.signal,
      onOpen: (response) => {
        turn.clock(response.headers.get("x-ponder-time"));
        turn.lost = false;
      },
      onEvent: (event) => {
        const before = { ...turn.state };
        apply(turn.state, event);
        if (run?.turn === turn && run.stopped && turn.state.id) stop();
        draw(turn);
        if (before.thinking !== turn.state.thinking || !isRunning(turn.state)) later(() => turn.announceChange(before));
      },
      onLost: () => {
        turn.lost = true;
        draw(turn);
      },
    });
  } catch (problem) {
    if (here !== current) return;
    if (turn.state.id === null || !(problem instanceof Problem)) throw problem;
    turn.state.status = "failed";
    turn.state.thinking = false;
    turn.state.problem = problem;
    draw(turn);
    if (problem.status === 401) failed(problem);
  }
  if (here === current && run?.turn === turn) {
    run = null;
    composer.running(false);
  }
}

/** Many events, one drawing: a stream may bring hundreds a second. */
let waiting = new Set();
function draw(turn) {
  if (!waiting.size) {
    setTimeout(() => {
      const turns = waiting;
      waiting = new Set();
      turns.forEach((each) => each.show());
      bottom(false);
    }, 40);
  }
  waiting.add(turn);
}
const later = (work) => setTimeout(work, 60);  // after the drawing

setInterval(() => run?.turn.tick(), 250);

async function stop() {
  if (!run) return;
  const { turn } = run;
  if (turn.state.id === null) {
    run.stopped = true;  // as soon as the server has named it
    return;
  }
  run.stopped = false;
  try {
    await api.stop(turn.state.id);
  } catch (problem) {
    failed(problem);
  }
}

async function answerNow(turn) {
  turn.answerNowButton.disabled = true;
  announce("Asked for the answer now");
  try {
    await api.answerNow(turn.state.id);
  } catch (problem) {
    turn.answerNowButton.disabled = false;
    failed(problem);
  }
}

function again(turn) {
  if (run) return;
  if (turn.state.problem?.status === 0 && turn.state.id) answer(turn, null);  // it goes on at the server: look again
  else ask(turn.state.question);
}

// --- asking again --------------------------------------------------------------------------------------------------

/** Take a turn and those after it out of the conversation, here and at the server. */
async function takeBack(turn) {
  const gone = current.turns.slice(current.turns.indexOf(turn));
  for (const each of gone.reverse()) {
    if (each.state.id !== null) await api.deleteResponse(each.state.id);
    each.root.remove();
    current.turns.pop();
  }
}

async function regenerate(turn) {
  if (run || current.turns.at(-1) !== turn) return;
  const question = turn.state.question;
  try {
    await takeBack(turn);
    await ask(question);
  } catch (problem) {
    failed(problem);
  }
}

/** The question goes back to be written again; what it replaces stays until the new one is sent. */
function edit(turn) {
  if (run) return;
  const after = current.turns.length - 1 - current.turns.indexOf(turn);
  const too = after ? ` and the ${after === 1 ? "turn" : `${after} turns`} after it` : "";
  composer.edit({ text: turn.state.question, replaces: turn, notice: `Sending replaces this question${too}.` });
}

async function send(text, replaced) {
  try {
    if (replaced && current.turns.includes(replaced)) await takeBack(replaced);
  } catch (problem) {
    composer.giveBack(text);
    return failed(problem);
  }
  await ask(text);
}

async function reasoning(turn) {
  try {
    return await api.reasoning(turn.state.id);
  } catch (problem) {
    failed(problem);
    return null;
  }
}

// --- the keyboard --------------------------------------------------------------------------------------------------

$("skip").onclick = (event) => {
  event.preventDefault();  // the address names the conversation, not a part of it
  $("question").focus();
};
$("new").onclick = () => {
  side.drawer(false);
  show(null);
};
addEventListener("hashchange", () => side && named() !== current.id && show(named()));
addEventListener("popstate", () => side && named() !== current.id && show(named()));
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]") || event.isComposing) return;
  if (side?.isOpen) side.drawer(false);
  else if (run) stop();
});

login.begin();
