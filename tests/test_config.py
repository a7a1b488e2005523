"""Configs: TOML and key=value in, typed values out; every mistake names its place and the nearest word."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.config import REQUIRED, Bounds, ConfigError, check, dumps, find_recipe, load, lookup, recipe_names, setting


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
    for damage in (b"\xff\xfe", b"out = " + b"[" * 100_000):
        (tmp_path / "c.toml").write_bytes(damage)
        with pytest.raises(ConfigError, match="not valid TOML"):
            load(Outer, tmp_path / "c.toml")


def test_a_name_is_an_entry_or_an_importable_object():
    assert lookup({"one": 1}, "one", what="thing") == 1
    assert lookup({}, "math:tau", what="thing") > 6
    with pytest.raises(ConfigError, match="did you mean 'one'"):
        lookup({"one": 1}, "oen", what="thing")
    with pytest.raises(ConfigError, match="cannot load thing 'math:nothing'"):
        lookup({}, "math:nothing", what="thing")
    with pytest.raises(ConfigError, match="did you mean 'floor'"):
        lookup({}, "math:flor", what="thing")


# ---- numbers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Numbers:
    out: str = setting(REQUIRED, "a folder")
    rate: float = setting(0.1, "a rate", above=0, most=1, also="learning_rate")
    count: int = setting(3, "a count", least=1, also="num_things")
    low: int | None = setting(None, "perhaps", least=0)
    steps: tuple[int, ...] = setting((), "places", least=0)

    def __post_init__(self):
        check(self)


@dataclass(frozen=True, kw_only=True)
class Nest:
    numbers: Numbers = field(default_factory=lambda: Numbers(out="o"))
    size: int = setting(1, "a size", least=1, also="batch")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0, -1e-9, 1.0000001, "1", True, None.__class__])
def test_a_number_out_of_its_bounds_is_refused_with_its_bounds(value):
    with pytest.raises(ValueError, match=r"rate=.* must be (in \(0, 1\]; the default is 0\.1|a number)"):
        Numbers(out="o", rate=value)


@pytest.mark.parametrize("changes", [{"count": 2.0}, {"count": 0}, {"low": -1}, {"steps": (3, -1)}, {"steps": (1.5,)}])
def test_counts_are_whole_and_every_item_of_a_list_is_checked(changes):
    with pytest.raises(ValueError, match="must"):
        Numbers(out="o", **changes)


def test_bounds_say_in_words_what_they_take():
    assert str(Bounds(above=0)) == "above 0" and 0 not in Bounds(above=0) and 1e-300 in Bounds(above=0)
    assert str(Bounds(least=1)) == "1 or more" and 1 in Bounds(least=1)
    assert str(Bounds(least=0, below=1)) == "in [0, 1)" and 1 not in Bounds(least=0, below=1)
    assert str(Bounds(most=3)) == "3 or less" and str(Bounds(below=3)) == "below 3"
    assert str(Bounds()) == "any finite number" and math.nan not in Bounds()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rate=1", r"numbers\.rate \(a rate\) here"),
        ("num-things=1", r"numbers\.count \(a count\) here"),
        ("count=1", r"numbers\.count"),
        ("batch=4", r"batch is size \(a size\) here"),
        ("trainer.optim.learning_rate=4", r"trainer\.optim\.learning_rate is numbers\.rate"),
        ("siz=1", "did you mean 'size'"),
    ],
)
def test_a_key_of_another_program_is_answered_with_its_name_here(override, message):
    with pytest.raises(ConfigError, match=message):
        load(Nest, None, [override])


def test_the_meanings_stand_beside_the_keys_and_the_file_still_loads(tmp_path):
    text = dumps(Nest(), explain=True)
    assert "# a rate" in text
    (tmp_path / "r.toml").write_text(text)
    assert load(Nest, tmp_path / "r.toml") == Nest()


# ---- what is found in the current folder, and by name --------------------------------------------------------------

ROOT = Path(__file__).parent.parent


def looked_up(name: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """lookup in a process of its own, as the installed command starts it: the current folder is not on its path."""
    code = (
        f"import sys; sys.path = [p for p in sys.path if p not in ('', {str(cwd)!r})] + [{str(ROOT)!r}]\n"
        "from ponder.config import ConfigError, lookup\n"
        "try:\n"
        f"    print(lookup({{}}, {name!r}, what='verifier')())\n"
        "except ConfigError as error:\n"
        "    sys.exit(str(error))\n"
        "import json.tool; print(json.tool.__name__)\n"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60)


def test_a_module_of_the_current_folder_is_found_with_what_it_imports_and_shadows_nothing_later(tmp_path):
    late = "def check():\n    import late\n    return helper.WORD + late.WORD\n"
    (tmp_path / "mymod.py").write_text(f"import helper\n\n{late}")
    (tmp_path / "helper.py").write_text("WORD = 'near'\n")
    (tmp_path / "late.py").write_text("WORD = 'by'\n")
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "__init__.py").write_text("raise SystemExit('the wrong json')\n")
    found = looked_up("mymod:check", tmp_path)
    assert found.stdout.split() == ["nearby", "json.tool"], found.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mymod:check", "there is no module 'mymod'; searched were {here} and the installed packages"),
        ("needy:check", "needy imports 'not_installed_at_all', which is not installed"),
        ("broken:check", "broken fails: SyntaxError"),
        ("raises:check", "raises fails: ZeroDivisionError"),
        ("empty:chek", "has no 'chek'"),
        ("folder/mymod.py:check", "write module:attr"),
        (":check", "write module:attr"),
        ("empty.sub:check", "there is no module 'empty.sub'"),
    ],
)
def test_a_module_that_cannot_be_loaded_says_where_was_searched_and_what_failed(tmp_path, name, message):
    (tmp_path / "needy.py").write_text("import not_installed_at_all\n")
    (tmp_path / "broken.py").write_text("def check(:\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "empty.py").write_text("")
    assert message.format(here=tmp_path) in looked_up(name, tmp_path).stderr


def test_a_shipped_recipe_goes_by_its_name_anywhere_and_a_file_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = find_recipe("demo_nano_cpu")
    assert shipped.is_file() and "debug/dapo" in recipe_names()
    for name in ("demo_nano_cpu.toml", "recipes/demo_nano_cpu.toml", Path("recipes/demo_nano_cpu.toml")):
        assert find_recipe(name) == shipped
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "demo_nano_cpu.toml").write_text("")
    assert find_recipe("recipes/demo_nano_cpu.toml") == Path("recipes/demo_nano_cpu.toml")
    with pytest.raises(ConfigError, match="did you mean 'demo_nano_cpu'.*known: .*debug/dapo"):
        find_recipe("demo_nano")
    with pytest.raises(ConfigError, match="is a folder"):
        find_recipe("recipes")
    for name in ("../config", "recipes/../../config", ""):
        with pytest.raises(ConfigError):
            find_recipe(name)


def test_a_tilde_in_a_recipe_is_the_home_folder_and_not_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "r.toml").write_text('out = "~/runs/x"\n')
    assert load(Outer, tmp_path / "r.toml").out == f"{tmp_path}/runs/x"
    assert load(Outer, tmp_path / "r.toml", ["out=~/y"]).out == f"{tmp_path}/y"


def test_a_recipe_saved_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "r.toml").write_bytes(b'\xef\xbb\xbfout = "o"\n')
    assert load(Outer, tmp_path / "r.toml").out == "o"


@pytest.mark.parametrize("value", ["1" + "0" * 400, "-1" + "0" * 400])
@pytest.mark.parametrize("key", ["steps", "limit", "inner.rate", "rungs"])
def test_a_number_too_large_to_count_with_is_one_clear_error(key, value):
    text = f"[{value}]" if key == "rungs" else value
    with pytest.raises(ConfigError, match=key.rpartition(".")[2]):
        load(Checked, None, ["out=o", f"{key}={text}"])


@dataclass(frozen=True, kw_only=True)
class Checked(Outer):
    def __post_init__(self):
        check(self)


def test_a_number_of_more_digits_than_python_reads_names_its_file(tmp_path):
    (tmp_path / "r.toml").write_text("steps = " + "9" * 5000)
    with pytest.raises(ConfigError, match=r"r\.toml is not valid TOML"):
        load(Outer, tmp_path / "r.toml", ["out=o"])


def test_a_name_that_is_not_utf_8_is_refused_before_it_makes_a_recipe_that_cannot_be_read(tmp_path):
    named = b"runs/\xff".decode("utf-8", "surrogateescape")  # as Python reads such an argument
    with pytest.raises(ConfigError, match=r"out = .*not UTF-8"):
        load(Outer, None, [f"out={named}"])
