"""Keeping one's own right answers: only verified ones, no more than asked, and nothing is drawn twice."""

from __future__ import annotations

import asyncio
import json
import resource

import pytest

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.files import InUse, StorageError
from ponder.rollouts.grade import Tally
from ponder.tasks import load_task
from ponder.tasks.prompting import Prompted
from ponder.train.sft import read_solutions
from ponder.train.star import RowsFile, StarConfig, star
from ponder.types import SamplingParams

pytestmark = pytest.mark.slow

TASK = load_task("words:level=1-2,size=12", split="train")
ANSWERS = {TASK[i].text: TASK[i].target for i in range(len(TASK))}


def scripted(respond):
    return ScriptedEngine(lambda text, seed: respond(text.partition("\n\n(Hint")[0], seed, "(Hint" in text))


def solver(text, seed, hinted):
    return (f"way {seed % 5}", ANSWERS[text] if seed % 2 else "0")


def whole_lines(path):
    return path.read_text().split("\n")[:-1]


def run(engine, out, *, task=TASK, limit=None, model="m", on_progress=None, **changes):
    config = StarConfig(
        **({"num_samples": 16, "in_flight": 32, "params": SamplingParams(max_answer_tokens=32)} | changes)
    )
    return asyncio.run(star(task, engine, config, out=out, model=model, limit=limit, on_progress=on_progress))


def test_only_verified_solutions_are_kept_none_twice_and_no_more_than_asked(tmp_path):
    result = run(scripted(solver), tmp_path / "rows.jsonl", keep=3)
    rows = read_solutions(tmp_path / "rows.jsonl")
    assert (
        result["rows"] == len(rows) and result["problems"] == result["solved"] == 12 and 0.2 < result["pass_rate"] < 0.8
    )
    for text, target in ANSWERS.items():
        own = [row for row in rows if row["problem"] == text]
        assert 1 <= len(own) <= 3 and len({row["reasoning"] for row in own}) == len(own)
        assert all(row["answer"] == target for row in own)


def test_a_completion_that_a_budget_ended_is_not_kept(tmp_path):
    engine = scripted(lambda text, seed, hinted: ("word " * 50, ANSWERS[text]))
    assert run(engine, tmp_path / "r.jsonl", params=SamplingParams(max_reasoning_tokens=20))["rows"] == 0


def test_a_bare_answer_is_nothing_to_learn_from_and_a_model_without_marks_thinks_in_its_answer(tmp_path):
    assert run(scripted(lambda text, seed, hinted: ANSWERS[text]), tmp_path / "a.jsonl")["rows"] == 0
    run(scripted(lambda text, seed, hinted: f"I add them up. It is {ANSWERS[text]}."), tmp_path / "b.jsonl",
        params=SamplingParams(max_answer_tokens=200))  # fmt: skip
    assert all(row["reasoning"].startswith("I add") for row in read_solutions(tmp_path / "b.jsonl"))


def test_work_in_the_open_becomes_reasoning_and_what_was_read_the_answer_under_the_plain_problem(tmp_path):
    def in_the_open(text, seed, hinted):
        problem, _, instruction = text.partition("\n\n")
        assert instruction == "Let's think step by step."
        return f"I add {'and add ' * (seed % 7)}them up.\n\nThe answer is **{ANSWERS[problem]}**."

    params = SamplingParams(max_answer_tokens=400)
    task = Prompted(TASK, "zero_shot_cot")
    run(ScriptedEngine(lambda text, seed: in_the_open(text, seed, False)), tmp_path / "s.jsonl", task=task,
        params=params, num_samples=64, keep=2, shortest=True)  # fmt: skip
    rows = read_solutions(tmp_path / "s.jsonl")
    assert {row["problem"] for row in rows} == set(ANSWERS)
    for text, target in ANSWERS.items():
        own = [row for row in rows if row["problem"] == text]
        assert [row["answer"] for row in own] == [target] * len(own)
        assert sorted(row["reasoning"].count("and add") for row in own) == [0, 1]  # the two shortest of up to seven


def test_brief_rows_hold_the_work_without_its_frame_and_their_answer_is_the_one_that_was_read(tmp_path):
    def framed(text, seed, hinted):
        return (
            "To solve this, we follow these steps:\n\n1. Add them.\n2. Check.\n\n"
            f"First we add what there is:\n\n\\[\n9 + {seed % 3} = {ANSWERS[text]}\n\\]\n\n"
            f"Therefore, there are \\boxed{{{ANSWERS[text]}}}."
        )

    run(scripted(framed), tmp_path / "r.jsonl", params=SamplingParams(max_answer_tokens=400), brief=True)
    rows = read_solutions(tmp_path / "r.jsonl")
    assert len(rows) == 3 * len(ANSWERS)  # three ways that differ in the work
    assert all(row["reasoning"].startswith("\\[ 9 + ") and row["reasoning"].endswith(" \\]") for row in rows)
    assert all(row["answer"] == ANSWERS[row["problem"]] for row in rows)


def test_a_hint_is_tried_only_where_nothing_was_right_and_leaves_no_trace(tmp_path):
    def respond(text, seed, hinted):
        if not hinted:
            return ("wrong way", "0")
        return ("the hint says so" if seed % 2 else "two and two", ANSWERS[text])

    result = run(scripted(respond), tmp_path / "h.jsonl", hint=True)
    rows = read_solutions(tmp_path / "h.jsonl")
    assert result["solved"] == 0 and result["solved_with_hint"] == 12 and result["pass_rate"] == 0
    assert {row["reasoning"] for row in rows} == {"two and two"} and {row["problem"] for row in rows} == set(ANSWERS)
    assert run(scripted(respond), tmp_path / "n.jsonl")["rows"] == 0


def test_a_stopped_run_goes_on_and_ends_as_one_that_was_not_stopped(tmp_path):
    run(scripted(solver), tmp_path / "whole.jsonl")

    def stop(done, total, share):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(BaseException):  # noqa: B017  (an exception group, or the interrupt itself)
        run(scripted(solver), tmp_path / "part.jsonl", on_progress=stop, in_flight=1)
    torn = tmp_path / "part.jsonl"
    torn.write_text(torn.read_text() + '{"problem": "rows without their line in the book"}\n{"torn')
    engine = scripted(solver)
    result = run(engine, torn, in_flight=1)
    assert sorted(whole_lines(torn)) == sorted(whole_lines(tmp_path / "whole.jsonl"))
    assert result["problems"] == 12 and len(engine.calls) == 7


def test_other_settings_do_not_mix_with_what_is_there(tmp_path):
    out = tmp_path / "rows.jsonl"
    run(scripted(solver), out, limit=2)
    for change in (
        {"model": "n"},
        {"num_samples": 4},
        {"params": SamplingParams(temperature=0.5, max_answer_tokens=32)},
    ):
        with pytest.raises(ConfigError, match="another (model|num_samples|temperature)"):
            run(scripted(solver), out, **change)
    assert run(scripted(solver), out, limit=12)["problems"] == 12
    foreign = tmp_path / "mine.jsonl"
    foreign.write_text("{}\n")
    with pytest.raises(ConfigError, match="not made by this command"):
        run(scripted(solver), foreign)
    out.write_text("")
    with pytest.raises(ConfigError, match="delete both"):
        run(scripted(solver), out)


def test_exams_and_pointless_settings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="test split"):
        run(scripted(solver), tmp_path / "x.jsonl", task=load_task("words:size=3"))
    with pytest.raises(ValueError, match="same sample"):
        StarConfig(params=SamplingParams(temperature=0))
    with pytest.raises(ValueError, match="1 or more"):
        StarConfig(keep=0)


def test_the_book_says_of_each_problem_what_came_of_it(tmp_path):
    run(scripted(solver), tmp_path / "rows.jsonl", keep=2)
    settings, *facts = map(json.loads, whole_lines(tmp_path / "rows.jsonl.progress.jsonl"))
    assert settings["num_samples"] == 16 and settings["max_answer_tokens"] == 32
    assert {fact["id"] for fact in facts} == {TASK[i].id for i in range(12)} and all(
        fact["kept"] <= 2 for fact in facts
    )


def test_rows_of_a_task_that_has_changed_do_not_mix_and_old_books_go_on_with_a_note(tmp_path):
    out = tmp_path / "rows.jsonl"
    run(scripted(solver), out, limit=2)
    other = load_task("words:level=1-2,size=12", split="train", seed=1)
    other.name = TASK.name
    with pytest.raises(ConfigError, match="begun with another content of the task"):
        run(scripted(solver), out, task=other)
    book = tmp_path / "rows.jsonl.progress.jsonl"
    first, *rest = whole_lines(book)
    settings = json.loads(first)
    del settings["content of the task"]
    book.write_text("".join(line + "\n" for line in [json.dumps(settings), *rest]))
    with pytest.warns(UserWarning, match="keeps no hash of the task"):
        assert run(scripted(solver), out, limit=3)["problems"] == 3


def test_two_processes_cannot_write_one_file_of_rows(tmp_path):
    out = tmp_path / "rows.jsonl"
    with RowsFile(out, {}), pytest.raises(InUse, match=r"rows\.jsonl is being written by process"):
        run(scripted(solver), out)
    assert whole_lines(tmp_path / "rows.jsonl.progress.jsonl") == ["{}"]


def test_a_failure_while_drawing_is_raised_as_itself(tmp_path):
    def refuse(text, seed, hinted):
        raise ConfigError("the server refused the key; give another --api-key")

    with pytest.raises(ConfigError, match="refused the key"):
        run(scripted(refuse), tmp_path / "rows.jsonl")


def test_half_a_character_of_a_models_text_is_kept_and_ends_nothing(tmp_path):
    out, problem = tmp_path / "rows.jsonl", TASK[0]  # an endpoint's JSON may hold one
    row = {"problem": problem.text, "reasoning": "way \ud83d", "answer": problem.target}
    with RowsFile(out, {}, [problem]) as file:
        file.add(problem.id, [row], Tally(), hinted=0)
    with RowsFile(out, {}, [problem]) as file:
        assert file.done == {problem.id}
    assert [json.loads(line) for line in whole_lines(out)] == [row]


@pytest.mark.parametrize("key", ["right", "kept", "hinted"])
def test_a_line_of_progress_without_its_counts_is_damaged_before_anything_is_drawn(key, tmp_path):
    out, book, problem = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.progress.jsonl", TASK[0]
    with RowsFile(out, {}, [problem]) as file:
        file.add(problem.id, [], Tally(), hinted=0)
    settings, fact = whole_lines(book)
    book.write_text(settings + "\n" + json.dumps({k: v for k, v in json.loads(fact).items() if k != key}) + "\n")
    with pytest.raises(ConfigError, match=f"{book.name}:2 is damaged"):
        RowsFile(out, {}, [problem])


@pytest.mark.parametrize("part", ["rows", "progress"])
@pytest.mark.parametrize("damage", [b"\xff", b"]", b"[" * 200_000])
def test_a_damaged_line_is_named_nothing_is_touched_and_without_it_the_rest_is_drawn_again(part, damage, tmp_path):
    out, book = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.progress.jsonl"
    run(scripted(solver), out, in_flight=1)
    whole, path = sorted(whole_lines(out)), out if part == "rows" else book
    lines = path.read_bytes().split(b"\n")
    lines[3] = damage + lines[3]
    path.write_bytes(b"\n".join(lines))
    before = out.read_bytes(), book.read_bytes()
    with pytest.raises(ConfigError, match=rf"{path.name}:4 is damaged; delete that line"):
        run(scripted(solver), out, in_flight=1)
    assert (out.read_bytes(), book.read_bytes()) == before
    del lines[3]
    path.write_bytes(b"\n".join(lines))
    if part == "rows":
        with pytest.raises(ConfigError, match="lacks rows of 1 problems .* delete their lines there") as error:
            run(scripted(solver), out, in_flight=1)
        lost = str(error.value).partition("counts (")[2].partition(",")[0]
        book.write_text("".join(line + "\n" for line in whole_lines(book) if f'"{lost}"' not in line))
    engine = scripted(solver)
    assert run(engine, out, in_flight=1)["problems"] == 12 and len(engine.calls) == 1
    assert sorted(whole_lines(out)) == whole


@pytest.mark.parametrize("size", [0, 20])
def test_rows_whose_book_was_emptied_or_cut_in_its_settings_stay_as_they_are(size, tmp_path):
    out, book = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.progress.jsonl"
    run(scripted(solver), out)
    before = out.read_bytes()
    book.write_bytes(book.read_bytes()[:size])
    with pytest.raises(ConfigError, match=f"{book.name}:1 is damaged: it should hold the settings; restore it"):
        run(scripted(solver), out)
    assert before and out.read_bytes() == before and book.stat().st_size == size


def test_rows_of_something_else_under_the_same_name_stay_as_they_are(tmp_path):
    out = tmp_path / "rows.jsonl"
    run(scripted(solver), out, limit=2)
    other = "".join(json.dumps({"problem": f"p{i}", "reasoning": "r", "answer": "1"}) + "\n" for i in range(500))
    for text in (other, other + out.read_text()):
        out.write_text(text)
        with pytest.raises(ConfigError, match="delete"):
            run(scripted(solver), out)
        assert out.read_text() == text


def test_a_full_disk_is_one_error_with_the_fix_and_later_the_rows_are_the_same(tmp_path):
    run(scripted(solver), tmp_path / "whole.jsonl")
    out, limits = tmp_path / "part.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1100, limits[1]))
    try:
        with pytest.raises(StorageError, match="free some space"):
            run(scripted(solver), out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    begun = whole_lines(out)
    assert begun and not out.read_text().rpartition("\n")[2]
    assert run(scripted(solver), out)["problems"] == 12
    assert set(begun) <= set(whole_lines(out)) and sorted(whole_lines(out)) == sorted(
        whole_lines(tmp_path / "whole.jsonl")
    )
