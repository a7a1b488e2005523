"""Rows of public data sets from a hub: the one file that knows how they are fetched and stored.

    rows, revision = hub_rows("openai/gsm8k", "main", "test")      # dictionaries, one a problem, in the hub's order
    paths = hub_files("nvidia/HelpSteer3", "preference/train.jsonl.gz", REVISION)      # as the authors keep them

Needs `pip install "ponder[data]"` and, the first time, a network. Read are the Parquet files that the hub itself makes
of every data set (branch refs/convert/parquet: CONFIG/SPLIT/0000.parquet), so there is one layout and no code of others
is run. What was fetched stays in the hub library's own store and is found there without a network. `keep=False` (gated
sets whose authors ask that nobody stores them in the open) fetches into a temporary folder that is gone afterwards.
Few bytes of Parquet may unpack to very many: rows are unpacked a few at a time, and those kept may take `MAX_TOTAL`
bytes, or less where the files are small.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.files import most_unpacked

BRANCH = "refs/convert/parquet"
Row = dict[str, Any]
MAX_TOTAL = 8 << 30  # bytes of the rows that are kept, and not more than `most_unpacked` of their files
CELL = 64  # bytes that Python needs for a cell with nothing in it
MAX_PART = 256 << 20  # bytes that a batch may have if each of its values were as large as its whole row group
MAX_ROWS = 4096  # of a batch


def hub_rows(
    repo: str,
    config: str,
    split: str,
    *,
    keep: bool = True,
    columns: Sequence[str] | None = None,
    where: Sequence[tuple[str, str, Any]] | None = None,
) -> tuple[list[Row], str]:
    """The rows of one split and the revision they are of. A ConfigError says in a few words why there are none.

    columns, where: only these columns, and rows such as [("id", "in", ["7"])]: of sets that do not fit into memory.
    """
    try:
        import huggingface_hub  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'the module {error.name} is missing: pip install "ponder[data]"') from None
    pattern = f"{config}/{split}/*.parquet"
    if keep:
        folder = _fetch(repo, pattern, cache=None)
        return read_parquet(sorted(folder.glob(pattern)), columns, where), folder.name
    with tempfile.TemporaryDirectory(prefix="ponder-gated-") as temporary:
        folder = _fetch(repo, pattern, cache=temporary)
        return read_parquet(sorted(folder.glob(pattern)), columns, where), folder.name


def parts_of(repo: str) -> set[tuple[str, str]]:
    """The (configuration, split) pairs of a data set, of the hub's list of its files. A ConfigError where it cannot be
    had, as without a network."""
    try:
        from huggingface_hub import HfApi, constants
        from huggingface_hub.errors import HTTPError
    except ImportError as error:
        raise ConfigError(f'the module {error.name} is missing: pip install "ponder[data]"') from None
    if constants.HF_HUB_OFFLINE:
        raise ConfigError("HF_HUB_OFFLINE is set")
    try:
        files = HfApi().list_repo_files(repo, repo_type="dataset", revision=BRANCH)
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"the hub does not list {repo} ({type(error).__name__})") from None
    paths = [name.split("/") for name in files if name.endswith(".parquet")]
    return {(path[0], path[1]) for path in paths if len(path) == 3}


def read_parquet(
    files: list[Path], columns: Sequence[str] | None = None, where: Sequence[tuple[str, str, Any]] | None = None
) -> list[Row]:
    """Rows of Parquet files in their order. columns: these alone; where: (column, operator, value), as pyarrow filters.

    ConfigError for a broken file, and for one that would unpack to far more than it weighs.
    """
    import pyarrow

    rows: list[Row] = []
    size, total = sum(file.stat().st_size for file in files), 0
    most = min(MAX_TOTAL, most_unpacked(size))
    try:
        for file in files:
            for table in _tables(file, columns, where):
                rows += (part := table.to_pylist())
                total += sum(map(_size, part))
                if total > most:
                    raise ConfigError(
                        f"{file.name}: {size:,} bytes of Parquet would unpack to more than {most:,}; a set of that "
                        "size is not read"
                    )
    except ConfigError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # ValueError: a text that is none
        raise ConfigError(f"a downloaded file is broken ({str(error)[:100]}); delete it and try again") from None
    return rows


def _size(value: Any) -> int:
    """Bytes in memory, roughly; of the values, as Arrow's own count has a text once that a thousand rows share."""
    if isinstance(value, str | bytes):
        return CELL + len(value)
    if isinstance(value, dict):
        return CELL + sum(map(_size, value.values()))
    if isinstance(value, list | tuple):
        return CELL + sum(map(_size, value))
    return CELL


def _tables(path: Path, columns: Sequence[str] | None, where: Sequence[tuple[str, str, Any]] | None) -> Iterator[Any]:
    """The rows of a file a few at a time: how many, follows from what a value could be at most."""
    import pyarrow
    from pyarrow.parquet import ParquetFile, filters_to_expression

    with ParquetFile(path) as file:
        needed = None if columns is None else [*dict.fromkeys([*columns, *(name for name, *_ in where or ())])]
        if unknown := set(needed or ()) - set(file.schema_arrow.names):
            raise ConfigError(f"{path.name} has no column {min(unknown)!r}")
        for group in range(file.num_row_groups):
            about = file.metadata.row_group(group)
            values = max((about.column(i).num_values for i in range(about.num_columns)), default=0)  # of lists: all
            largest = max(1, about.total_byte_size * -(-values // max(1, about.num_rows)))
            count = max(1, min(MAX_ROWS, MAX_PART // largest))
            for batch in file.iter_batches(count, row_groups=[group], columns=needed):
                table = pyarrow.Table.from_batches([batch])
                table = table.filter(filters_to_expression(where)) if where else table
                yield table if columns is None else table.select(columns)


def hub_files(repo: str, pattern: str, revision: str) -> list[Path]:
    """Files of a data set as its authors keep them, of a fixed revision; JSON Lines need no pyarrow."""
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'the module {error.name} is missing: pip install "ponder[data]"') from None
    return sorted(_fetch(repo, pattern, cache=None, revision=revision).glob(pattern))


def _fetch(repo: str, pattern: str, cache: str | None, revision: str = BRANCH) -> Path:
    """The snapshot's folder with the files of the pattern in it: from the local store, or from the network."""
    from huggingface_hub import constants, errors, snapshot_download

    def snapshot(local_files_only: bool) -> Path:
        folder = Path(
            snapshot_download(
                repo, repo_type="dataset", revision=revision, allow_patterns=[pattern], cache_dir=cache,
                local_files_only=local_files_only,
            )
        )  # fmt: skip
        if not any(folder.glob(pattern)):
            raise FileNotFoundError(f"the data set has no {pattern}")
        return folder

    try:
        return snapshot(True)
    except (OSError, ValueError):
        pass  # not downloaded yet
    if constants.HF_HUB_OFFLINE:
        raise ConfigError("HF_HUB_OFFLINE is set and it was not downloaded before")
    try:
        return snapshot(False)
    except errors.GatedRepoError:
        reason = "it is gated: accept its terms on the hub and set HF_TOKEN"
    except errors.RepositoryNotFoundError:
        reason = "the hub has no such data set, or it is gated or private and HF_TOKEN is not set"
    except errors.RevisionNotFoundError:
        reason = f"the data set has no revision {revision}"
    except (errors.HTTPError, OSError, ValueError, RuntimeError) as error:
        reason = f"the hub cannot be reached or has no such file ({(str(error) or type(error).__name__)[:150]})"
    raise ConfigError(" ".join(reason.split()))
