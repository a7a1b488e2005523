"""Samples as columns on disk: the only file of the bank that imports pyarrow (extra `eval`).

    DIR/part-00000-00000.parquet     the samples of one append; the numbers are the first and the last append in it
    DIR/part-00000-00063.parquet     64 of them merged; it replaces every part whose numbers it spans

A part is written whole under another name and then renamed, so it is there or not. A merged part is there before the
parts that it replaces are removed, and a reader leaves out every part that another one spans: whatever a kill leaves
behind, no sample is read twice. Other readers (`pandas.read_parquet(DIR)`, `pyarrow.dataset.dataset(DIR)`) know nothing
of spans; only after a kill in the middle of a merge could they see a sample twice, and the next writer cleans up.

Texts, token ids and logprobs take most of the bytes and are read only when their columns are asked for. Merged parts
are sorted by problem, so that the rows of one problem are found by the minima and maxima that Parquet keeps.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder import files
from ponder.evals.files import BankError

Row = Mapping[str, Any]
Span = tuple[int, int]  # the first and the last append that a part holds

# name -> type, in the order of the file; null is what is not known
SAMPLE_COLUMNS = {
    "problem": "string", "sample": "int32", "seed": "int64", "policy_version": "int64", "outcome": "string",
    "class": "string", "extracted": "string", "finish_reason": "string", "prompt_tokens": "int32",
    "reasoning_tokens": "int32", "tokens": "int32", "was_cut": "bool", "mean_logprob": "float32",
    "worst_logprob": "float32", "note": "string", "error": "string", "reasoning": "string", "answer": "string",
    "token_ids": "list<int32>", "sampler_logprobs": "list<float32>", "forced": "list<int32>",
}  # fmt: skip
SCORE_COLUMNS = {"problem": "string", "sample": "int32", "score": "float64"}

ROWS_A_GROUP = 8192  # the smallest number of rows that is read to get at one row's texts
BIG = 32 << 20  # bytes; a part of this size is not merged again
MANY = 64  # small parts that are worth a merge while a bank is being filled
_NAME = re.compile(r"part-(\d{5,})-(\d{5,})\.parquet")


def arrow() -> Any:
    """pyarrow with its Parquet module, or an error that says how to get it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError('a bank of samples needs pyarrow: pip install "ponder[eval]"') from None
    return pyarrow


# --- parts -------------------------------------------------------------------------------------------------------


def live_parts(folder: Path) -> dict[Span, Path]:
    """The parts that count, in the order of their appends: those that no other part spans."""
    spans = _parts(folder)
    live: dict[Span, Path] = {}
    end = -1
    for span in sorted(spans, key=lambda span: (span[0], -span[1])):  # of equal beginnings the widest comes first
        if span[1] > end:
            live[span] = spans[span]
            end = span[1]
    return live


def append(folder: Path, rows: Sequence[Row]) -> None:
    """Add rows as a new part; many small parts are merged on the way."""
    number = 1 + max((last for _, last in _parts(folder)), default=-1)
    _write(_part(folder, (number, number)), table_of(rows, SAMPLE_COLUMNS))
    if len(_small_tail(folder)) >= MANY:
        compact(folder)


def compact(folder: Path) -> None:
    """Merge the small parts at the end into one, sorted by problem and sample; the first of equal samples stays."""
    clean(folder)
    tail = _small_tail(folder)
    if len(tail) < 2:
        return
    spans = list(tail)
    merged = arrow().concat_tables([_whole(path) for path in tail.values()])
    kept = first_of_equals(_codes(merged["problem"])[0], merged["sample"].to_numpy())
    _write(_part(folder, (spans[0][0], spans[-1][1])), merged.take(_by_problem(merged, kept)))
    for path in tail.values():
        path.unlink()


def clean(folder: Path) -> None:
    """Remove what a kill left behind: half-written files, and parts that a merged one replaced."""
    for path in folder.glob(".*.part"):
        path.unlink(missing_ok=True)
    live = live_parts(folder)
    for span, path in _parts(folder).items():
        if span not in live:
            path.unlink(missing_ok=True)


def _parts(folder: Path) -> dict[Span, Path]:
    found = {}
    for path in folder.glob("part-*.parquet"):
        if name := _NAME.fullmatch(path.name):
            found[int(name[1]), int(name[2])] = path
    return found


def _part(folder: Path, span: Span) -> Path:
    return folder / f"part-{span[0]:05d}-{span[1]:05d}.parquet"


def _small_tail(folder: Path) -> dict[Span, Path]:
    """The parts after the last big one."""
    live = list(live_parts(folder).items())
    first = len(live)
    while first and live[first - 1][1].stat().st_size < BIG:
        first -= 1
    return dict(live[first:])


def _by_problem(table: Any, kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """The kept rows by the text of their problem, then by sample."""
    codes, names = _codes(table["problem"])
    rank = np.empty(len(names), dtype=np.int64)
    rank[sorted(range(len(names)), key=lambda i: names[i].encode())] = np.arange(len(names))
    return kept[np.lexsort((table["sample"].to_numpy()[kept], rank[codes[kept]]))]


def first_of_equals(problems: NDArray[np.int64], samples: NDArray[Any]) -> NDArray[np.int64]:
    """The indices of rows, sorted by (problem, sample), without those that repeat an earlier one."""
    order = np.lexsort((np.arange(len(samples)), samples, problems))
    p, s = problems[order], samples[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (p[1:] != p[:-1]) | (s[1:] != s[:-1])
    return order[new]


# --- tables ------------------------------------------------------------------------------------------------------


def table_of(rows: Sequence[Row], columns: Mapping[str, str]) -> Any:
    """Rows as a table; a key that is missing is null, one that is no column is left out."""
    pa = arrow()
    schema = pa.schema([(name, _type(kind)) for name, kind in columns.items()])
    try:
        values = {
            name: [_plain(row.get(name)) if kind == "string" else row.get(name) for row in rows]
            for name, kind in columns.items()
        }
        return pa.Table.from_pydict(values, schema=schema)
    except (pa.ArrowException, AttributeError, TypeError, ValueError, OverflowError) as error:
        raise BankError(f"a row does not fit the columns: {error}") from None


def copy_with(
    source: Path, target: Path, reads: Sequence[str], make: Callable[..., Mapping[str, Sequence[Any]]]
) -> None:
    """Copy every live part of a folder, with the columns that `make` gives for the columns it reads: lists, by name."""
    pa = arrow()
    for path in live_parts(source).values():
        table = _whole(path)
        for name, values in make(**{name: table[name].to_pylist() for name in reads}).items():
            kind = _type(SAMPLE_COLUMNS[name])
            values = [_plain(value) for value in values] if SAMPLE_COLUMNS[name] == "string" else values
            table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, type=kind))
        _write(target / path.name, table)


def write(path: Path, columns: Mapping[str, Any], types: Mapping[str, str]) -> None:
    """Replace one Parquet file by whole columns (arrays or lists)."""
    pa = arrow()
    _write(path, pa.table({name: pa.array(columns[name], type=_type(kind)) for name, kind in types.items()}))


def _type(kind: str) -> Any:
    pa = arrow()
    inner = kind.removeprefix("list<").removesuffix(">")
    return pa.type_for_alias(inner) if inner == kind else pa.list_(pa.type_for_alias(inner))


def _write(path: Path, table: Any) -> None:
    buffer = io.BytesIO()
    arrow().parquet.write_table(
        table, buffer, compression="zstd", row_group_size=ROWS_A_GROUP, write_page_checksum=True
    )
    files.write_atomic(path, buffer.getvalue())


def _plain(text: str | None) -> str | None:
    return None if text is None else files.utf8(text)


def _open(path: Path) -> Any:
    pa = arrow()
    try:
        return pa.parquet.ParquetFile(path, memory_map=True, page_checksum_verification=True)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception) -> BankError:
    reason = " ".join(str(error).split())[:100]
    return BankError(f"{path} is broken ({reason}); delete it, and its samples are drawn again")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Pages are read, and their checksums looked at, long after a file was opened."""
    try:
        yield
    except (arrow().ArrowException, OSError) as error:
        raise _broken(path, error) from None


def _whole(path: Path) -> Any:
    file = _open(path)
    with _reading(path):
        return file.read()


# --- reading -----------------------------------------------------------------------------------------------------


def read(paths: Iterable[Path], names: Sequence[str]) -> dict[str, Any]:
    """Whole columns: arrays of numbers, and for text (codes, values) where a code of -1 is null."""
    pa = arrow()
    tables, folder = [], Path()
    for path in paths:
        folder = path.parent
        file = _open(path)
        with _reading(path):
            tables.append(file.read(columns=list(names)))
    if not tables:
        return {}
    whole = pa.concat_tables(tables)
    if missing := [name for name in names if name not in whole.column_names]:
        raise BankError(f"the parts in {folder} have no column {missing[0]!r}; they are damaged, or of another program")
    return {
        name: _codes(whole[name]) if pa.types.is_string(whole[name].type) else whole[name].to_numpy() for name in names
    }


def _codes(column: Any) -> tuple[NDArray[np.int64], list[str]]:
    encoded = column.combine_chunks().dictionary_encode()
    if hasattr(encoded, "combine_chunks"):  # combining may leave a chunked array
        encoded = encoded.combine_chunks()
    return encoded.indices.fill_null(-1).to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def scan(folder: Path, names: Sequence[str], problem: str | None = None) -> Iterator[dict[str, Any]]:
    """Rows as dictionaries, part by part, a group of rows in memory at a time; of one problem, where that is given."""
    pa = arrow()
    for path in live_parts(folder).values():
        file = _open(path)
        for group in range(file.num_row_groups):
            if problem is not None and not _may_hold(file.metadata.row_group(group), problem):
                continue
            wanted = None
            with _reading(path):
                if problem is not None:
                    ids, values = _codes(file.read_row_group(group, columns=["problem"])["problem"])
                    wanted = np.flatnonzero(ids == values.index(problem)) if problem in values else ()
                    if not len(wanted):
                        continue
                table = file.read_row_group(group, columns=list(names))
                rows = (table if wanted is None else table.take(pa.array(wanted))).to_pylist()
            yield from rows


def _may_hold(group: Any, problem: str) -> bool:
    """Whether a group of rows can hold a problem, by the smallest and largest id in it."""
    kept = group.column(0).statistics  # `problem` is the first column
    if kept is None or not kept.has_min_max:
        return True
    return kept.min.encode() <= problem.encode() <= kept.max.encode()
