"""Requests and tokens a minute, a key: token buckets. Tokens are reserved before the request runs, at the most that it
may take, and what was not used is given back; a request that is refused after it made work gives nothing back.
In memory: a restart empties the counts."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from ponder.serve.errors import ApiError


@dataclass
class Bucket:
    """A token bucket that begins full. `level` is what it holds at the monotonic time `at`, and may fall below 0."""

    per_minute: int
    level: float = field(init=False)
    at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.level = float(self.per_minute)

    def refill(self) -> None:
        """Add what has come since `at`, up to one minute's worth."""
        now = time.monotonic()
        self.level = min(self.per_minute, self.level + (now - self.at) * self.per_minute / 60)
        self.at = now

    def wait(self, amount: float) -> float:
        """Seconds until so much is there."""
        return max(0.0, (min(amount, self.per_minute) - self.level) * 60 / self.per_minute)


class Limiter:
    """Two buckets for each key, one of requests and one of tokens. For one event loop."""

    def __init__(self, requests_per_minute: int, tokens_per_minute: int) -> None:
        self._requests_per_minute, self._tokens_per_minute = requests_per_minute, tokens_per_minute
        self._buckets: dict[str, tuple[Bucket, Bucket]] = {}

    def _of(self, key_id: str) -> tuple[Bucket, Bucket]:
        if key_id not in self._buckets:
            self._buckets[key_id] = Bucket(self._requests_per_minute), Bucket(self._tokens_per_minute)
        requests, tokens = self._buckets[key_id]
        requests.refill()
        tokens.refill()
        return requests, tokens

    def request(self, key_id: str) -> None:
        """Count one request. Raises ApiError 429, with `retry-after` in seconds."""
        requests, _ = self._of(key_id)
        if requests.level < 1:
            raise self._refused(key_id, "requests", requests, 1)
        requests.level -= 1

    def reserve(self, key_id: str, num_tokens: int) -> int:
        """Take the most that a request may use; returns what to `settle`."""
        _, tokens = self._of(key_id)
        amount = min(num_tokens, tokens.per_minute)  # one request may take a whole minute's worth, never more
        if tokens.level < amount:
            raise self._refused(key_id, "tokens", tokens, amount)
        tokens.level -= amount
        return amount

    def most(self, num_tokens: int) -> int:
        """What `reserve` would take of so many."""
        return min(num_tokens, self._tokens_per_minute)

    def settle(self, key_id: str, reserved: int, used: int) -> None:
        """Give back what was reserved and not used. Where more was used, the bucket may fall below 0."""
        _, tokens = self._of(key_id)
        tokens.level = min(tokens.per_minute, tokens.level + reserved - used)

    def headers(self, key_id: str) -> dict[str, str]:
        """OpenAI's `x-ratelimit-*` headers; reset is the time until the bucket is full again."""
        requests, tokens = self._of(key_id)
        headers = {}
        for name, bucket in (("requests", requests), ("tokens", tokens)):
            headers[f"x-ratelimit-limit-{name}"] = str(bucket.per_minute)
            headers[f"x-ratelimit-remaining-{name}"] = str(max(0, int(bucket.level)))
            headers[f"x-ratelimit-reset-{name}"] = _duration(bucket.wait(bucket.per_minute))
        return headers

    def _refused(self, key_id: str, what: str, bucket: Bucket, amount: float) -> ApiError:
        wait = max(1, math.ceil(bucket.wait(amount)))
        return ApiError(
            429,
            f"Rate limit reached for {what}: limit {bucket.per_minute} a minute. Please try again in {wait}s.",
            code="rate_limit_exceeded",
            kind=what,
            headers={**self.headers(key_id), "retry-after": str(wait)},
        )


CHARACTERS = 4  # a token, where it is charged before it is counted


class Charge:
    """What one request has reserved so far: more before each piece of work, and settled when its cost is known."""

    def __init__(self, limiter: Limiter, key_id: str) -> None:
        self._limiter, self._key_id, self._reserved = limiter, key_id, 0

    def cover(self, num_characters: int) -> None:
        """Hold the tokens of a text before they are counted: one for every `CHARACTERS` characters, rounded up."""
        self.reserve(math.ceil(num_characters / CHARACTERS))

    def reserve(self, num_tokens: int) -> None:
        """Hold so many in all; raises ApiError where there are not so many, and keeps what it has."""
        more = self._limiter.most(num_tokens) - self._reserved
        if more > 0:
            self._reserved += self._limiter.reserve(self._key_id, more)

    def settle(self, used: int) -> None:
        """Give back all but `used` tokens; nothing is reserved afterwards."""
        self._limiter.settle(self._key_id, self._reserved, used)
        self._reserved = 0


def _duration(seconds: float) -> str:
    """1s, 6m0s"""
    whole = math.ceil(seconds)
    return f"{whole // 60}m{whole % 60}s" if whole >= 60 else f"{whole}s"
