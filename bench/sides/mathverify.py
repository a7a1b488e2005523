"""math-verify as a contender: `parse` both, then `verify`, with its own time limits (without them a tower of powers
never returns). It has no third verdict: what raises counts as wrong."""

from __future__ import annotations

from typing import Any

from link import Job, serve


def load(config: Job) -> Any:
    from math_verify import parse, verify

    def check(target: str, text: str) -> str:
        try:
            return "correct" if verify(parse(target), parse(text)) else "wrong"
        except Exception:
            return "wrong"

    def answer(job: Job) -> Job:
        verdicts = [check(target, text) for target, text in job["pairs"]]
        return {"answers": len(verdicts), "verdicts": verdicts}

    return answer


if __name__ == "__main__":
    serve(load)
