"""Configs: TOML and key=value in, typed values out; every mistake names its place and the nearest word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.config import ConfigError, dumps, load, lookup


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    name: str = "x"


@dataclass(frozen=True, kw_only=True)
class Outer:
    out: str
    steps: int = 3
    inner: Inner = field(default_factory=Inner)
    mode: Literal["a", "b"] = "a"
    rungs: tuple[int, ...] = ()
    limit: int | None = None

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError("steps must be 1 or more")


def test_overrides_win_over_the_file_and_the_file_over_defaults(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('out = "o"\nsteps = 5\n[inner]\nrate = 1\n')
    config = load(Outer, path, ["steps=7", "inner.name=some words", "rungs=[1,2]"])
    assert config == Outer(out="o", steps=7, inner=Inner(rate=1.0, name="some words"), rungs=(1, 2))


@given(st.text(max_size=20), st.integers(1, 10**6), st.floats(allow_nan=False), st.lists(st.integers(), max_size=3))
def test_what_is_dumped_loads_back_equal(tmp_path_factory, text, steps, rate, rungs):
    config = Outer(out=text, steps=steps, inner=Inner(rate=rate), rungs=tuple(r % 10**9 for r in rungs))
    path = tmp_path_factory.mktemp("c") / "c.toml"
    path.write_text(dumps(config), encoding="utf-8")
    assert load(Outer, path) == config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "misses out"),
        (["out=o", "stepz=3"], "did you mean 'steps'"),
        (["out=o", "inner.rat=3"], "did you mean 'rate'"),
        (["out=o", "steps=many"], "steps = 'many' must be of type int"),
        (["out=o", "steps=true"], "must be of type int"),
        (["out=o", "mode=c"], "known: a, b"),
        (["out=o", "steps"], "is not key=value"),
        (["out=o", "inner=3"], "is a table"),
        (["out=o", "out.x=3"], "is a value, not a table"),
        (["out=o", "steps=0"], "steps must be 1 or more"),
        (["out=o", "rungs=3"], "must be a list"),
    ],
)
def test_each_mistake_is_one_clear_error(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load(Outer, None, overrides)


def test_a_missing_or_broken_file_says_so(tmp_path):
    with pytest.raises(ConfigError, match="no recipe at"):
        load(Outer, tmp_path / "absent.toml")
    (tmp_path / "b.toml").write_text("out = ")
    with pytest.raises(ConfigError, match=r"b\.toml is not valid TOML"):
        load(Outer, tmp_path / "b.toml")
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(Outer, tmp_path / "c.toml")


def test_a_name_is_an_entry_or_an_importable_object():
    assert lookup({"one": 1}, "one", what="thing") == 1
    assert lookup({}, "math:tau", what="thing") > 6
    with pytest.raises(ConfigError, match="did you mean 'one'"):
        lookup({"one": 1}, "oen", what="thing")
    with pytest.raises(ConfigError, match="cannot load thing 'math:nothing'"):
        lookup({}, "math:nothing", what="thing")
