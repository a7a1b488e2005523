"""math-verify as a contender: `parse` both texts, then `verify`, with its own time limits.

Without them a tower of powers never returns. It has no third verdict: what raises counts as wrong. It reads text that
is marked as mathematics better, and more slowly: config["marked"] puts dollar signs around both texts.
"""

from __future__ import annotations

from typing import Any

from link import Job, serve


def load(config: Job) -> Any:
    from math_verify import parse, verify

    form = "${}$" if config["marked"] else "{}"

    def check(target: str, text: str) -> str:
        try:
            return "correct" if verify(parse(form.format(target)), parse(form.format(text))) else "wrong"
        except Exception:  # it raises on some texts; a caller would have no right answer either
            return "wrong"

    def answer(job: Job) -> Job:
        verdicts = [check(target, text) for target, text in job["pairs"]]
        return {"answers": len(verdicts), "verdicts": verdicts}

    return answer


if __name__ == "__main__":
    serve(load)
