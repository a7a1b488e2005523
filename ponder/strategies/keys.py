"""When two answers are the same for a vote: the rule of the verifier that the model was measured with.

    key = answer_key("math")        # a name of VERIFIERS, or module:attr; "" = math
    key("0.5") == key(r"\\frac{1}{2}")

A live vote, a stored bank and a published effort level use the same key. A live vote has no target, so an answer is
parsed as it is: what a problem's target decides (a unit that may be dropped) remains a difference here.

A key may wait seconds for a killable child process (`math`, on what it cannot parse directly), so `keys_of` computes it
in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from ponder.config import ConfigError, lookup
from ponder.grading.verifiers import VERIFIERS
from ponder.types import Message, Problem

Key = Callable[[str], str | None]
DEFAULT_VERIFIER = "math"  # where a model does not say what it was measured with

# own threads: keys that take seconds must not delay other work that waits for a thread
_THREADS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="key")


def answer_key(verifier: str = "") -> Key:
    """The key of answers to a prompt without a target."""
    check = lookup(VERIFIERS, verifier or DEFAULT_VERIFIER, what="verifier")
    key = getattr(check, "key", None)
    if not callable(key):
        raise ConfigError(
            f"verifier {verifier!r} has no key(problem, answer), which says when two answers are the same; a vote "
            f"needs one: use one of {', '.join(VERIFIERS)}, or add it"
        )
    problem = Problem(id="vote", prompt=(Message(role="user", content=""),), target="", task="vote")
    return lambda answer: key(problem, answer) if answer.strip() else None


async def keys_of(key: Key, answers: Iterable[str]) -> dict[str, str | None]:
    """The key of each answer, computed in a thread."""
    wanted = list(answers)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, lambda: {text: key(text) for text in wanted})
