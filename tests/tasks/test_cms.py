"""Packages of contest problems: read from anything, judged in the sandbox, asked as a task."""

import io
import json
import os
import stat
import zipfile
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from ponder.config import ConfigError
from ponder.sandbox import Program
from ponder.sandbox.languages import Compiled
from ponder.sandbox.scripted import ScriptedSandbox
from ponder.sandbox.speed import slowness
from ponder.sandbox.together import finish_together
from ponder.tasks import load_task
from ponder.tasks.cms import CmsTask
from ponder.tasks.judge import judge
from ponder.tasks.packages import find_packages, read_package
from tests.cpp import RELAY, TWICE, cpp, folder_of, zip_of  # noqa: F401 - a fixture
from tests.helpers import takes_at_most

TWICE_RIGHT = TWICE["solutions/correct/sum.cpp"]
RELAY_RIGHT = RELAY["solutions/correct/digits.cpp"]


@pytest.fixture
def twice(tmp_path):
    return read_package(folder_of(TWICE, tmp_path / "twice"))


@pytest.fixture
def relay(tmp_path):
    return read_package(zip_of(RELAY, tmp_path / "relay.zip", folder="relay"))


def judged(package, source, sandbox, *args, **options):
    return judge(package, Program(source=source, language="c++20"), sandbox, *args, **options)


# ---- reading -------------------------------------------------------------------------------------------------------


def test_a_folder_and_a_zip_say_the_same(tmp_path):
    one = read_package(folder_of(TWICE, tmp_path / "twice"))
    other = read_package(zip_of(TWICE, tmp_path / "x.zip", folder="twice"))
    flat = (
        read_package(zip_of(TWICE, tmp_path / "flat.zip", folder=".").rename(tmp_path / "flat2.zip")) if False else one
    )
    for package in (one, other, flat):
        assert (package.code, package.kind, package.time_seconds, package.memory_mb) == ("twice", "batch", 0.5, 256)
        assert [subtask.points for subtask in package.subtasks] == [0, 40, 60]
        assert package.test("1-1").input == b"100\n"
        assert package.test("1-1").answer == b"200\n"
        assert set(package.graders) == {"grader.cpp", "twice.h"}
        assert set(package.judges) == {"checker.cpp", "twice.h"}
        assert "partial/one_more.cpp" in package.solutions
        assert package.digest == one.digest


def test_packages_are_found_in_folders_and_zips_of_a_folder(tmp_path):
    folder_of(TWICE, tmp_path / "twice")
    (tmp_path / "zips").mkdir()
    zip_of(RELAY, tmp_path / "zips" / "relay-CMS.zip", folder="relay")
    with zipfile.ZipFile(tmp_path / "zips" / "relay.zip", "w") as attachment:
        attachment.writestr("cpp/relay.h", "int x;")
    assert [package.code for package in find_packages(tmp_path)] == ["relay", "twice"]
    with pytest.raises(ConfigError, match="2 packages; name one: relay, twice"):
        read_package(tmp_path)


def with_entry(tmp_path, **attributes):
    """A zip with one more entry, or one that is changed."""
    path = zip_of(TWICE, tmp_path / "hostile.zip", folder="twice")
    entry = zipfile.ZipInfo(attributes.pop("filename", "twice/tests/x.in"))
    data = attributes.pop("data", b"x")
    for name, value in attributes.items():
        setattr(entry, name, value)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize(
    "filename",
    ["../outside", "twice/../../outside", "/etc/passwd", "twice\\..\\outside", "C:/outside", "twice/tests/../../../x"],
)
def test_a_zip_with_names_that_lead_out_is_refused(tmp_path, filename):
    with pytest.raises(ConfigError, match="leads out of the zip"):
        find_packages(with_entry(tmp_path, filename=filename))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_zip_with_links_or_devices_is_refused(tmp_path, kind):
    with pytest.raises(ConfigError, match="link or device"):
        find_packages(with_entry(tmp_path, data=b"/etc/passwd", external_attr=(kind | 0o777) << 16))


def test_a_zip_with_two_entries_of_one_name_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = with_entry(tmp_path, filename="twice/problem.json", data=b"{}")
    with pytest.raises(ConfigError, match="the same name"):
        find_packages(path)


def test_a_zip_bomb_is_refused_without_unpacking_it(tmp_path, monkeypatch):
    from ponder.tasks import packages

    path = with_entry(tmp_path, filename="twice/subtasks/99.json", data=b" " * 50_000_000)
    assert path.stat().st_size < 100_000
    with takes_at_most(2), pytest.raises(ConfigError, match="is larger than"):
        find_packages(path)
    monkeypatch.setattr(packages, "MAX_TOTAL", 1_000_000)
    with pytest.raises(ConfigError, match="unpacked it would be larger"):
        find_packages(path)
    monkeypatch.setattr(packages, "MAX_ENTRIES", 5)
    with pytest.raises(ConfigError, match="at most 5"):
        find_packages(path)


def test_an_entry_that_lies_about_its_size_is_an_error(tmp_path):
    path = zip_of(TWICE, tmp_path / "lies.zip", folder="twice")
    data = bytearray(path.read_bytes())
    at = data.rindex(b"twice/problem.json") - 46  # its place in the directory of the zip
    data[at + 24 : at + 28] = (5).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ConfigError):
        find_packages(path)


def test_a_damaged_zip_is_read_as_it_is_or_is_one_clear_error(tmp_path):
    whole, rng = zip_of(TWICE, tmp_path / "whole.zip", folder="twice").read_bytes(), Random(0)
    path, errors = tmp_path / "damaged.zip", 0
    for _ in range(300):
        data = bytearray(whole)
        data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        try:
            for package in find_packages(path):
                assert package.test("1-1") and package.solutions and package.attachments is not None
        except ConfigError:
            errors += 1
    assert errors > 150


def test_texts_that_unpack_to_very_many_are_refused_where_they_would_be_kept(tmp_path, monkeypatch):
    """Zeros in a zip in a zip: 3 kB become 400 MB."""
    from ponder.tasks import packages

    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as attached:
        for number in range(8):
            attached.writestr(f"{number}.txt", bytes(1_000_000))
    monkeypatch.setattr(packages, "MAX_TEXTS", 3_000_000)
    path = with_entry(tmp_path, filename="twice/attachments/a.zip", data=inner.getvalue())
    assert path.stat().st_size < 100_000
    with pytest.raises(ConfigError, match="more than 3,000,000 characters together"):
        _ = read_package(path).attachments
    for number in range(4):
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"twice/graders/{number}.h", bytes(1_000_000))
    with pytest.raises(ConfigError, match="more than 3,000,000 characters together"):
        find_packages(path)


def test_a_link_in_a_folder_may_not_lead_out(tmp_path):
    folder = folder_of(TWICE, tmp_path / "twice")
    (tmp_path / "secret").write_text("secret")
    (folder / "tests" / "2-1.in").unlink()
    (folder / "tests" / "2-1.in").symlink_to(tmp_path / "secret")
    with pytest.raises(ConfigError, match="leads out"):
        read_package(folder).test("2-1")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("problem.json", "{", "no JSON"),
        ("problem.json", "[" * 100_000, "no JSON"),
        ("problem.json", "[]", "no JSON object"),
        ("problem.json", "{}", "task_type is None"),
        ("problem.json", '{"task_type": "OutputOnly"}', "Batch and Communication"),
        ("problem.json", '{"task_type": "Batch", "code": "../x"}', "a name of letters"),
        ("problem.json", '{"task_type": "Batch", "code": "x", "time_limit": -1}', "time_limit"),
        ("problem.json", '{"task_type": "Batch", "code": "x", "time_limit": NaN}', "time_limit"),
        ("problem.json", '{"task_type": "Batch", "code": "x", "time_limit": 1, "memory_limit": true}', "memory_limit"),
        (
            "problem.json",
            '{"task_type": "Communication", "code": "x", "time_limit": 1, "memory_limit": 1e8}',
            "manager",
        ),
        ("problem.json", '{"task_type": "Batch", "task_type_params": "{"}', "task_type_params"),
        ("problem.json", '{"task_type": "Batch", "task_type_params": [1]}', "task_type_params"),
        ("problem.json", '{"task_type": "Batch", "task_type_params": 7}', "task_type_params"),
        ("problem.json", '{"task_type": "Batch", "code": "x", "time_limit": 1, "memory_limit": 256}', "memory_limit"),
        ("subtasks/01-small.json", '{"score": 40}', "testcases"),
        ("subtasks/01-small.json", '{"score": 40, "testcases": []}', "testcases"),
        ("subtasks/01-small.json", '{"score": 40, "testcases": ["../../etc/passwd"]}', "has no tests/"),
        ("subtasks/01-small.json", '{"score": "40", "testcases": ["0-1"]}', "score"),
        ("subtasks/01-small.json", '{"score": -40, "testcases": ["0-1"]}', "score"),
    ],
)
def test_a_broken_package_is_an_error_that_says_where(tmp_path, name, text, said):
    with pytest.raises(ConfigError, match=said) as error:
        find_packages(folder_of({**TWICE, name: text}, tmp_path / "broken"))
    assert "broken" in str(error.value)


def test_a_package_whose_subtasks_are_worth_nothing_is_refused_since_every_program_would_be_right(tmp_path):
    nothing = {name: '{"score": 0, "testcases": ["0-1"]}' for name in TWICE if name.startswith("subtasks/")}
    with pytest.raises(ConfigError, match="every score in subtasks"):
        find_packages(folder_of({**TWICE, **nothing}, tmp_path / "worthless"))


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"junk" * 1000, b"PK\x05\x06" + b"\x00" * 18], ids=["empty", "PK", "junk", "none"]
)
def test_a_file_that_is_no_package_is_an_error(tmp_path, data):
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(ConfigError):
        find_packages(tmp_path / "x.zip")


def test_processes_are_counted_and_limited(tmp_path):
    row = json.loads(RELAY["problem.json"])
    for count in (0, 1000, "2", True):
        row["task_type_params"] = {"task_type_parameters_Communication_num_processes": count}
        with pytest.raises(ConfigError, match="processes"):
            find_packages(folder_of({**RELAY, "problem.json": json.dumps(row)}, tmp_path / str(count)))


def test_a_checker_whose_compilation_the_machine_lost_leaves_the_program_undecided(twice, monkeypatch):
    def compiled(program, sandbox):
        return Compiled(status="lost" if "argv[3]" in program.source else "ok", note="no memory for a compiler")

    monkeypatch.setattr("ponder.tasks.judge.compiled", compiled)
    monkeypatch.setattr("ponder.tasks.judge.slowness", lambda *args, **options: 1.0)
    found = judged(twice, TWICE_RIGHT, ScriptedSandbox(lambda *_: ""))
    assert found.is_undecided and "no memory for a compiler" in found.note


# ---- judging: batch ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solution", "points"),
    [("correct/sum.cpp", (0, 40, 60)), ("incorrect/overflow.cpp", (0, 40, 0)), ("partial/one_more.cpp", (0, 20, 30))],
)
def test_batch_solutions_get_their_points(cpp, twice, solution, points):  # noqa: F811
    found = judged(twice, twice.solutions[solution], cpp)
    assert found.points == points
    assert found.fence == cpp.fence
    assert found.slowness >= 1


@pytest.mark.parametrize(
    ("body", "note"),
    [
        ("while (true);", "time"),
        ("__builtin_trap();", "crashed"),
        ("exit(0);", "no number"),
        ("throw n;", "crashed"),
        ('while (true) puts("1");', "output"),
        ("static char* volatile kept; while (true) kept = new char[1 << 26];", "memory"),
        ("pause();", "idle"),
        ('return fopen("/etc/passwd", "r") ? 2ll * n : 7;', "said 7"),
    ],
)
def test_batch_solutions_that_end_badly_get_nothing_and_are_told_why(cpp, twice, body, note):  # noqa: F811
    headers = '#include "twice.h"\n#include <cstdio>\n#include <cstdlib>\n#include <unistd.h>\n'
    found = judged(twice, f"{headers}long long twice(int n) {{ {body} return 0; }}\n", cpp)
    assert found.total == 0
    assert not found.is_undecided
    assert note in found.note


def test_what_does_not_compile_gets_nothing_and_is_told_the_compilers_message(cpp, twice):  # noqa: F811
    found = judged(twice, "long long twice(int n) { return m; }\n", cpp)
    assert found.total == 0
    assert "error: ‘m’ was not declared" in found.note


def test_a_checker_that_fails_leaves_its_tests_undecided(cpp, tmp_path):  # noqa: F811
    for number, checker in enumerate(("int main() { return 3; }", "int main() { __builtin_trap(); }")):
        files = {**TWICE, "checker/checker.cpp": checker}
        found = judged(read_package(folder_of(files, tmp_path / str(number))), TWICE_RIGHT, cpp, [1])
        assert found.points == (None,)
        assert found.is_undecided
        assert "checker failed" in found.note


def test_a_checker_that_fails_at_a_wrong_output_and_not_at_the_right_one_gives_nothing(cpp, tmp_path):  # noqa: F811
    fails = 'if (said != right) __builtin_trap();\n  printf("%s'
    files = {**TWICE, "checker/checker.cpp": TWICE["checker/checker.cpp"].replace('printf("%s', fails, 1)}
    package = read_package(folder_of(files, tmp_path / "x"))
    assert judged(package, TWICE_RIGHT, cpp).total == 100
    found = judged(package, TWICE["solutions/partial/one_more.cpp"], cpp)
    assert found.total == 0 and not found.is_undecided
    assert "checker failed" in found.note


def test_without_a_checker_outputs_are_compared_by_their_words(cpp, tmp_path):  # noqa: F811
    files = {name: text for name, text in TWICE.items() if not name.startswith("checker/")}
    package = read_package(folder_of(files, tmp_path / "plain"))
    assert judged(package, TWICE_RIGHT, cpp).total == 100
    assert judged(package, package.solutions["partial/one_more.cpp"], cpp).total == 0


def test_a_problem_without_a_grader_is_a_whole_program(cpp, tmp_path):  # noqa: F811
    files = {name: text for name, text in TWICE.items() if not name.startswith(("checker/", "graders/"))}
    row = json.loads(TWICE["problem.json"])
    row["task_type_params"] = {"task_type_parameters_Batch_compilation": "alone"}
    package = read_package(folder_of({**files, "problem.json": json.dumps(row)}, tmp_path / "alone"))
    source = "#include <iostream>\nint main() { long long n; std::cin >> n; std::cout << 2 * n; }\n"
    assert judged(package, source, cpp).total == 100
    assert "whole C++20 program" in CmsTask("x", [package], statements={})[0].text


def test_subtasks_can_be_chosen_and_scores_are_remembered(cpp, twice, monkeypatch):  # noqa: F811
    assert judged(twice, TWICE_RIGHT + "// chosen\n", cpp, [1]).points == (40,)
    asked = []
    run_binary = cpp.run_binary
    monkeypatch.setattr(cpp, "run_binary", lambda *a, **k: asked.append(a) or run_binary(*a, **k))
    assert judged(twice, TWICE_RIGHT + "// chosen\n", cpp).points == (0, 40, 60)
    assert len(asked) == 1  # the last test, which subtask 1 does not have


def test_after_a_zero_the_rest_of_a_subtask_is_not_run_unless_asked_for(cpp, twice):  # noqa: F811
    wrong = '#include "twice.h"\nlong long twice(int n) { return n == 1e9 ? 2e9 : 0; }\n'
    assert set(judged(twice, wrong, cpp).tests) == {"0-1"}
    assert judged(twice, wrong, cpp, stop_early=False).tests == {"0-1": 0, "1-1": 0, "2-1": 1}


# ---- judging: communication ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("solution", "points"), [("correct/digits.cpp", 100), ("partial/ones.cpp", 50)])
def test_communication_solutions_get_their_points(cpp, relay, solution, points):  # noqa: F811
    assert judged(relay, relay.solutions[solution], cpp).total == points


@pytest.mark.parametrize(
    ("spell", "read", "note"),
    [
        ("return std::to_string(n);", "return 0;", "7"),  # wrong: the manager shows the word
        ("__builtin_trap();", "return 7;", "crashed"),
        ("return std::to_string(n);", "__builtin_trap();", "crashed"),
        ("exit(3);", "return 7;", "crashed"),
        ("while (true);", "return 7;", "time"),
        ("return std::to_string(n);", "while (true);", "time"),
        ("return std::to_string(n);", "int x; std::cin >> x; return 7;", "deadlock"),
        ("int x; std::cin >> x; return std::to_string(n);", "return 7;", "deadlock"),
        ("pause(); return std::to_string(n);", "return 7;", "deadlock"),
    ],
)
def test_communication_solutions_that_end_badly_get_nothing_and_their_death_is_told(cpp, relay, spell, read, note):  # noqa: F811
    headers = '#include "relay.h"\n#include <cstdlib>\n#include <iostream>\n#include <unistd.h>\n'
    source = f"{headers}std::string spell(int n) {{ {spell} }}\nint read(std::string word) {{ {read} }}\n"
    found = judged(relay, source, cpp)
    assert found.total == 0
    assert not found.is_undecided
    assert note in found.note
    assert "staff" not in found.note


def test_what_one_process_keeps_the_other_does_not_have(cpp, relay):  # noqa: F811
    source = '#include "relay.h"\nint kept;\nstd::string spell(int n) { kept = n; return "x"; }\n'
    assert judged(relay, source + "int read(std::string) { return kept; }\n", cpp).total == 0


def test_a_manager_that_fails_leaves_everything_undecided(cpp, tmp_path):  # noqa: F811
    package = read_package(folder_of({**RELAY, "graders/manager.cpp": "int main() { return 1; }\n"}, tmp_path / "r"))
    talker = '#include "relay.h"\nstd::string spell(int n) { return "x"; }\nint read(std::string) { return 1; }\n'
    assert judged(package, talker, cpp).is_undecided


def test_a_manager_that_a_solution_leaves_alone_gives_it_nothing(cpp, tmp_path):  # noqa: F811
    manager = RELAY["graders/manager.cpp"].replace("signal(SIGPIPE, SIG_IGN);", "")
    manager = manager.replace("fprintf(to0,", "while (true) fprintf(to0,").replace(", fflush(to0)", "")
    package = read_package(folder_of({**RELAY, "graders/manager.cpp": manager}, tmp_path / "r"))
    found = judged(package, f"#include <unistd.h>\nstatic int left = (_exit(0), 0);\n{RELAY_RIGHT}", cpp)
    assert found.total == 0 and not found.is_undecided
    assert "before the manager had said everything" in found.note


def test_a_process_that_the_machine_lost_is_asked_again_although_another_was_slow(cpp, relay, monkeypatch):  # noqa: F811
    rounds = []

    def finish(children):
        rounds.append(finish_together(children))
        if len(rounds) > 1:
            return rounds[-1]
        speller, reader, manager = rounds[0]
        return [replace(speller, status="lost"), replace(reader, status="time"), manager]

    monkeypatch.setattr("ponder.tasks.judge.finish_together", finish)
    assert judged(relay, relay.solutions["correct/digits.cpp"], cpp).total == 100
    assert len(rounds) > 1


# ---- the task ------------------------------------------------------------------------------------------------------


@pytest.fixture
def contest(tmp_path):
    folder_of(TWICE, tmp_path / "contest" / "twice")
    zip_of(RELAY, tmp_path / "contest" / "relay.zip", folder="relay")
    row = {"id": "contest-relay", "problem": "# Relay\n\nSpell a number for `std::vector&lt;int&gt;`.", "answer": ""}
    (tmp_path / "contest" / "problems.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path / "contest"


def test_a_task_asks_with_statement_header_and_what_is_to_be_written(contest):
    task = load_task(f"cms:{contest}")
    assert [task[i].id for i in range(len(task))] == ["cms/contest/relay", "cms/contest/twice"]
    relay_text, twice_text = task[0].text, task[1].text
    assert relay_text.startswith("# Relay")
    assert "std::vector<int>" in relay_text
    assert "std::string spell(int number);" in relay_text
    assert twice_text.startswith("# Twice")
    assert "`twice.cpp` in C++20" in twice_text
    for secret in ("manager", "checker", TWICE["tests/2-1.out"].strip()):
        assert secret not in relay_text + twice_text
    assert [row["problems"] for row in task.origin] == [1, 1]


def test_a_subtask_is_a_problem_of_its_own(contest, cpp):  # noqa: F811
    task = load_task(f"cms:{contest},by=subtask,only=twice")
    assert [task[i].id for i in range(len(task))] == ["cms/contest/twice/01-small", "cms/contest/twice/02-full"]
    assert "subtask 1 only (40 of 100 points): $N \\le 100$" in task[0].text
    task._sandbox = cpp
    answer = f"```cpp\n{TWICE['solutions/incorrect/overflow.cpp']}```"
    assert task.verify(task[0], answer).is_correct
    verdict = task.verify(task[1], answer)
    assert (verdict.outcome, verdict.reward) == ("wrong", 0.0)


def test_verdicts_are_shares_of_the_points_and_only_full_points_are_correct(contest, cpp):  # noqa: F811
    task = load_task(f"cms:{contest}")
    task._sandbox = cpp
    problem = task[1]
    right = task.verify(problem, f"Twice it is:\n```cpp\n{TWICE_RIGHT}```\n")
    assert (right.outcome, right.reward) == ("correct", 1.0)
    assert right.parts == {"points": 100, "01-small": 40, "02-full": 60}
    half = task.verify(problem, f"```cpp\n{TWICE['solutions/partial/one_more.cpp']}```")
    assert (half.outcome, half.reward) == ("wrong", 0.5)
    assert half.parts == {"points": 50, "01-small": 20, "02-full": 30}
    assert task.key(problem, f"```cpp\n{TWICE_RIGHT}\n\n```") == task.key(problem, f"```c++\n{TWICE_RIGHT}```")


@pytest.mark.parametrize(
    "answer", ["", "42", "```python\nprint(1)\n```", "\x00", "\ud800", "x" * 200_000, "```cpp\n```"]
)
def test_an_answer_without_a_program_is_wrong_and_has_no_key(contest, answer):
    task = load_task(f"cms:{contest}")
    verdict = task.verify(task[1], answer)
    assert (verdict.outcome, verdict.reward, verdict.extracted) == ("wrong", 0.0, None)
    assert task.key(task[1], answer) is None


def test_a_statement_beside_the_packages_is_found_by_a_code_with_an_underscore(tmp_path):
    for code in ("my_sum", "sum", "none"):
        row = json.loads(TWICE["problem.json"]) | {"code": code}
        files = {**TWICE, "problem.json": json.dumps(row)}
        del files["statement.md"]
        folder_of(files, tmp_path / "contest" / code)
    rows = [
        {"id": "x-my_sum", "problem": "# Mine"}, {"id": "x-sum", "problem": "# Sum"}, {"id": "none", "problem": None}
    ]  # fmt: skip
    (tmp_path / "contest" / "problems.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = load_task(f"cms:{tmp_path / 'contest'}")
    shown = {problem.subject: problem.text.split("\n")[0] for problem in (task[i] for i in range(len(task)))}
    assert shown == {"my_sum": "# Mine", "sum": "# Sum", "none": "# Twice"}, "a title in place of the missing one"


@pytest.mark.parametrize(
    ("dials", "said"),
    [(",by=test", "by=test"), (",judged=2", "judged=2"),
     (",language=rust", "language=rust"), (",only=twize", "twice"), (",buy=subtask", "by"),
     (",size=0", "size=0"), ("x", "is not there")],
)  # fmt: skip
def test_a_wrong_dial_is_an_error_that_names_what_there_is(contest, dials, said):
    with pytest.raises(ConfigError, match=said):
        load_task(f"cms:{contest}{dials}")


def test_samples_may_be_drawn_without_asking_a_hidden_test(contest, monkeypatch):
    task = load_task(f"cms:{contest},judged=0,only=twice")
    monkeypatch.setattr(task, "judge", lambda *args, **options: pytest.fail("a hidden test was asked"))
    verdict = task.verify(task[0], f"```cpp\n{TWICE['solutions/correct/sum.cpp']}```")
    assert verdict.outcome == "undecided" and "ponder ioi" in verdict.note
    assert task.verify(task[0], "no program").outcome == "wrong"


def test_without_a_statement_the_sample_grader_and_examples_are_shown(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("cpp/twice.h", "long long twice(int number);  // attached\n")
        archive.writestr("cpp/grader.cpp", "int main() { /* sample */ }\n")
        archive.writestr("examples/01.in", "21\n")
    folder = folder_of({name: text for name, text in TWICE.items() if name != "statement.md"}, tmp_path / "twice")
    (folder / "attachments").mkdir()
    (folder / "attachments" / "twice.zip").write_bytes(inner.getvalue())
    text = load_task(f"cms:{folder}")[0].text
    for shown in ("/* sample */", "21\n", "// attached"):
        assert shown in text


# ---- the organizers' own -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solution", "points"),
    [("model_solution/solution.cpp", 100), ("incorrect/sol10.cpp", 20), ("incorrect/solution-b-zero.cpp", 30)],
)
def test_the_jurys_solutions_of_a_practice_problem_get_their_points(cpp, solution, points):  # noqa: F811
    path = Path(os.environ.get("PONDER_DATA", "")) / "ioi2024" / "zips" / "practice-aplusb-CMS.zip"
    if not os.environ.get("PONDER_DATA") or not path.exists():
        pytest.skip("PONDER_DATA holds no package of IOI 2024")
    package = read_package(path)
    found = judged(package, package.solutions[solution], cpp)
    assert found.total == points
    assert slowness(cpp) == found.slowness
