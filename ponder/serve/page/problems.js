// What went wrong, in words, and what to do about it.

/** status: of HTTP, 0 if no answer came. advice: what a person can do. */
export class Problem extends Error {
  constructor(status, code, message, advice) {
    super(message);
    Object.assign(this, { status, code, advice });
  }
}

const BY_CODE = {
  context_length_exceeded: "Start a new conversation, or ask something shorter.",
  model_not_found: "The server was started with another model. Reload the page.",
  misalignment_policy_violation: "A monitor of this server stopped the answer. Ask in another way.",
  held_for_review: "A monitor of this server holds the answer until a person has looked at it.",
  model_failed: "Choose another model, if there is one.",
  unsupported_value: "Choose another effort or mode.",
  too_soon: "Then vote.",
  conflict: "Wait for the answer that is being given, or stop it.",
};

const BY_STATUS = {
  401: ["This key is not accepted.", "Check that all of it is there. A key that was revoked works no longer."],
  404: ["That is not here any more.", "It may have been deleted. Choose another conversation."],
  413: ["That is too long.", "Ask something shorter."],
  429: ["Too many requests.", "Wait a little, then try again."],
  503: ["The server is busy or shutting down.", "Wait a little, then try again."],
};

export function problemOf(status, { code = null, message, wait = 0 } = {}) {
  if (status === 403) return new Problem(403, code, "This key may not do that.", message ?? "Use another key.");
  const [words, advice] = code === "model_failed" ? [] : BY_STATUS[status] ?? [];
  const soon = wait > 0 ? `Try again in ${Math.ceil(wait)} s.` : null;
  return new Problem(
    status, code, words ?? message ?? `The server answered ${status}.`,
    BY_CODE[code] ?? soon ?? advice ?? "Try again.",
  );
}

/** From an answer of the server that is not 2xx. */
export async function refusal(response) {
  let error = {};
  try { error = (await response.json()).error ?? {}; } catch { /* not ours: a proxy between */ }
  return problemOf(response.status, { ...error, wait: Number(response.headers.get("retry-after")) });
}

export const unreachable = () => new Problem(
  0, "unreachable", "The server cannot be reached.", "Is `ponder serve` still running? Check the connection, then try again.",
);

/** Of a response that failed while it was made: {code, message}. */
export const failure = (error) => new Problem(
  200, error?.code ?? null, error?.message ?? "The answer failed.", BY_CODE[error?.code] ?? "",
);
