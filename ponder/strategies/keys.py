"""When two answers are the same for a vote: the rule of the verifier that the model was measured with.

    key = answer_key("math")        # a name of VERIFIERS, or module:attr; "" = math
    key("0.5") == key(r"\\frac{1}{2}")

A live vote, a stored bank and a published level go by one key. A live vote has no target, so an answer is read as it
stands: what a problem's target leaves to its frame (a unit that may be dropped) stays a difference here.

A key may wait seconds for a killable child (`math` on what it cannot read at once), so `keys_of` asks in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from ponder.config import ConfigError, lookup
from ponder.grading.verifiers import VERIFIERS
from ponder.types import Message, Problem

Key = Callable[[str], str | None]
VERIFIER = "math"  # of a model that does not say what it was measured with

# its own threads: keys that take seconds must not hold up whatever else waits for a thread
_THREADS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="key")


def answer_key(verifier: str = "") -> Key:
    """The key of answers to a question without a target."""
    check = lookup(VERIFIERS, verifier or VERIFIER, what="verifier")
    key = getattr(check, "key", None)
    if not callable(key):
        raise ConfigError(
            f"verifier {verifier!r} has no key(problem, answer), which says when two answers are the same; a vote "
            f"needs one: use one of {', '.join(VERIFIERS)}, or add it"
        )
    problem = Problem(id="vote", prompt=(Message(role="user", content=""),), target="", task="vote")
    return lambda answer: key(problem, answer) if answer.strip() else None


async def keys_of(key: Key, answers: Iterable[str]) -> dict[str, str | None]:
    """The key of each answer, found in a thread."""
    wanted = list(answers)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, lambda: {text: key(text) for text in wanted})
