"""The short way out of a form: what closes an open answer, so that it is whole before its budget ends.

    closing = Closing(matcher_over_bytes, pieces=..., tokenized=..., end_id=257)
    closing.steered(token, room=12)    # the drawn token, or where time is up the next one of the short way

Before a drawn token is taken, the bytes that would close the answer after it are found by walking: `"` ends a string,
`}` and `]` what is open, a value is `0` or `null`, and so on. If they and the end mark do not fit into what is left of
the budget, the short way begins. So an answer that fits its budget at its start ends whole. The walk prefers and does
not search: a string whose pattern takes a clever ending, or a recursion with no plain way out, may get none, and then
the budget cuts it as it would without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from llguidance import LLMatcher

_OUTSIDE = b'0123456789nft"[{-.'  # what goes on outside of strings, the shortest first
_INSIDE = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 "
_STRUCTURE = frozenset(b'"{}[],:\\')
_MAX_CHOICES = 1000  # of one walk: 15 ms
_MAX_FAILURES = 4
_MAX_TOKENS = 500  # tokens
_MARGIN = 16  # tokens: nearer to the end every token is looked at


class Closing:
    """Of one answer. `matcher` reads bytes, and is where the answer is; `tokenized` spells bytes in tokens."""

    def __init__(
        self, matcher: LLMatcher, *, pieces: Sequence[bytes | None], tokenized: Callable[[bytes], list[int]],
        end_id: int,
    ) -> None:  # fmt: skip
        self._matcher, self._pieces, self._tokenized, self._end_id = matcher, pieces, tokenized, end_id
        self._quotes = _Quotes()
        self._way: list[int] | None = None  # the tokens of the short way, the end mark with them; None: not known
        self._num_failures = 0

    def steered(self, token: int, *, room: int, is_free: bool = True) -> int:
        """The token to take. room: tokens left in the budget, this one and the end mark among them. is_free: there was
        another one."""
        piece = self._pieces[token]
        if piece is None or self._num_failures >= _MAX_FAILURES:  # a mark can only be the end
            return token
        way = self._way
        is_far = way is not None and room > len(way) + _MARGIN and _STRUCTURE.isdisjoint(piece)
        if is_far or not is_free:  # inside a string or a number the way stays about as long
            self._take(piece)
            self._way = way if is_far else way[1:] if way and way[0] == token else None
            return token
        before = self._walk() if way is None or room > len(way) + _MARGIN else way
        quotes = self._quotes
        self._take(piece)
        self._way = self._walk()
        if self._way is not None and len(self._way) < room:
            return token
        if self._way is None or before is None or len(before) > room:  # none is found, or it never fitted
            self._num_failures += 1
            return token
        self._matcher.rollback(len(piece))
        self._quotes, self._way = quotes, before[1:]
        self._take(self._pieces[before[0]] or b"")
        return before[0]

    def _take(self, piece: bytes) -> None:
        if self._matcher.try_consume_tokens(list(piece)) < len(piece):
            self._num_failures = _MAX_FAILURES  # a limit of the matcher's
        self._quotes = self._quotes.after(piece)

    def _walk(self) -> list[int] | None:
        """The way out from here; the matcher is where it was afterwards."""
        matcher, quotes, way, used = self._matcher, self._quotes, bytearray(), Counter[int]()
        num_choices = 0
        while not matcher.is_accepting() and num_choices < _MAX_CHOICES:
            step = matcher.compute_ff_bytes()
            if not step:
                num_choices += 1
                allowed = np.flatnonzero(
                    np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), count=256, bitorder="little")
                )
                if matcher.is_error() or not len(allowed):
                    break
                step = bytes([_chosen(frozenset(allowed.tolist()), quotes, used)])
            if matcher.try_consume_tokens(list(step)) < len(step):
                break
            way += step
            quotes = quotes.after(step)
            used = Counter() if step[-1] in _STRUCTURE else used + Counter(step)
        is_whole = matcher.is_accepting()
        if matcher.is_error():
            self._num_failures = _MAX_FAILURES
            return None
        matcher.rollback(len(way))
        if not is_whole:
            return None
        ids = self._tokenized(bytes(way))
        is_spelled = b"".join(self._pieces[token] or b"" for token in ids) == way
        return [*ids, self._end_id] if is_spelled and len(ids) < _MAX_TOKENS else None


class _Quotes:
    """Whether a text of JSON is inside a string, and after a backslash there."""

    def __init__(self, inside: bool = False, escaped: bool = False) -> None:
        self.inside, self.escaped = inside, escaped

    def after(self, text: bytes) -> _Quotes:
        inside, escaped = self.inside, self.escaped
        for byte in text:
            if escaped:
                escaped = False
            elif byte == ord('"'):
                inside = not inside
            else:
                escaped = inside and byte == ord("\\")
        return _Quotes(inside, escaped)


def _chosen(allowed: frozenset[int], quotes: _Quotes, used: Counter[int]) -> int:
    """What closes, or else goes on; of what goes on the least used, so that no string goes round in one place."""
    for byte in b'"' if quotes.inside else b"}],":
        if byte in allowed:
            return byte
    order = _INSIDE if quotes.inside else _OUTSIDE
    known = [byte for byte in order if byte in allowed]
    return min(known, key=lambda byte: used[byte]) if known else min(allowed)
