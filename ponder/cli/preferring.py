"""`ponder prefer`: does a reward model prefer what people prefer, and is it better than counting words?"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from ponder.cli.app import MEASURE, Json, app, number
from ponder.cli.show import print_tables


@app.command(rich_help_panel=MEASURE)
def prefer(
    scorer: Annotated[
        Optional[Path], typer.Argument(help="What `ponder scorer` made of kind preference. Without: the baselines.")
    ] = None,
    task: Annotated[str, typer.Option(help="Comparisons: hh, llmbar, mtbench, pandalm, hub:NAME or file:PATH.")] = "hh",
    split: Annotated[str, typer.Option(help="report, dev, train or all.")] = "report",
    limit: Annotated[Optional[int], number("Only the first comparisons.", least=1)] = None,
    out: Annotated[Optional[Path], typer.Option(help="A JSON file for the numbers.")] = None,
    as_json: Json = False,
) -> None:
    """Measure a reward model on human comparisons, beside the longer answer, the shorter one and a bag of words."""
    from ponder.evals.codec import encode
    from ponder.evals.looks import note_look
    from ponder.evals.preference import examine, gain_line, length_table, notes, table, trained_on
    from ponder.runs import write_atomic
    from ponder.scorers import load_scorer
    from ponder.scorers.files import fingerprint
    from ponder.tasks.preferences import load_comparisons

    found = load_comparisons(task, split=split, size=limit)  # type: ignore[arg-type]
    opened = load_scorer(scorer) if scorer else None
    seen = trained_on(scorer) if scorer else frozenset()
    report = asyncio.run(examine(opened, found, every=load_comparisons(task), seen=seen, name=str(scorer or "")))
    said = notes(report)
    if split == "report" and scorer:
        said.append(note_look(f"comparisons/{found.name}", str(scorer), fingerprint(scorer)))
    numbers = encode(report) | {"origin": [dict(row) for row in found.origin]}
    if out:
        write_atomic(out, json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    if as_json:
        print(json.dumps(numbers, ensure_ascii=False))
    else:
        print_tables([table(report), length_table(report)])
        print(gain_line(report))
    for line in said:
        print(f"note: {line}", file=sys.stderr)
