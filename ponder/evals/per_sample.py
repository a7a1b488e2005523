"""Tables beside a bank, a row a sample: what was found out about samples after they were drawn.

    DIR/KIND/NAME.json        what the rows are of: facts, which must be the same whenever rows are added
    DIR/KIND/NAME.parquet     problem, sample, and the columns of the kind

    table = PerSample(folder / "executions" / "probes", {"program": "int64", "outputs": "list<int64>"}, facts)
    table.missing(bank)                        -> {"p1": [4, 5]}: samples that have no row yet
    with table.filled():                       # alone with it
        table.add([("p1", 4, {"program": 7, "outputs": [1, 2]})])
    table.of("p1", 6)["outputs"]               -> the column of the first six samples of a problem

Rows are kept in memory and the file is replaced as a whole, every `KEEP_EVERY` seconds while a table is `filled`: a
kill costs no more than these. (`scores.py` keeps scores, of which every sample has one.)
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ponder import files
from ponder.evals import columns
from ponder.evals.bank import Bank
from ponder.evals.files import BankError

Row = tuple[str, int, Mapping[str, Any]]  # problem, sample, its columns
KEEP_EVERY = 30.0  # seconds


@dataclass
class PerSample:
    """The rows of one table; columns are named with their types, as in columns.py."""

    path: Path  # without an ending
    columns: Mapping[str, str]
    facts: Mapping[str, Any]  # plain JSON
    _rows: dict[str, dict[int, Mapping[str, Any]]] = field(default_factory=dict)
    _has_more: bool = False  # than the file
    _saved: float = 0.0  # when, on the monotonic clock

    def __post_init__(self) -> None:
        head = self.path.with_name(self.path.name + ".json")
        if head.exists():
            self._check(files.read_object(head))
        if self._file.exists():
            found = columns.read([self._file], ["problem", "sample", *self.columns])
            (ids, names), samples = found.pop("problem"), found.pop("sample")
            for i in range(len(ids)):
                row = {name: values[i] for name, values in found.items()}
                self._rows.setdefault(names[ids[i]], {})[int(samples[i])] = row

    @property
    def _file(self) -> Path:
        return self.path.with_name(self.path.name + ".parquet")

    def _check(self, known: Mapping[str, Any]) -> None:
        wanted = json.loads(json.dumps(self.facts))
        for name in {**known, **wanted}:
            if known.get(name) != wanted.get(name):
                raise BankError(
                    f"{self._file} is of something else: its {name} is {str(known.get(name))[:200]}, not "
                    f"{str(wanted.get(name))[:200]}; choose another name, or delete the file and its .json"
                )

    def missing(
        self, bank: Bank, is_again: Callable[[Mapping[str, Any]], bool] = lambda row: False
    ) -> dict[str, list[int]]:
        """The samples of a bank that have no row, or one that is to be made again, by problem."""
        found = {}
        for problem in bank.problems:
            have = self._rows.get(problem.id, {})
            numbers = range(bank.num_samples(problem.id))
            if lacks := [sample for sample in numbers if sample not in have or is_again(have[sample])]:
                found[problem.id] = lacks
        return found

    @contextlib.contextmanager
    def filled(self) -> Iterator[None]:
        """Rows are added inside, by this process alone, and saved now and then and at the end."""
        with files.lock_beside(self.path, self._file):
            self._saved = time.monotonic()
            try:
                yield
            finally:
                if self._has_more:
                    self.save()

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows inside of `filled`."""
        for problem, sample, row in rows:
            assert set(row) == set(self.columns), f"{sorted(row)} are not the columns {sorted(self.columns)}"
            self._rows.setdefault(problem, {})[sample] = row
            self._has_more = True
        if time.monotonic() - self._saved > KEEP_EVERY:
            self.save()

    def save(self) -> None:
        """Write all rows; the facts first, so that rows are never without them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        head = self.path.with_name(self.path.name + ".json")
        files.write_atomic(head, json.dumps(self.facts, indent=1, ensure_ascii=False) + "\n")
        flat = [(problem, sample, row) for problem, of in self._rows.items() for sample, row in sorted(of.items())]
        table = {"problem": [problem for problem, _, _ in flat], "sample": [sample for _, sample, _ in flat]}
        table |= {name: [row[name] for _, _, row in flat] for name in self.columns}
        columns.write(self._file, table, {"problem": "string", "sample": "int32", **self.columns})
        self._has_more, self._saved = False, time.monotonic()

    def of(self, problem_id: str, num_samples: int) -> dict[str, list[Any]]:
        """The columns of the first `num_samples` samples of a problem."""
        rows = self._rows.get(problem_id, {})
        if lacks := [sample for sample in range(num_samples) if sample not in rows]:
            raise BankError(f"{self._file} has no row for sample {lacks[0]} of {problem_id!r}: run the command again")
        return {name: [rows[sample][name] for sample in range(num_samples)] for name in self.columns}
