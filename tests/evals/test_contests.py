"""Contests: the file, the converter from the public API, score rules, and a rating that comes back."""

from __future__ import annotations

import contextlib
import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.config import ConfigError
from ponder.evals.bank import Bank, BankSpec, SampleRow
from ponder.evals.codec import encode
from ponder.evals.contest_rating import mode_of, place_among, rate
from ponder.evals.contest_rules import RULES, codeelo_worth, median_worth, untimed
from ponder.evals.contest_submissions import ContestTry, read_tries
from ponder.evals.contests import Contest, contest_of, from_standings, read_contest, read_contests, write_contest
from ponder.evals.made_up_contests import made_up_contests, made_up_tries
from ponder.evals.populations import POPULATIONS, SHARES, percentile, percentiles
from ponder.types import Message, Problem, SamplingParams

CONTENT = {
    "id": "1305",
    "kind": "cf",
    "source": "codeforces.com/contest/1305",
    "date": "2020-03-03",
    "problems": [{"index": "A", "points": 500}, {"index": "B", "points": 1000}],
    "rows": [
        {"rating": 1834, "points": 1390, "penalty": 0, "results": [[482, 0, 214], [908, 1, 950]]},
        {"rating": None, "points": -50, "penalty": 0, "results": [[0, 2, None], None]},
        {"rating": 1500, "points": 400, "penalty": 0, "results": [[400, 0, 1500], [0, 1, None]]},
    ],
}


def contest(solved: dict[int, list[float]] | None = None, *, kind: str = "cf", seconds: float = 600) -> Contest:
    """One problem of 500 points, and its solvers: {failed tries: [points, ...]}."""
    rows = [
        {"rating": 1500, "points": points, "penalty": 0, "results": [[points, failed, seconds]]}
        for failed, each in (solved or {}).items()
        for points in each
    ]
    rows.append({"rating": 1000, "points": 0, "penalty": 0, "results": [None]})
    content = {
        **CONTENT,
        "kind": kind,
        "problems": [{"index": "A", "points": 500 if kind == "cf" else 1}],
        "rows": rows,
    }
    return contest_of(content, "made here")


def tries(*verdicts: bool | None, complete: bool = True, groups: tuple[str, ...] = ()) -> list[ContestTry]:
    return [
        ContestTry(passed=passed, complete=complete, language="c++17", groups=frozenset(groups)) for passed in verdicts
    ]


# ---- the file --------------------------------------------------------------------------------------------------------


def test_a_contest_survives_its_file(tmp_path):
    made = contest_of(CONTENT, "here")
    write_contest(made, tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text()) == CONTENT
    again = read_contest(tmp_path / "c.json")
    assert again.results is not None and made.results is not None
    assert np.array_equal(again.results, made.results, equal_nan=True)
    assert np.array_equal(again.ratings, [1834, math.nan, 1500], equal_nan=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "ioi"}, "use cf"),
        ({"date": "yesterday"}, "write it as"),
        ({"id": ""}, "id must be a text"),
        ({"problems": []}, "must be a list such as"),
        ({"problems": [{"index": "A", "points": -5}]}, "points is '-5'"),
        ({"problems": [{"index": "A", "points": 5}, {"index": "A", "points": 5}]}, "same index"),
        ({"rows": {}}, "rows must be a list"),
        ({"rows": [5]}, "row 1: must be an object"),
        ({"rows": [{"rating": 1500}]}, "row 1: points missing"),
        ({"rows": [{"rating": "1500", "points": 5}]}, "row 1: rating is '1500'"),
        ({"rows": [{"rating": math.nan, "points": 5}]}, "row 1: rating is 'nan'"),
        ({"rows": [{"rating": 1500, "points": 10**400}]}, "row 1: points"),
        ({"rows": [{"rating": 1500, "points": True}]}, "row 1: points"),
        ({"rows": [{"points": 5, "results": [None]}]}, "a list of 2"),
        ({"rows": [{"points": 5, "results": [None, [5]]}]}, "result 2"),
        ({"rows": [{"points": 5, "results": [None, [5, 10**9, 5]]}]}, "result 2: rejected"),
        ({"rows": [{"points": 5, "results": [None, None]}, {"points": 5}]}, "row 2: either every row"),
    ],
)
def test_a_file_that_is_wrong_says_where(change, words):
    with pytest.raises(ConfigError, match=words):
        contest_of({**CONTENT, **change}, "file.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*CONTENT, "points"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(CONTENT)), json_values)
@settings(max_examples=40, deadline=None)
def test_any_content_is_a_contest_or_one_error(key, value):
    for read in (
        lambda: contest_of({**CONTENT, key: value}, "x"),
        lambda: from_standings(value, value),
        lambda: contest_of(value, "x"),
    ):
        with contextlib.suppress(ConfigError):
            read()


def test_a_table_larger_than_any_contest_is_refused_before_there_is_memory_for_it():
    problems = [{"index": f"P{i}", "points": 1} for i in range(5_000)]
    with pytest.raises(ConfigError, match="50,000 rows of 5,000 problems are no contest"):
        contest_of({**CONTENT, "problems": problems, "rows": [{"points": 1, "results": []}] * 50_000}, "x")


def test_files_that_are_no_json_or_twice_the_same_contest_are_refused(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="not JSON"):
        read_contests([tmp_path])
    (tmp_path / "a.json").write_text(json.dumps(CONTENT))
    (tmp_path / "b.json").write_text(json.dumps(CONTENT))
    with pytest.raises(ConfigError, match="ids must be unique"):
        read_contests([tmp_path])
    with pytest.raises(ConfigError, match="no file"):
        read_contests([tmp_path / "none.json"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no \.json file"):
        read_contests([tmp_path / "empty"])


# ---- the converter ---------------------------------------------------------------------------------------------------


def api_row(handle: str, points: float, *results: dict, kind: str = "CONTESTANT", **more) -> dict:
    party = {"members": [{"handle": name} for name in handle.split("+")], "participantType": kind, "ghost": False}
    return {"party": party, "rank": 1, "points": points, "penalty": 0, "problemResults": list(results), **more}


def api_answers() -> tuple[dict, dict]:
    solved = {"points": 482.0, "rejectedAttemptCount": 0, "type": "FINAL", "bestSubmissionTimeSeconds": 214}
    failed = {"points": 0.0, "rejectedAttemptCount": 2, "type": "FINAL"}
    untried = {"points": 0.0, "rejectedAttemptCount": 0, "type": "FINAL"}
    standings = {
        "contest": {"id": 1305, "type": "CF", "phase": "FINISHED", "startTimeSeconds": 1583246100},
        "problems": [{"index": "A", "name": "x", "points": 500.0}, {"index": "B", "name": "y", "points": 1000.0}],
        "rows": [
            api_row("ann", 482, solved, failed), api_row("bob", 0, failed, untried),
            api_row("cyd", 482, solved, untried, kind="OUT_OF_COMPETITION"), api_row("dan+eve", 482, solved, untried),
            api_row("fay", 482, solved, untried),
        ],
    }  # fmt: skip
    changes = [
        {"handle": "ann", "rank": 1, "oldRating": 1834, "newRating": 1900},
        {"handle": "bob", "rank": 2, "oldRating": 0, "newRating": 380},
        {"handle": "dan+eve", "rank": 2, "oldRating": 1700, "newRating": 1700},
    ]
    return {"status": "OK", "result": standings}, {"status": "OK", "result": changes}


def test_standings_of_the_public_api_become_a_contest_of_those_who_were_rated():
    made = from_standings(*api_answers())
    assert (made.id, made.kind, made.date, made.num_humans) == ("1305", "cf", "2020-03-03", 2)
    assert np.array_equal(made.ratings, [1834, math.nan], equal_nan=True)  # 0 before the first round: unrated
    assert made.results is not None
    assert made.results[0].tolist()[0] == [482, 0, 214]
    assert np.isnan(made.results[1, 1]).all() and made.results[1, 0, 1] == 2
    assert "ann" not in json.dumps(encode(vars(made)), default=str)  # handles are not kept
    bare = tuple(answer["result"] for answer in api_answers())
    assert from_standings(*bare).num_humans == 2


def test_answers_that_cannot_be_converted_say_why():
    good = api_answers()
    for change, words in [
        (lambda s, c: s.update(status="FAILED", comment="contestId: not found"), "not found"),
        (lambda s, c: s["result"]["contest"].update(phase="CODING"), "FINISHED"),
        (lambda s, c: s["result"].pop("rows"), "rows missing"),
        (lambda s, c: s["result"].update(rows="no"), "no list"),
        (lambda s, c: c.update(result=[]), "ratingChanges"),
        (lambda s, c: c.update(result=[{"handle": "zed", "oldRating": 5}]), "same rated round"),
        (lambda s, c: s["result"]["rows"][0]["problemResults"].pop(), "a list of 2"),
    ]:
        standings, changes = copy.deepcopy(good)
        change(standings, changes)
        with pytest.raises(ConfigError, match=words):
            from_standings(standings, changes)


# ---- score rules -----------------------------------------------------------------------------------------------------


def test_a_solved_problem_is_worth_what_the_median_human_got_after_as_many_failed_tries():
    made = contest({0: [480, 400, 300], 1: [390, 350], 2: [200]})
    assert [median_worth(made, 0, failed).points for failed in (0, 1, 2)] == [400, 370, 200]
    assert all(not median_worth(made, 0, failed).mark for failed in (0, 1, 2))


def test_where_no_human_failed_as_often_the_nearest_count_with_five_solvers_is_taken_and_marked():
    made = contest({0: [480] * 9, 1: [430, 410, 400, 390, 380], 2: [300] * 4})
    found = median_worth(made, 0, 5)  # not from 2: four solvers are too few to derive others from
    assert found.points == 400 - 4 * 50
    assert "nobody solved it after 5 failed tries; from 1" in found.mark
    assert median_worth(made, 0, 9).points == 0.3 * 500  # never below what Codeforces gives at least


def test_a_problem_that_no_human_solved_has_its_full_points_and_a_mark():
    found = median_worth(contest({}), 0, 2)
    assert found.points == 400 and "too few" in found.mark


def test_median_points_fall_with_failed_tries_when_those_of_humans_do():
    made = contest({failed: [500 - 50 * failed - 20 * i for i in range(6)] for failed in range(4)})
    worths = [median_worth(made, 0, failed).points for failed in range(9)]
    assert worths == sorted(worths, reverse=True)


def test_totals_alone_have_no_median():
    rows = [{"rating": 1500, "points": 100}]
    made = contest_of({**CONTENT, "rows": rows}, "here")
    for call in (lambda: median_worth(made, 0, 0), lambda: untimed(made)):
        with pytest.raises(ConfigError, match="totals only"):
            call()
    assert codeelo_worth(made, 0, 1).points == 450


def test_icpc_counts_problems_and_median_minutes():
    made = contest({0: [1] * 5}, kind="icpc", seconds=654)
    assert median_worth(made, 0, 0) == replace(median_worth(made, 0, 0), points=1, penalty=10)
    late = median_worth(made, 0, 2)
    assert (late.points, late.penalty) == (1, 30) and late.mark
    assert codeelo_worth(made, 0, 2).penalty == 20
    assert place_among(made, 1, 5).beaten < place_among(made, 1, 0).beaten  # less penalty is better


def test_untimed_totals_of_humans_are_made_of_the_same_medians():
    points, _ = untimed(contest({0: [480, 400, 300], 1: [390]}))
    assert points.tolist() == [400, 400, 400, 390, 0]


def test_hacks_stay_in_untimed_totals():
    made = contest({0: [480, 400, 300]})
    hacked = replace(made, points=made.points + 100)
    assert (untimed(hacked)[0] - untimed(made)[0]).tolist() == [100] * 4


# ---- places and ratings ----------------------------------------------------------------------------------------------


def test_ties_are_beaten_by_half():
    made = contest({0: [480, 400, 400, 300]})
    assert place_among(made, 400).beaten == 2 + 1
    assert place_among(made, 481).beaten == 5
    assert place_among(made, -1).beaten == 0


def test_the_first_passing_try_within_ten_counts():
    made = contest({failed: [450 - 40 * failed] * 6 for failed in range(11)})
    points = lambda *verdicts, **more: rate([made], {("1305", "A"): tries(*verdicts)}, **more).contests[0].points
    assert points(True) == 450
    assert points(False, False, True, False) == 370
    assert points(*[False] * 9, True) == 90
    assert points(*[False] * 10, True) == 0
    assert points(False, False, True, num_tries=2) == 0


def test_undecided_verdicts_are_an_error_only_where_they_matter():
    made = contest({0: [450] * 6})
    assert rate([made], {("1305", "A"): tries(True, None)}).contests[0].num_solved == 1
    with pytest.raises(ConfigError, match="try 2 is undecided"):
        rate([made], {("1305", "A"): tries(False, None, True)})


def test_a_contest_counts_whole_and_with_complete_tests_only():
    made = contest({0: [450] * 6})
    with pytest.raises(ConfigError, match="no try at A"):
        rate([made], {})
    with pytest.raises(ConfigError, match="no contest is left.*not the official ones in full"):
        rate([made], {("1305", "A"): tries(True, complete=False)})
    other = replace(made, id="7")
    found = rate([made, other], {("1305", "A"): tries(True, complete=False), ("7", "A"): tries(True)})
    assert [line.contest for line in found.contests] == ["7"] and "1305" in found.refused[0]


def test_a_contest_without_ratings_or_with_an_unknown_rule_is_refused():
    made = contest({0: [450] * 6})
    with pytest.raises(ConfigError, match="none of its humans has a rating"):
        rate([replace(made, ratings=made.ratings * math.nan)], {("1305", "A"): tries(True)})
    with pytest.raises(ConfigError, match="did you mean.*median|median, codeelo, untimed"):
        rate([made], {("1305", "A"): tries(True)}, rule="medain")


def test_contests_without_humans_give_points_and_say_so():
    problems = [{"index": "A", "points": 22, "groups": {"subtask1": 7, "subtask2": 15}}, {"index": "B", "points": 10}]
    made = contest_of({**CONTENT, "problems": problems, "rows": []}, "a round of Code Jam")
    found = rate([made], {("1305", "A"): tries(False, False, groups=("subtask1",)), ("1305", "B"): tries(False, True)})
    assert (found.mode, found.rating, found.percentiles) == ("points", None, ())
    assert (found.contests[0].points, found.contests[0].max_points) == (17, 32)
    assert found.contests[0].place is None


def test_problems_whose_tests_have_points_are_contests_by_source(tmp_path):
    rows = [
        {"id": name, "source": f"Jam {year}", "tests": [{"group": "sample"}, *(
            {"group": f"subtask{i}", "points": 7 * i, "input": "", "output": ""} for i in (1, 1, 2))]}
        for name, year in (("jam-a", 2008), ("jam-b", 2008), ("jam-c", 2009))
    ]  # fmt: skip
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = read_contests([tmp_path / "p.jsonl"])
    assert (first.id, first.date, mode_of(first)) == ("Jam 2008", "2008", "points")
    assert [(p.index, p.points, dict(p.groups)) for p in second.problems] == [
        ("jam-c", 21, {"subtask1": 7, "subtask2": 14})
    ]
    found = rate([second], {("Jam 2009", "jam-c"): tries(False, groups=("subtask2",))})
    assert found.contests[0].points == 14
    (tmp_path / "q.jsonl").write_text(json.dumps({"id": "x", "tests": []}))
    with pytest.raises(ConfigError, match="of no contest"):
        read_contests([tmp_path / "q.jsonl"])
    (tmp_path / "q.jsonl").write_text(json.dumps({"id": "x", "source": "y", "tests": [5]}))
    with pytest.raises(ConfigError, match="line 1: must be an object"):
        read_contests([tmp_path / "q.jsonl"])


def test_modes_are_not_mixed():
    made = contest({0: [450] * 6})
    alone = contest_of({**CONTENT, "id": "8", "rows": []}, "here")
    assert mode_of(made) == "standings"
    with pytest.raises(ConfigError, match="cannot be rated together"):
        rate([made, alone], {})


def test_real_standings_have_percentiles_in_every_population_and_made_up_ones_none():
    made = contest({failed: [450 - 40 * failed] * 6 for failed in range(4)})
    found = rate([made], {("1305", "A"): tries(False, True)})
    assert [each.population for each in found.percentiles] == [each.name for each in POPULATIONS]
    assert all(each.low < each.percent < each.high for each in found.percentiles)
    invented = replace(made, source="made-up: no people")
    assert rate([invented], {("1305", "A"): tries(False, True)}).percentiles == ()


def test_who_beats_everybody_has_a_bound_in_json_too():
    made = contest({0: [300] * 6})
    found = rate([made], {("1305", "A"): tries(True)}, rule="codeelo")
    assert found.rating is not None and found.rating.value is None and found.rating.bound is not None
    stored = json.loads(json.dumps(encode(found)))
    assert stored["rating"]["high"] is None and stored["rating"]["bound"] > 1500 and stored["codeelo_cut"] == 1


@pytest.mark.parametrize("rating", [1100, 1500, 2000])
def test_the_true_rating_of_a_made_up_model_comes_back(rating):
    held = made_up_contests(num=24, num_humans=300, seed=1)
    found = rate(held, made_up_tries(held, rating=rating, seed=1)).rating
    assert found is not None and found.value == pytest.approx(rating, abs=110)
    assert found.low <= rating <= found.high


@pytest.mark.slow
def test_where_speed_is_skill_the_median_rule_rates_the_strong_too_low_and_untimed_does_not():
    held = made_up_contests(num=24, num_humans=200, seed=2, speed=1.0)
    made = made_up_tries(held, rating=2500, seed=2)
    value = lambda rule: rate(held, made, rule=rule).rating.value
    assert value("median") < value("untimed") - 50 < 2500
    assert value("untimed") == pytest.approx(2500, abs=130)
    assert value("codeelo") > value("untimed")


def test_made_up_contests_depend_on_the_seed_alone():
    first, again, other = (made_up_contests(num=1, num_humans=50, seed=seed)[0] for seed in (3, 3, 4))
    assert np.array_equal(first.points, again.points) and not np.array_equal(first.points, other.points)
    assert first.results is not None and first.is_made_up
    assert np.allclose(np.nansum(first.results[:, :, 0], axis=1), first.points)


def test_every_rule_is_monotone_in_what_was_solved():
    held = made_up_contests(num=1, num_humans=200, seed=5)
    for rule in RULES:
        beaten = []
        for solved in range(9):
            own = {(held[0].id, p.index): tries(i < solved) for i, p in enumerate(held[0].problems)}
            beaten.append(rate(held, own, rule=rule).contests[0].share_beaten)
        assert beaten == sorted(beaten)


# ---- percentiles -----------------------------------------------------------------------------------------------------


def test_populations_are_quantiles():
    for population in POPULATIONS:
        assert len(population.values) == len(SHARES) == 50
        assert list(population.values) == sorted(population.values)
        assert [percentile(rating, population) for rating in (-1e9, 1e9)] == [SHARES[0], SHARES[-1]]
        rising = [percentile(rating, population) for rating in range(0, 4000, 7)]
        assert rising == sorted(rising)


def test_a_percentile_is_told_with_its_population_date_and_size():
    first, second = percentiles(1673)
    assert str(first) == "above 92.8 % of 717,421 rated users (CodeElo's list, published 2025-01)"
    assert "above 83.6 % of 60,139" in str(second) and "2020" in str(second)
    assert "more than 99.99 %" in str(percentiles(3999)[0]) and "less than 0.05 %" in str(percentiles(0)[0])
    assert "(" in str(percentiles(1673, 1500, 1800)[0]).partition("%")[0]  # the interval's ends


# ---- submissions -----------------------------------------------------------------------------------------------------


def test_submissions_of_a_file_keep_their_order(tmp_path):
    rows = [{"contest": 1305, "problem": "A", "passed": passed, "complete": True, "language": "c++17"}
            for passed in (False, None, True)]  # fmt: skip
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for path in (tmp_path, tmp_path / "t.jsonl"):
        assert [each.passed for each in read_tries(path)["1305", "A"]] == [False, None, True]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"contest": None}, "contest must be"),
        ({"problem": 7}, "problem must be"),
        ({"passed": "yes"}, "passed must be"),
        ({"passed": [1]}, "passed must be"),
        ({"complete": None}, "complete must be"),
        ({"language": ""}, "no language"),
        ({"groups": "all"}, "groups must be"),
    ],
)
def test_a_line_that_is_wrong_says_where(tmp_path, change, words):
    row = {"contest": "1305", "problem": "A", "passed": True, "complete": True, "language": "c++17", **change}
    (tmp_path / "t.jsonl").write_text(json.dumps(row))
    with pytest.raises(ConfigError, match=f"line 1.*{words}"):
        read_tries(tmp_path / "t.jsonl")


def test_submissions_that_are_not_there_are_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no file"):
        read_tries(tmp_path / "none.jsonl")
    (tmp_path / "t.jsonl").write_text("")
    with pytest.raises(ConfigError, match="no submission"):
        read_tries(tmp_path)


def test_the_samples_of_a_bank_are_tries_in_their_order(tmp_path):
    spec = BankSpec(task="codeforces", split="test", model="none", params=SamplingParams())
    outcomes = ("wrong", "undecided", "correct")
    with Bank.open(tmp_path / "bank", spec) as bank:
        for name, facts in (("1305/A", {"complete": True}), ("cf/1305/B", {})):
            problem = Problem(
                id=name, prompt=(Message(role="user", content="?"),), target="", task="codeforces", meta=facts
            )
            rows = [
                SampleRow(problem=name, sample=j, seed=j, answer_class="x", outcome=outcome, prompt_tokens=1,
                          reasoning_tokens=0, tokens=1, reasoning="", answer="", token_ids=[1], sampler_logprobs=[0.0])
                for j, outcome in enumerate(outcomes)
            ]  # fmt: skip
            bank.append(problem, rows, prompt_ids=[1])
    with pytest.raises(ConfigError, match="--language"):
        read_tries(tmp_path / "bank")
    found = read_tries(tmp_path / "bank", language="python")
    assert [each.passed for each in found["1305", "A"]] == [False, None, True]
    assert [found[place][0].complete for place in (("1305", "A"), ("1305", "B"))] == [True, False]


# ---- the verbs -------------------------------------------------------------------------------------------------------


def run(capsys, monkeypatch, *arguments: str) -> str:
    from ponder.cli.app import main

    monkeypatch.setattr("sys.argv", ["ponder", *arguments])
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.slow
def test_the_verb_rates_made_up_contests_end_to_end(capsys, monkeypatch):
    out = run(
        capsys, monkeypatch, "contest", "rate", "--made-up", "--rounds", "8", "--humans", "200", "--rating", "1600"
    )
    assert "made-up contests" in out and "jackknife over 8 contests" in out and "true rating is 1600" in out
    as_json = run(capsys, monkeypatch, "contest", "rate", "--made-up", "--rounds", "3", "--humans", "50", "--json")
    found = json.loads(as_json)
    assert found["mode"] == "made-up" and found["rating"]["num_contests"] == 3 and len(found["contests"]) == 3


def test_the_verbs_go_from_the_apis_answers_to_percentiles(tmp_path, capsys, monkeypatch):
    for name, answer in zip(("s.json", "r.json"), api_answers(), strict=True):
        (tmp_path / name).write_text(json.dumps(answer))
    told = run(capsys, monkeypatch, "contest", "standings", str(tmp_path / "s.json"), str(tmp_path / "r.json"), "--out",
               str(tmp_path / "c.json"))  # fmt: skip
    assert "2 rated humans" in told
    (tmp_path / "t.jsonl").write_text(
        "".join(
            json.dumps({"contest": "1305", "problem": p, "passed": p == "A", "complete": True}) + "\n" for p in "AB"
        )
    )
    out = run(capsys, monkeypatch, "contest", "rate", str(tmp_path / "t.jsonl"), "--contest", str(tmp_path / "c.json"),
              "--language", "python")  # fmt: skip
    assert "language: python" in out and "real standings" in out and "717,421 rated users" in out and "k = 1" in out


def test_the_verbs_place_and_problems(tmp_path, capsys, monkeypatch):
    (tmp_path / "s.csv").write_text("total\n300\n200\n100\n")
    assert "place 2.5 of 3, above 50.0 %" in run(
        capsys, monkeypatch, "contest", "place", "200", "--among", str(tmp_path / "s.csv")
    )
    row = {"id": "7/A", "tests": [], "complete": False, "incomplete": "interactive"}
    monkeypatch.setattr("ponder.tasks.codeforces.codeforces_rows", lambda rounds: [row])
    out = run(capsys, monkeypatch, "contest", "problems", "7", "--out", str(tmp_path / "p.jsonl"))
    assert "1 problems; no rating from 7/A (interactive)" in out
    assert json.loads((tmp_path / "p.jsonl").read_text())["id"] == "7/A"


@pytest.mark.parametrize("speed", [-0.1, 1.5])
def test_a_share_of_speed_is_a_share(speed):
    with pytest.raises(ConfigError, match="a share of the time to a solution"):
        made_up_contests(num=1, num_humans=10, speed=speed)


@pytest.mark.slow
def test_the_tries_of_a_made_up_model_that_count_are_those_that_were_asked_for(capsys, monkeypatch):
    words = ("contest", "rate", "--made-up", "--rounds", "2", "--humans", "50", "--json")
    found = [json.loads(run(capsys, monkeypatch, *words, "--tries", tries)) for tries in ("1", "10", "20")]
    assert [each["num_tries"] for each in found] == [1, 10, 20]
    solved = [sum(line["num_solved"] for line in each["contests"]) for each in found]
    assert solved[0] <= solved[1] <= solved[2]
