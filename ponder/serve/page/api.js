// Calls to the server. Every one carries the key in a header; every failure is a Problem that can be shown.

import { problemOf, refusal, unreachable } from "./problems.js";

const one = encodeURIComponent;

export class Api {
  constructor(key) {
    this.key = key;
  }

  /** The open answer, 2xx. */
  async open(method, path, body, signal) {
    if (!/^[\x21-\x7e]+$/.test(this.key)) throw problemOf(401);  // no header could carry it
    const headers = { authorization: `Bearer ${this.key}` };
    if (body !== undefined) headers["content-type"] = "application/json";
    let response;
    try {
      response = await fetch(path, {
        method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
        credentials: "omit", cache: "no-store", redirect: "error",
      });
    } catch (error) {
      throw error.name === "AbortError" ? error : unreachable();
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }

  async call(method, path, body, signal) {
    const response = await this.open(method, path, body, signal);
    try {
      return await response.json();
    } catch (error) {
      throw error.name === "AbortError" ? error : unreachable();
    }
  }

  async models() {
    const { data, show_reasoning: shows } = await this.call("GET", "/v1/models");
    this.showsReasoning = shows === true;  // the operator shows it to this key
    return data;
  }

  conversations(after) {
    return this.call("GET", `/v1/conversations?limit=50${after ? `&after=${one(after)}` : ""}`);
  }

  newConversation(metadata) {
    return this.call("POST", "/v1/conversations", { metadata });
  }

  conversation(id, signal) {
    return this.call("GET", `/v1/conversations/${one(id)}`, undefined, signal);
  }

  /** change: {title} or {model} */
  update(conversation, change) {
    return this.call("POST", `/v1/conversations/${one(conversation.id)}`, { metadata: { ...conversation.metadata, ...change } });
  }

  /** All of a list that comes in pages. */
  async all(path, signal) {
    const found = [];
    for (let after = ""; ;) {
      const page = await this.call("GET", `${path}limit=100${after && `&after=${one(after)}`}`, undefined, signal);
      found.push(...page.data);
      if (!page.has_more) return found;
      after = page.last_id;
    }
  }

  responses(id, signal) {
    return this.all(`/v1/conversations/${one(id)}/responses?`, signal);
  }

  items(id, signal) {
    return this.all(`/v1/conversations/${one(id)}/items?order=asc&`, signal);
  }

  /** A conversation with everything that was produced in it. */
  async deleteConversation(id) {
    for (const response of await this.responses(id)) await this.deleteResponse(response.id);
    await this.call("DELETE", `/v1/conversations/${one(id)}`);
  }

  /** In the background, so that a reload or a lost connection loses nothing. */
  ask({ conversation, model, input, effort, mode }, signal) {
    const body = {
      conversation, model, input, background: true, stream: true, store: true, reasoning: { effort, mode, summary: "auto" },
    };
    return this.open("POST", "/v1/responses", body, signal);
  }

  /** The events of a response after number `after`, also of one that runs. */
  events(id, after, signal) {
    return this.open("GET", `/v1/responses/${one(id)}?stream=true&starting_after=${after}`, undefined, signal);
  }

  /** The raw reasoning of one's own response, where the operator shows it. */
  async reasoning(id) {
    return (await this.call("GET", `/v1/responses/${one(id)}/reasoning`)).reasoning.map(({ text }) => text).join("\n\n");
  }

  deleteResponse(id) {
    return this.call("DELETE", `/v1/responses/${one(id)}`);
  }

  stop(id) {
    return this.call("POST", `/v1/responses/${one(id)}/cancel`);
  }

  answerNow(id) {
    return this.call("POST", `/v1/responses/${one(id)}/finish`);
  }

  // --- the arena

  domains() {
    return this.call("GET", "/arena/domains");
  }

  askBattle(domain, question) {
    return this.call("POST", "/arena/battles", { domain, question });
  }

  battle(id) {
    return this.call("GET", `/arena/battles/${one(id)}`);
  }

  vote(id, choice) {
    return this.call("POST", `/arena/battles/${one(id)}/vote`, { choice });
  }

  undoVote(id) {
    return this.call("POST", `/arena/battles/${one(id)}/undo`);
  }

  // --- with the scopes admin and raw_cot

  adminResponses() {
    return this.call("GET", "/admin/responses?limit=200");
  }

  audit() {
    return this.call("GET", "/admin/audit?limit=50");
  }

  rawReasoning(id, reason) {
    return this.call("POST", `/admin/responses/${one(id)}/reasoning`, { reason });
  }
}
