"""What a bank's folder says about itself, and who may write in it: bank.json and its lock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ponder.evals.codec import decode, encode
from ponder.evals.results import BankSpec
from ponder.files import hold

FORMAT = 2


class BankError(ValueError):
    """A folder that is no bank, that is the bank of something else, or that is damaged; the message says how."""


def read_spec(folder: Path) -> BankSpec:
    """The content of bank.json, if it is of this format."""
    try:
        facts = json.loads((folder / "bank.json").read_bytes())
    except FileNotFoundError:
        raise BankError(f"no sample bank in {folder}; `ponder eval --out {folder}` makes one") from None
    except (ValueError, RecursionError) as error:
        raise BankError(f"{folder}/bank.json is not JSON: {error}") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise BankError(f"{folder}/bank.json is of another format than {FORMAT}; use the ponder that wrote it")
    try:
        return decode(BankSpec, facts)
    except ValueError as error:
        raise BankError(f"{folder}/bank.json does not say what the samples are of: {error}") from None


def facts_of(spec: BankSpec) -> dict[str, Any]:
    """The content of bank.json."""
    facts: dict[str, Any] = {"format": FORMAT, **encode(spec)}
    if spec.prompting == "none":  # as banks were before there were others
        del facts["prompting"]
    return facts


def lock(head: Path) -> Any:
    """Hold the folder of a bank.json for one writer; the lock goes with the process, also by kill -9."""
    file = open(head)  # noqa: SIM115 - held open on purpose
    if not hold(file):
        file.close()
        raise BankError(f"another process writes to {head.parent}; wait for it or choose another folder")
    return file
