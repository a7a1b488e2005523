"""Parquet files of strangers: few bytes that unpack to very many are refused, and what is no text is an error."""

from __future__ import annotations

import pytest

from ponder import files
from ponder.config import ConfigError
from ponder.tasks import datahub
from ponder.tasks.datahub import read_parquet

pyarrow = pytest.importorskip("pyarrow")
LONG = "x" * 2000


def bomb(kind: str):
    """A column that is small as long as it is packed."""
    numbers = pyarrow.array([0] * 20_000, pyarrow.int32())
    if kind == "one text":  # told once, with its number in every row; it is read as plain text, as the hub writes it
        return pyarrow.DictionaryArray.from_arrays(numbers, [LONG]).dictionary_decode()
    if kind == "one text, by number":  # and it is read as such
        return pyarrow.DictionaryArray.from_arrays(numbers, [LONG])
    if kind == "lists":
        return pyarrow.ListArray.from_arrays(list(range(0, 20_001, 10)), pyarrow.array([LONG] * 20_000))
    return pyarrow.nulls(300_000)


@pytest.mark.parametrize("kind", ["one text", "one text, by number", "lists", "nothing"])
def test_a_small_file_that_unpacks_to_very_much_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch, kind):
    import pyarrow.parquet

    path, column, parts = tmp_path / "0000.parquet", bomb(kind), []
    pyarrow.parquet.write_table(pyarrow.table({"problem": column}), path)
    assert path.stat().st_size < 200_000
    monkeypatch.setattr(datahub, "MAX_PART", 1 << 20)
    monkeypatch.setattr(files, "SMALL_ENOUGH", 1 << 20)
    monkeypatch.setattr(files, "MOST_TIMES", 2)
    split = datahub._tables

    def watched(*arguments):
        for table in split(*arguments):
            parts.append(sum(map(datahub._size, table.to_pylist())))
            yield table

    monkeypatch.setattr(datahub, "_tables", watched)
    with pytest.raises(ConfigError, match=r"0000.parquet: .* bytes of Parquet would unpack to more than 1,\d"):
        read_parquet([path])
    assert max(parts) < 2 << 20 and sum(parts[:-1]) < 2 << 20


def test_a_set_that_is_as_large_as_its_files_say_is_read_in_its_order(tmp_path, monkeypatch):
    import pyarrow.parquet

    rows = [{"id": i, "problem": f"{i} " * (i % 7), "choices": ["a", str(i)], "meta": {"n": i}} for i in range(1000)]
    for part in range(2):
        path = tmp_path / f"000{part}.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows[part::2]), path, row_group_size=130)
    monkeypatch.setattr(datahub, "MAX_PART", 1 << 14)
    assert read_parquet(sorted(tmp_path.glob("*.parquet"))) == rows[::2] + rows[1::2]
    monkeypatch.setattr(datahub, "MAX_TOTAL", 1 << 14)
    with pytest.raises(ConfigError, match="more than 16,384"):
        read_parquet(sorted(tmp_path.glob("*.parquet")))


def test_a_text_that_is_not_utf_8_is_an_error_with_its_fix(tmp_path):
    import pyarrow.parquet

    raw = pyarrow.array([b"ok", b"\xff\xfe"], pyarrow.binary())
    broken = pyarrow.Array.from_buffers(pyarrow.string(), 2, raw.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"problem": broken}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="is broken"):
        read_parquet([tmp_path / "a.parquet"])
