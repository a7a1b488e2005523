// What is known of one turn, from its events or from the stored response. Plain data; no element here.

import { failure } from "./problems.js";

/**
 * status: sending, queued, in_progress, completed, incomplete, failed or cancelled.
 * thinking: it thinks now, since a time of the server's clock. seconds: how long it thought, by the same; null = not
 * known yet.
 */
export function fresh(question, model = null) {
  return {
    id: null, question, model, status: "sending", since: null, thinking: false, thought: false, seconds: null, early: false,
    summary: [], answer: "", usage: null, problem: null,
  };
}

export const isRunning = (state) => ["sending", "queued", "in_progress"].includes(state.status);

const text = (item) => (item.content ?? []).map((part) => part.text ?? part.refusal ?? "").join("");

/** Items of the API into a state: a reasoning item, messages of the assistant. */
function take(state, items) {
  state.summary = [];
  const answers = [];
  for (const item of items) {
    if (item.type === "reasoning") {
      state.thought = true;
      state.seconds = item.thinking_seconds ?? state.seconds;
      state.summary.push(...item.summary.map((part) => part.text));
    } else if (item.type === "message") {
      answers.push(text(item));
    } else if (item.type === "function_call") {
      answers.push(`Calls ${item.name}(${item.arguments})`);  // of another client of the same conversation
    }
  }
  state.answer = answers.join("\n\n");
}

/** A stored response, as the list of a conversation's responses has it. */
export function fromResponse(response) {
  const asked = (response.input ?? []).filter((item) => item.type === "message" && item.role === "user");
  const state = fresh(asked.map(text).join("\n\n"));
  finish(state, response);
  return state;
}

/** Turns from bare items: what is in a conversation, and no stored response covers. */
export function fromItems(items) {
  const turns = [];
  for (const item of items) {
    if (item.type === "message" && item.role !== "assistant") {
      if (item.role === "user") turns.push([text(item), []]);
    } else {
      if (!turns.length) turns.push(["", []]);
      turns.at(-1)[1].push(item);
    }
  }
  return turns.map(([question, rest]) => {
    const state = { ...fresh(question), status: "completed" };
    take(state, rest);
    return state;
  });
}

function finish(state, response) {
  head(state, response);
  take(state, response.output);
  if (isRunning(state)) return;
  state.thinking = false;
  state.early = Boolean(response.compute?.answered_early);
  state.usage = response.usage;
  if (response.status === "failed") state.problem = failure(response.error);
}

function head(state, response) {
  state.id = response.id;
  state.status = response.status;
  state.model = response.model;
}

/** One event of a stream. */
export function apply(state, event) {
  switch (event.type) {
    case "response.created":
    case "response.queued":
    case "response.in_progress":
      return head(state, event.response);
    case "response.output_item.added":
      if (event.item.type === "reasoning") {
        state.thinking = state.thought = true;
        state.since = event.item.thinking_since ?? null;
      }
      if (event.item.type === "message" && state.answer) state.answer += "\n\n";
      return;
    case "response.reasoning_summary_text.done":
      return void state.summary.push(event.text);
    case "response.output_item.done":
      if (event.item.type === "reasoning") {
        state.thinking = false;
        state.seconds = event.item.thinking_seconds ?? null;
      }
      return;
    case "response.output_text.delta":
      state.answer += event.delta;
      return;
    case "response.completed":
    case "response.incomplete":
    case "response.failed":
      return finish(state, event.response);  // the whole of it: whatever was missed on the way is there
  }
}

export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 1) return "less than a second";
  if (whole < 60) return `${whole} s`;
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** {title, body} of a summary's part: "**Title**\n\nbody". */
export function part(summary) {
  const match = /^\*\*(.{1,200}?)\*\*\s*(.*)$/s.exec(summary.trim());
  return match ? { title: match[1], body: match[2] } : { title: "", body: summary.trim() };
}
