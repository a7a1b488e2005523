"""What ends where one machine ends stays small, and stays out of everything else."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parent.parent
# engines, ranks and weights beyond one machine, as far as the files exist; ahead.py and ledger.py are one machine's too
# and engine/parts.py (144 lines) belongs to any engine that samples at a server, Tinker's too
PATH = [
    *(ROOT / "ponder" / "train" / f"{name}.py" for name in ("sharded", "rank", "cluster", "dealing", "publish")),
    ROOT / "ponder" / "engine" / "vllm.py",
]
MOST = 1600
HEAVY = {"ray", "vllm", "transformers", "torch.distributed.fsdp", "torch.distributed.checkpoint"}


def lines_of_code(path: Path) -> int:
    """Lines that do something: no blank ones, comments or docstrings."""
    text = path.read_text()
    told = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    nothing = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    used = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in nothing
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(used - told)


def test_the_cluster_path_stays_small(capsys):
    rows = [(path, lines_of_code(path), path.read_text().count("\n")) for path in PATH if path.exists()]
    total = sum(code for _, code, _ in rows)
    with capsys.disabled():
        told = ", ".join(f"{path.stem} {code}" for path, code, _ in rows)
        print(f"\nthe cluster path: {total} lines of code ({told}), {sum(r[2] for r in rows)} with their words")
    assert total < MOST, "something that it does could go, or be said once"


def test_blank_lines_comments_and_docstrings_are_no_code(tmp_path):
    code = '"""Words."""\n\n# why\ndef f():\n    """More\n    words."""\n    return (1 +\n        2)\n'
    (tmp_path / "x.py").write_text(code)
    assert lines_of_code(tmp_path / "x.py") == 3


def test_one_machine_loads_nothing_of_a_cluster():
    """Of Ray, vLLM and the distributed parts of torch; torch itself brings the rest of its package."""
    code = (
        "import sys\nimport ponder.train.rl, ponder.engine.local, ponder.evals.exams, ponder.serve.app\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), 'ponder.train.cluster' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert told.strip() == "[] False"


def test_ray_is_imported_in_one_file():
    users = {
        path.name
        for path in (ROOT / "ponder").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "ray" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ray")
    }
    assert users == {"cluster.py"}
