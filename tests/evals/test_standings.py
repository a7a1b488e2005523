"""Places in standings that a user brings."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.config import ConfigError
from ponder.evals.standings import ScoreTable, place_in, read_scores

CSV = "Name,Day 1,Total,Medal\nann,100,360.5,Gold\nbob,90,213,Bronze\ncyd,80,213,bronze\ndan,1,0,\n"


def test_a_place_is_halfway_among_ties(tmp_path):
    (tmp_path / "s.csv").write_text(CSV)
    table = read_scores(tmp_path / "s.csv")
    found = place_in(table, 213)
    assert (found.place, found.size, found.percent) == (3, 4, 50)
    assert str(found) == "place 3 of 4, above 50.0 % (s.csv); bronze from 213"
    assert (place_in(table, 400).percent, place_in(table, -1).percent) == (100, 0)
    assert place_in(table, 360.5).medal == "gold" and place_in(table, 212.9).medal == ""


@pytest.mark.parametrize(
    "content",
    [CSV, CSV.replace(",", ";"), CSV.replace(",", "\t"), "\ufeff" + CSV, json.dumps([360.5, 213, 213, 0]),
     json.dumps({"scores": [{"score": 360.5}, {"score": "213"}, {"score": 213}, {"score": 0}]})],
)  # fmt: skip
def test_every_form_says_the_same(tmp_path, content):
    (tmp_path / "s").write_text(content)
    assert read_scores(tmp_path / "s").scores == (360.5, 213, 213, 0)


def test_the_column_of_the_totals_can_be_named(tmp_path):
    (tmp_path / "s.csv").write_text("who,sum\nann,5\n")
    assert read_scores(tmp_path / "s.csv", column="Sum").scores == (5,)
    with pytest.raises(ConfigError, match="--column"):
        read_scores(tmp_path / "s.csv")
    with pytest.raises(ConfigError, match="no column 'som'"):
        read_scores(tmp_path / "s.csv", column="som")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no totals"),
        ("total\n", "no totals"),
        ("total\n\nx\n", "contestant 1: total is 'x'"),
        ("name,total\nann,\n", "write 0 for none"),
        ("total\nnan\n", "not a number"),
        ("total\ninf\n", "not a number"),
        ("a,total\n5\n", "1 columns"),
        ("[5, true]", "contestant 2"),
        ("[5, [5]]", "contestant 2"),
        ("[" * 100_000, "not JSON"),
        ('{"scores": 5}', "must be a list"),
        ('[{"total": 5}, {"score": 5}]', "contestant 2: total is 'None'"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path, content, words):
    (tmp_path / "s").write_text(content)
    with pytest.raises(ConfigError, match=words):
        read_scores(tmp_path / "s")


def test_what_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "s.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="as text"):
        read_scores(tmp_path / "s.csv")
    with pytest.raises(ConfigError, match="no file"):
        read_scores(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="no number"):
        place_in(ScoreTable(name="x", scores=(1.0,)), float("nan"))


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_text_is_totals_or_one_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(ConfigError):
        assert read_scores(path).scores


def test_more_points_are_never_a_worse_place():
    table = ScoreTable(name="x", scores=(5.0, 3.0, 3.0, 1.0))
    percents = [place_in(table, score / 2).percent for score in range(14)]
    assert percents == sorted(percents)
