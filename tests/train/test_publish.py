"""Weights travel by version through a folder: whole or by what changed, verified, and never half of one."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ponder.train.publish import (
    MARK,
    PartWriter,
    PublishedError,
    Rows,
    WeightReader,
    WeightStore,
    create,
    fast_folder,
    write_rows,
)

DTYPE = torch.bfloat16
CUT = 3  # rows of the first of two writers


def some_weights(seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {"a": torch.randn(7, 5, generator=g).to(DTYPE), "b": torch.randn(4, generator=g).to(DTYPE)}


def changed(weights: dict[str, Tensor], row: int, column: int) -> dict[str, Tensor]:
    """One number of the first tensor is another one."""
    new = {name: x.clone() for name, x in weights.items()}
    new["a"][row, column] += 1
    return new


def publish(store: WeightStore, writers: list[PartWriter], version: int, weights: dict[str, Tensor]):
    base = store.begin(version, {name: x.shape for name, x in weights.items()}, DTYPE)
    cuts = [(0, CUT), (CUT, 99)]
    parts = [
        writer.write(
            store.place(version), version, base, store.deltas,
            {name: Rows(x[begin:end], min(begin, len(x))) for name, x in weights.items()},
        )
        for writer, (begin, end) in zip(writers, cuts, strict=True)
    ]  # fmt: skip
    return store.commit(version, base, parts)


def assert_equal(found, weights: dict[str, Tensor]) -> None:
    assert dict(found).keys() == weights.keys()
    assert all(torch.equal(found[name], x) for name, x in weights.items())


@pytest.fixture
def writers() -> list[PartWriter]:
    return [PartWriter(0), PartWriter(1)]


def test_several_writers_fill_one_file_that_any_program_reads(tmp_path, writers):
    store, weights = WeightStore(tmp_path / "w"), some_weights(0)
    handle = pickle.loads(pickle.dumps(publish(store, writers, 4, weights)))
    assert_equal(handle, weights)
    assert_equal(load_file(store.place(4) / "model.safetensors"), weights)
    assert handle.version == 4 and len(handle) == 2


def test_a_writer_leaves_alone_what_another_writes_meanwhile_between_its_rows(tmp_path):
    weights, path = {name: torch.ones(3, 2) * n for n, name in enumerate("abc", start=1)}, tmp_path / "x.safetensors"
    create(path, {name: x.shape for name, x in weights.items()}, torch.float32)

    class Interrupted(dict[str, Rows]):
        def items(self):
            for name, rows in super().items():
                yield name, rows
                if name == "a":
                    write_rows(path, {"b": Rows(weights["b"], 0)})

    write_rows(path, Interrupted({name: Rows(weights[name], 0) for name in "ac"}))
    assert_equal(load_file(path), weights)


def test_a_window_of_versions_is_kept_and_an_older_one_is_refused_by_name(tmp_path, writers):
    store = WeightStore(tmp_path / "w", window=2)
    handles = [publish(store, writers, version, some_weights(version)) for version in (1, 2, 3)]
    assert not store.place(1).exists()
    assert_equal(handles[1], some_weights(2))
    with pytest.raises(PublishedError, match=r"version 1 is not complete .* there are \[2, 3\]"):
        handles[0]["a"]


def test_a_version_without_its_mark_does_not_exist_and_none_comes_twice_or_late(tmp_path, writers):
    store = WeightStore(tmp_path / "w")
    publish(store, writers, 5, some_weights(5))
    for version in (5, 4):
        with pytest.raises(PublishedError, match="versions only grow"):
            store.begin(version, {}, DTYPE)
    store.begin(6, {"a": (7, 5)}, DTYPE)
    with pytest.raises(PublishedError, match="version 6 is not complete"):
        WeightReader(store.folder).read(6)


def test_a_version_of_which_a_writer_left_rows_out_gets_no_mark(tmp_path, writers):
    store, weights = WeightStore(tmp_path / "w"), some_weights(0)
    base = store.begin(1, {name: x.shape for name, x in weights.items()}, DTYPE)
    part = writers[0].write(store.place(1), 1, base, False, {n: Rows(x[:CUT], 0) for n, x in weights.items()})
    with pytest.raises(PublishedError, match="rows 3 to 7 of a were not written"):
        store.commit(1, base, [part])
    assert not (store.place(1) / MARK).exists()


@pytest.mark.parametrize("at", [-1, 200])
def test_a_damaged_file_is_found_by_its_checksum(tmp_path, writers, at):
    store = WeightStore(tmp_path / "w")
    handle = publish(store, writers, 1, some_weights(1))
    path = store.place(1) / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(PublishedError, match=r"rows \d+ to \d+ of . are not what was published|is damaged"):
        handle["a"]


def test_what_changed_travels_and_gives_the_same_bits(tmp_path, writers):
    store, reader = WeightStore(tmp_path / "w", full_every=4), None
    versions = {1: some_weights(1)}
    versions[2] = changed(versions[1], 0, 1)
    versions[3] = changed(versions[2], 6, 4)
    for version, weights in versions.items():
        publish(store, writers, version, weights)
        reader = reader or WeightReader(store.folder)
        assert_equal(reader.read(version), weights)
    for version in (2, 3):
        files = list(store.place(version).glob("*.safetensors"))
        sizes = [x.numel() for file in files for x in load_file(file).values()]
        assert len(files) == 2 and sum(sizes) == 2  # where, and what to


def test_a_delta_that_is_applied_twice_does_no_harm(tmp_path, writers):
    store, first = WeightStore(tmp_path / "w", full_every=4), some_weights(1)
    second = changed(first, 2, 2)
    publish(store, writers, 1, first)
    publish(store, writers, 2, second)
    reader = WeightReader(store.folder)
    reader.read(2)
    reader._apply(reader.read(2), reader.mark(2))
    assert_equal(reader.read(2), second)


def test_a_reader_without_the_base_begins_at_the_last_whole_version(tmp_path, writers):
    """The window is 1, and keeps what the newest version needs all the same."""
    store, weights = WeightStore(tmp_path / "w", window=1, full_every=3), some_weights(0)
    kinds = []
    for version in range(1, 6):
        weights = changed(weights, version, 1)
        kinds.append(publish(store, writers, version, weights) and WeightReader(store.folder).mark(version)["base"])
        assert_equal(WeightReader(store.folder).read(version), weights)
    assert kinds == [None, 1, 2, None, 4]
    assert sorted(p.name for p in store.folder.iterdir()) == ["v00000004", "v00000005"]


def test_a_writer_that_lost_its_base_writes_all_of_its_rows(tmp_path, writers):
    store, first = WeightStore(tmp_path / "w", full_every=4), some_weights(1)
    second = changed(first, 6, 0)
    publish(store, writers, 1, first)
    reader = WeightReader(store.folder)
    reader.read(1)
    publish(store, [writers[0], PartWriter(1)], 2, second)
    assert_equal(reader.read(2), second)
    assert {*load_file(store.place(2) / "delta00001.safetensors")} == {"a:all", "b:all"}


def test_a_delta_against_other_weights_than_it_names_is_found(tmp_path, writers):
    store, first = WeightStore(tmp_path / "w", full_every=4), some_weights(1)
    publish(store, writers, 1, first)
    publish(store, writers, 2, changed(first, 0, 0))
    reader = WeightReader(store.folder)
    reader.read(1)["a"][5, 3] = 0.5  # somebody wrote into what was handed out
    with pytest.raises(PublishedError, match="rows 3 to 7 of a are not what was published"):
        reader.read(2)
    assert_equal(reader.read(2), changed(first, 0, 0))  # and the next read begins anew


def test_a_new_store_is_not_taken_for_an_older_one(tmp_path, writers):
    """A run that goes on from a state publishes versions that were published before."""
    old = publish(WeightStore(tmp_path / "w"), writers, 3, some_weights(3))
    new = publish(WeightStore(tmp_path / "w"), writers, 3, some_weights(4))
    assert_equal(new, some_weights(4))
    assert not Path(old.folder).exists()


def test_bits_decide_what_has_changed():
    from ponder.train.publish import _changes

    old = {"x": torch.tensor([0.0, float("nan"), 1.0] + [2.0] * 9)}
    new = torch.tensor([-0.0, float("nan"), 1.0] + [2.0] * 9)
    assert _changes("x", new, old)["x:at"].tolist() == [0]
    assert _changes("x", old["x"].clone(), old) == {}
    assert set(_changes("x", new + 1, old)) == {"x:all"}  # all of it is smaller than index and value of each


def test_marks_are_plain_json_with_versions_and_checksums(tmp_path, writers):
    store = WeightStore(tmp_path / "w")
    publish(store, writers, 7, some_weights(7))
    mark = json.loads((store.place(7) / MARK).read_text())
    assert mark["version"] == 7 and mark["base"] is None and mark["shapes"] == {"a": [7, 5], "b": [4]}
    assert [part["rows"]["a"][:2] for part in mark["parts"]] == [[0, 3], [3, 4]]


def test_weights_travel_through_memory_where_it_has_room(tmp_path):
    assert fast_folder(tmp_path, 2**60) == tmp_path / "weights"
    small = fast_folder(tmp_path, 1)
    assert small == tmp_path / "weights" or small.parent == Path("/dev/shm")
    with pytest.raises(ValueError, match="window=0"):
        WeightStore(tmp_path / "w", window=0)


def test_memory_has_room_for_the_window_and_the_version_that_is_written_and_keeps_nothing_of_a_killed_run(
    tmp_path, monkeypatch
):
    from ponder.train import publish as module

    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(module, "MEMORY", tmp_path / "shm")

    def usage(folder):
        return SimpleNamespace(free=1000 - sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))

    monkeypatch.setattr(module.shutil, "disk_usage", usage)
    assert fast_folder(tmp_path, 400, window=2) == tmp_path / "weights" and not list((tmp_path / "shm").iterdir())
    place = fast_folder(tmp_path, 400, window=1)
    assert place.parent == tmp_path / "shm"
    (place / "old").mkdir()
    (place / "old" / "weights").write_bytes(bytes(800))
    assert fast_folder(tmp_path, 400, window=1) == place and not (place / "old").exists()


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"version": 7}', "\xff"])
def test_a_mark_that_was_cut_off_or_is_none_is_one_error_that_names_it(tmp_path, writers, text):
    store = WeightStore(tmp_path / "w")
    publish(store, writers, 7, some_weights(7))
    (store.place(7) / MARK).write_bytes(text.encode("latin-1"))
    with pytest.raises(PublishedError, match="version 7 is not complete"):
        WeightReader(store.folder).read(7)


def test_weights_in_memory_that_all_users_share_are_read_and_replaced_by_nobody_else(tmp_path, monkeypatch):
    from ponder.train import publish as module

    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(module, "MEMORY", tmp_path / "shm")
    place = fast_folder(tmp_path / "run", 1)
    assert place.parent == tmp_path / "shm" and place.stat().st_mode & 0o777 == 0o700
    (place / "old").mkdir()
    with WeightStore(place) as store:
        assert store.folder.parent == place and not (place / "old").exists()
        assert place.stat().st_mode & 0o777 == 0o700
    (tmp_path / "elsewhere").mkdir()
    place.symlink_to(tmp_path / "elsewhere")  # as another user can who knows the run's path
    assert fast_folder(tmp_path / "run", 1) == tmp_path / "run" / "weights"
    place.unlink()
    theirs = place.with_name(place.name.replace(f"-{os.getuid()}-", "-4242-", 1))
    theirs.mkdir()
    monkeypatch.setattr(module.os, "getuid", lambda: 4242)
    assert fast_folder(tmp_path / "run", 1) == tmp_path / "run" / "weights"
