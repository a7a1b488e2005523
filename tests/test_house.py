"""The house stays as drawn: imports only go down, light rooms stay light, names of other places stay out."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BASE = {"types", "config", "files", "trained_on", "runs", "processes", "stopping", "rewarding", "intervals"}
# a room -> what it may import of ponder (its own room is always allowed)
MAY = {
    "types": set(),
    "config": set(),
    "files": set(),
    "trained_on": {"files"},
    "runs": {"files"},
    "processes": {"stopping"},
    "stopping": set(),
    "rewarding": set(),
    "efforts": {"config", "files"},
    "intervals": set(),
    "ratings": {"intervals"},
    "sandbox": BASE,
    "grading": BASE | {"sandbox"},
    "tasks": BASE | {"grading", "sandbox"},
    "models": BASE,
    "engine": BASE | {"models"},
    "scorers": BASE | {"grading", "models", "engine.base"},
    "strategies": BASE | {"grading", "engine.base", "scorers"},
    "rollouts": BASE | {"grading", "sandbox", "tasks", "models.tokenizer", "engine.base", "strategies", "scorers"},
    "train": BASE | {"grading", "tasks", "rollouts", "models", "engine", "scorers", "strategies"},
    "monitors": BASE | {"models", "engine.base"},
    "evals": BASE
    | {"efforts", "grading", "monitors", "ratings", "sandbox", "tasks", "rollouts", "engine.base", "scorers"}
    | {"strategies"},
    "serve": BASE
    | {"efforts", "grading", "models.tokenizer", "engine.base", "engine.form", "monitors", "scorers", "strategies"},
    "tinker": BASE | {"engine", "models", "train"},
    "live": BASE | {"train"},
    "cli": None,  # the only file that imports every room
}


def import_table() -> str:
    """MAY as docs/concepts.md shows it: a room, and what it may import beside its own files."""
    width = max(map(len, MAY))
    rows = []
    for room, allowed in MAY.items():
        told = "everything" if allowed is None else ", ".join(sorted(allowed - BASE) + ["BASE"] * (allowed >= BASE))
        if allowed is not None and not allowed >= BASE:
            told = ", ".join(sorted(allowed)) or "nothing"
        rows.append(f"{room:<{width}}  <- {told}")
    return "\n".join([f"BASE = {', '.join(sorted(BASE))}", *rows])


def imports(path: Path) -> set[str]:
    """The ponder modules that a file imports, anywhere in it: "engine.base", "types", ..."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module] if node.module != "ponder" else [f"ponder.{alias.name}" for alias in node.names]
        found |= {name.removeprefix("ponder.") for name in names if name.startswith("ponder.")}
    return found - {"__version__"}


@pytest.mark.parametrize("path", sorted((ROOT / "ponder").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_go_down(path):
    room = path.relative_to(ROOT / "ponder").parts[0].removesuffix(".py")
    allowed = MAY.get(room, set())
    if allowed is None or room == "__init__":
        return
    for name in imports(path):
        place = name.split(".")[0]
        if place != room:
            assert any(name == a or name.startswith(a + ".") for a in allowed), f"{path} imports {name}"


def test_the_docs_show_the_imports_that_are_checked():
    table = import_table()
    assert table in (ROOT / "docs" / "concepts.md").read_text(), f"put into docs/concepts.md:\n{table}"


def test_texts_of_files_are_utf_8_whatever_the_machine_speaks():
    """Without an encoding Python takes the locale's, in which what another machine wrote cannot be read."""
    for path in (ROOT / "ponder").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            if called in ("read_text", "write_text"):
                assert "encoding" in {word.arg for word in node.keywords}, f"{path}:{node.lineno}: no encoding"


def test_no_two_rooms_import_each_other():
    """Followed over rooms that MAY allows: a circle would let a climb in by the back door."""

    def below(room: str, seen: tuple[str, ...] = ()) -> set[str]:
        assert room not in seen, f"a circle: {' -> '.join((*seen, room))}"
        direct = {name.split(".")[0] for name in MAY.get(room) or ()} - {room}
        return direct.union(*(below(name, (*seen, room)) for name in direct)) if direct else direct

    for room, allowed in MAY.items():
        if allowed is not None:
            below(room)
    for room in ("train", "rollouts", "scorers", "strategies", "grading", "tasks"):
        assert not {"serve", "monitors"} & below(room)  # no monitor's verdict reaches a reward


def test_the_import_test_would_catch_a_climb(tmp_path):
    (tmp_path / "x.py").write_text("def f():\n    from ponder.train.rl import rl\n    import ponder.serve.app\n")
    assert imports(tmp_path / "x.py") == {"train.rl", "serve.app"}


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All of them, in functions too, but for what only annotations need: a part may name the type of its whole."""
    for child in ast.iter_child_nodes(node):
        is_for_types = (
            isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"
        )
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case) and not is_for_types:
            yield child
            yield from statements(child)


def imported_files(path: Path, root: Path) -> set[Path]:
    """The files below root that running a file may import."""
    found = set()
    for node in statements(ast.parse(path.read_text())):
        names = [(alias.name,) for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [(f"{node.module}.{alias.name}", node.module) for alias in node.names]
        for either in names:
            files = [root / name.replace(".", "/") for name in either if name.startswith("ponder")]
            files = [file for base in files for file in (base.with_suffix(".py"), base / "__init__.py")]
            found |= set([file for file in files if file.is_file()][:1])
    return found - {path}


def refuse_circles(root: Path) -> None:
    TopologicalSorter({path: imported_files(path, root) for path in root.rglob("ponder/**/*.py")}).prepare()


def test_no_files_import_each_other():
    refuse_circles(ROOT)


def test_the_test_of_circles_would_catch_one_in_a_function(tmp_path):
    (tmp_path / "ponder").mkdir()
    (tmp_path / "ponder/a.py").write_text("from ponder import b\n")
    (tmp_path / "ponder/b.py").write_text("if TYPE_CHECKING:\n    from ponder.a import x\n")
    refuse_circles(tmp_path)
    (tmp_path / "ponder/b.py").write_text("def f():\n    from ponder.a import x\n")
    with pytest.raises(CycleError):
        refuse_circles(tmp_path)


@pytest.mark.parametrize(
    "module", ["types", "config", "runs", "grading", "tasks", "rollouts", "strategies", "cli", "serve.schema"]
)
def test_light_rooms_import_without_torch_in_under_a_second(module):
    code = (
        "import sys, time; t = time.process_time()\n"
        f"import ponder.{module}\n"
        "heavy = {'torch', 'sympy', 'transformers', 'reasoning_gym', 'matplotlib', 'math_verify'} & set(sys.modules)\n"
        "print(time.process_time() - t, sorted(heavy))"
    )
    seconds, heavy = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split(maxsplit=1)
    assert heavy.strip() == "[]"
    assert float(seconds) < 1.0


@pytest.mark.parametrize("path", sorted((ROOT / "ponder").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_file_says_what_it_is_for(path):
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def test_nothing_is_evaluated_executed_or_unpickled():
    fenced = {ROOT / "ponder/sandbox/server.py", *(ROOT / "ponder/sandbox/inside").glob("*.py")}  # its children
    for path in set((ROOT / "ponder").rglob("*.py")) - fenced:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in {"eval", "exec", "pickle.load", "pickle.loads", "torch.load", "os.system"}, path
                assert not any(k.arg == "shell" for k in node.keywords), path


def test_what_the_package_needs_beside_python_is_installed_with_it():
    """A file that the editable install of the tests sees, and a user's wheel would lack."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["ponder"]
    kept = {path for pattern in patterns for path in (ROOT / "ponder").glob(pattern)}
    others = {path for path in (ROOT / "ponder").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others - kept == set()


SEAMS = ("engine", "sampler", "task", "scorer", "judge")


def asked_of_a_seam(path: Path) -> list[str]:
    """Calls of getattr and hasattr on what is named engine, self._engine, work.engine, task, scorer, ..."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            name = ast.unparse(node.args[0]).rpartition(".")[2].lstrip("_")
            found += [ast.unparse(node)] if name in SEAMS else []
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "ponder").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_all_that_is_used_of_an_engine_a_task_or_a_scorer_is_declared(path):
    assert asked_of_a_seam(path) == []


def test_the_seam_test_would_catch_a_question(tmp_path):
    (tmp_path / "x.py").write_text("getattr(getattr(work.engine, 'tokenizer'), 'y')\nhasattr(self._task, 'origin')\n")
    assert len(asked_of_a_seam(tmp_path / "x.py")) == 2


def test_no_class_name_is_defined_twice():
    """A name has one meaning in the house; what a file keeps to itself (_Name) is its own business."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "ponder").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not {name: places for name, places in found.items() if len(places) > 1}
