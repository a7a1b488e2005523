// The events of one response, from the first to the last, however often the connection breaks in between.

import { Problem, unreachable } from "./problems.js";

const ENDS = new Set(["response.completed", "response.incomplete", "response.failed"]);
const TRIES = 8;

/** Server-sent events of a body, as they come: the JSON of each `data:`. */
export async function* parse(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;  // a half event at the end is one that did not arrive
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        if (data.length) yield JSON.parse(data.join("\n"));  // comments keep the connection alive
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * `opened`: a promise of the answer to the question, or null to take up response `id` from its beginning.
 * Returns after the last event; a Problem says why there is none.
 */
export async function follow(api, { opened, id = null, onOpen, onEvent, onLost, signal }) {
  let last = -1;
  for (let failures = 0; ;) {
    try {
      const answer = await (opened ?? api.events(id, last, signal));
      onOpen(answer);
      for await (const event of parse(answer.body)) {
        failures = 0;
        last = event.sequence_number;
        id = event.response?.id ?? id;
        onEvent(event);
        if (ENDS.has(event.type)) return;
      }
    } catch (error) {
      if (signal.aborted) throw error;
      // a refusal is final; a broken connection, or a server that starts again, is not
      if (error instanceof Problem && error.status !== 0 && error.status < 500) throw error;
      if (error instanceof Problem && id === null) throw error;
    }
    if (id === null || ++failures > TRIES) throw unreachable();
    opened = null;
    onLost(failures);
    await new Promise((resolve) => setTimeout(resolve, Math.min(8000, 250 * 2 ** failures)));
    signal.throwIfAborted();
  }
}
