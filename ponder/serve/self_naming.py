"""Whether an answer says who wrote it: "I am SmolLM", "as an assistant trained by ...".

A blind comparison keeps such an answer as it is and flags it. Cutting it out would change what is judged, and leaving
out whatever holds a maker's name would favour models that say less; so ratings are shown with and without the flagged.
The rule asks for a statement about the speaker: "Google was founded in 1998" is none. What it misses, a voter may know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_MAKERS = (
    "openai|anthropic|google|deepmind|meta(?: ai)?|mistral(?: ai)?|alibaba(?: cloud)?|microsoft|hugging ?face|deepseek|"
    "cohere|x\\.?ai|nvidia|moonshot(?: ai)?|zhipu(?: ai)?"
)
_NAMES = (
    "chat ?gpt|gpt[- ]?\\d\\S*|claude|gemini|bard|palm|llama|vicuna|alpaca|mi[sx]tral|qwen\\S*|tongyi|phi-\\d\\S*|"
    "gemma|deepseek\\S*|smollm\\S*|grok|kimi|glm\\S*|command[- ]r\\S*|ponder"
)
_MADE = "(?:trained|made|built|created|developed|designed)"
_RULES = (
    rf"\b(?:i am|i'm|i’m|this is|my name is|call me) (?:called |named |an? |the )?(?:{_NAMES})\b",
    rf"\b(?:i am|i'm|i’m|as) an? [^.!?\n]{{0,60}}?\b{_MADE} by\b",
    rf"\b(?:i was|i am|i'm|i’m|i have been|my creators?|my developers?)\b[^.!?\n]{{0,40}}\b{_MADE} by\b",
    rf"\b(?:my (?:creators?|developers?|makers?)|who (?:made|created|trained) me)\b[^.!?\n]{{0,30}}\b(?:{_MAKERS})\b",
    rf"\bas an? (?:{_NAMES})\b",
)
_SAYS_SO = re.compile("|".join(_RULES), re.IGNORECASE)


def names_itself(answer: str, served: Iterable[str]) -> bool:
    """served: the names of this server's models; each of them, as a word, is a giveaway too."""
    names = [re.escape(name) for name in served if len(name) > 2]
    is_named = bool(names) and re.search(rf"(?<!\w)(?:{'|'.join(names)})(?!\w)", answer, re.IGNORECASE) is not None
    return is_named or _SAYS_SO.search(answer) is not None
