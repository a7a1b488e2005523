"""Banks of format 1 (one JSON line a sample) become banks of format 2 (columns), once, where they lie.

bank.json is replaced when all samples are in DIR/samples, and DIR/bank.jsonl is removed after that: a kill before the
one leaves a bank of format 1, which is begun again, and a kill after it one of format 2.
"""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

from ponder import runs
from ponder.evals import columns
from ponder.evals.files import FORMAT, BankError, lock, read_facts
from ponder.evals.rows import confidence

ROWS_AT_ONCE = 65536


def upgrade(folder: Path) -> dict[str, Any]:
    """The content of bank.json, after the bank was brought to the present format if it was of an earlier one."""
    facts = read_facts(folder, (1, FORMAT))
    if facts["format"] == FORMAT:
        return facts
    try:
        held = lock(folder / "bank.json")
        try:
            facts = read_facts(folder, (1, FORMAT))
            if facts["format"] == FORMAT:
                return facts  # another process was faster
            _rewrite(folder)
            facts["format"] = FORMAT
            runs.write_atomic(folder / "bank.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
            (folder / "bank.jsonl").unlink(missing_ok=True)
            return facts
        finally:
            held.close()
    except OSError as error:
        raise BankError(
            f"{folder} is a bank of format 1 and cannot be brought to format {FORMAT} here ({error}); copy it to a "
            "folder that can be written to"
        ) from error


def _rewrite(folder: Path) -> None:
    shutil.rmtree(folder / "samples", ignore_errors=True)  # of an upgrade that was killed
    have: dict[str, int] = {}
    rows = runs.read_jsonl(folder / "bank.jsonl")
    while batch := list(itertools.islice(rows, ROWS_AT_ONCE)):
        kept = []
        try:
            for row in batch:
                if row["sample"] == have.get(row["problem"], 0):  # a repeated number is the same sample drawn twice
                    have[row["problem"]] = row["sample"] + 1
                    mean, worst = confidence(row["sampler_logprobs"], row["forced"])
                    kept.append(row | {"mean_logprob": mean, "worst_logprob": worst})
            if kept:
                columns.append(folder / "samples", kept)
        except (KeyError, TypeError, IndexError, columns.PartError) as error:
            raise BankError(f"{folder}/bank.jsonl has a line that is no sample ({error}); delete it") from None
    if have:
        columns.compact(folder / "samples")
