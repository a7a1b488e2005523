"""Verbs about untrusted programs: sandbox."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ponder.cli import options as opt
from ponder.cli.app import USE, app

if TYPE_CHECKING:
    from ponder.sandbox.fence import FenceFacts
    from ponder.sandbox.hostile import Tried


@app.command(rich_help_panel=USE)
def sandbox(
    no_suite: Annotated[bool, typer.Option("--no-suite", help="What the fence can use here; run nothing.")] = False,
    as_json: opt.Json = False,
) -> None:
    """What stands between a model's programs and this machine; then try to get past it with hostile programs."""
    from ponder.sandbox import fence, hostile
    from ponder.sandbox.programs import Programs

    facts = fence.probe()
    if not as_json:
        print("\n".join(f"{name:16} {value}" for name, value in _facts(facts)))
    tried: list[Tried] = []
    if not no_suite and not facts.problem:
        with Programs() as programs:
            tried = list(_shown(hostile.run(programs), as_json))
    breached = [each for each in tried if each.breaches]
    if as_json:
        print(json.dumps(_as_json(facts, tried)))
    elif tried:
        print(_summary(tried))
    if facts.problem or breached:
        raise typer.Exit(1)


def _facts(facts: FenceFacts) -> list[tuple[str, str]]:
    have = {True: "yes", False: "no"}
    return [
        ("fence", facts.level if not facts.problem else facts.problem),
        ("kernel", f"{facts.system} {facts.kernel}, {facts.machine}"),
        ("filter", have[facts.has_filter] + ": system calls are refused by name"),
        ("Landlock", f"version {facts.landlock}" if facts.landlock else "no: compilers need bubblewrap"),
        ("own user", have[facts.is_root] + (", one a run" if facts.is_root else ": only root can change users")),
        ("user namespaces", have[facts.has_namespaces]),
        ("bubblewrap", facts.bubblewrap or "no"),
    ]


def _shown(attempts: Iterator[Tried], as_json: bool) -> Iterator[Tried]:
    """Each breach as a line at once, and a dot for what was stopped."""
    live = not as_json and sys.stderr.isatty()
    for each in attempts:
        if each.breaches and not as_json:
            print(f"BREACH {each.attack.name}: it tries to {each.attack.tries}; {'; '.join(each.breaches[:5])}")
        elif live:
            print(".", end="", file=sys.stderr, flush=True)
        yield each
    if live:
        print(file=sys.stderr)


def _summary(tried: list[Tried]) -> str:
    skipped = Counter(each.skipped for each in tried if each.skipped)
    ended = Counter(each.ran.status for each in tried if each.ran)
    breached = sum(bool(each.breaches) for each in tried)
    lines = [
        f"hostile suite    {len(tried) - skipped.total()} attacks, {breached} breaches, "
        f"{sum(each.seconds for each in tried):.0f} s",
        "how they ended   " + ", ".join(f"{count} {status}" for status, count in ended.most_common()),
    ]
    lines += [f"not run          {count}: {why}" for why, count in skipped.items()]
    return "\n".join(lines)


def _as_json(facts: FenceFacts, tried: list[Tried]) -> dict[str, Any]:
    return {
        "fence": facts.level, "problem": facts.problem, "system": facts.system, "machine": facts.machine,
        "kernel": facts.kernel, "filter": facts.has_filter, "landlock": facts.landlock, "root": facts.is_root,
        "user_namespaces": facts.has_namespaces, "bubblewrap": facts.bubblewrap,
        "breaches": sum(bool(each.breaches) for each in tried),
        "attacks": [
            {"name": each.attack.name, "kind": each.attack.kind, "tries": each.attack.tries,
             "status": each.ran.status if each.ran else None, "breaches": each.breaches, "skipped": each.skipped,
             "seconds": round(each.seconds, 3)}
            for each in tried
        ],
    }  # fmt: skip
