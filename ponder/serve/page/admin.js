// The administrator's page: lists without contents, and raw reasoning for a reason that the server writes down first.
// The key lives in this page's memory only.

import { Api } from "./api.js";
import { $, h } from "./dom.js";

let api = null;
let responses = [];

const when = (seconds) => new Date(seconds * 1000).toLocaleString();
const words = (problem) => [h("strong", {}, problem.message), " ", problem.advice];

/** A list that a key's scopes may not allow: null then. */
async function allowed(work) {
  try {
    return await work();
  } catch (problem) {
    if (problem.status === 403) return null;
    throw problem;
  }
}

async function refresh() {
  const [found, audit] = await Promise.all([allowed(() => api.adminResponses()), allowed(() => api.audit())]);
  $("lists").hidden = $("audit").hidden = found === null;
  responses = found?.data ?? [];
  showResponses();
  $("audit-rows").replaceChildren(...(audit?.data ?? []).map((entry) => h(
    "tr", {}, h("td", {}, when(entry.created)), h("td", { class: "reason" }, entry.reason), h("td", {}, pick(entry.target)),
    h("td", {}, entry.key),
  )));
  $("audit-empty").hidden = Boolean(audit?.data.length);
  return found !== null;
}

function pick(id) {
  const choose = () => {
    $("look-id").value = id;
    $("look-reason").value = "";
    $("raw").replaceChildren();
    $("look-reason").focus();
  };
  const short = id.length > 20 ? `${id.slice(0, 16)}…` : id;
  return h("button", { type: "button", class: "chip", title: id, "aria-label": `Choose ${id}`, onclick: choose }, short);
}

function showResponses() {
  const shown = responses.filter((each) => !$("only-flagged").checked || Object.keys(each.verdicts).length);
  $("responses").replaceChildren(...shown.map((each) => {
    const badges = Object.entries(each.verdicts).map(([action, n]) => h("span", { class: `badge ${action}` }, `${n} ${action}`));
    const tokens = each.usage?.output_tokens_details.reasoning_tokens ?? 0;
    const thinking = tokens ? `${tokens} tokens, ${(each.thinking_seconds ?? 0).toFixed(1)} s` : "none";
    return h(
      "tr", {}, h("td", {}, pick(each.id)),
      h("td", {}, ...(badges.length ? badges : [h("span", { class: "muted" }, "no objection")])),
      h("td", {}, each.status), h("td", {}, when(each.created_at)), h("td", {}, each.model),
      h("td", {}, `${each.effort}, ${each.mode}`),
      h("td", {}, thinking),
    );
  }));
  $("responses-empty").hidden = shown.length > 0;
}

$("only-flagged").onchange = showResponses;
$("refresh").onclick = () => refresh().catch((problem) => $("admin-problem").replaceChildren(...words(problem)));

$("admin-form").onsubmit = async (event) => {
  event.preventDefault();
  api = new Api($("admin-key").value.trim());
  $("admin-problem").replaceChildren();
  $("raw").replaceChildren();
  try {
    const lists = await refresh();
    $("look").hidden = false;
    if (!lists) {
      $("admin-problem").append("This key may not see the lists: that needs the scope admin. With raw_cot, name a response below.");
    }
  } catch (problem) {
    $("lists").hidden = $("look").hidden = $("audit").hidden = true;
    $("admin-problem").replaceChildren(...words(problem));
  }
};

$("look-form").onsubmit = async (event) => {
  event.preventDefault();
  $("look-problem").replaceChildren();
  $("raw").replaceChildren();
  const reason = $("look-reason").value.trim();
  if (reason.length < 3) {
    $("look-problem").append("Type a reason first.");
    return;
  }
  try {
    showRaw(await api.rawReasoning($("look-id").value.trim(), reason));
    $("look-reason").value = "";  // the next look needs a reason of its own
    await refresh();
  } catch (problem) {
    $("look-problem").replaceChildren(...words(problem));
  }
};

function showRaw({ response, reasoning, verdicts }) {
  const said = verdicts.map((verdict) => h(
    "li", {}, h("span", { class: `badge ${verdict.action}` }, verdict.action),
    `${verdict.monitor}, segment ${verdict.segment + 1}${verdict.note ? `: ${verdict.note}` : ""}`,
  ));
  $("raw").replaceChildren(
    h("p", { class: "small muted" }, response),
    said.length ? h("ul", {}, ...said) : h("p", { class: "small muted" }, "No monitor objected."),
    ...(reasoning.length ? reasoning : [{ text: "", all: "" }]).map((each) => h(
      "pre", { tabindex: 0, "aria-label": "Raw reasoning" }, each.all || "(it did not think)",
    )),
  );
  $("raw").focus();
}
