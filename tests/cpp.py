"""What tests of C++ share: a sandbox with a cache of its own, where there are a compiler and a fence; two packages."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import pytest

from ponder.sandbox import fence
from ponder.sandbox.programs import Programs


@functools.cache
def _started() -> tuple[str, Programs]:
    """A folder for what is compiled, and a sandbox, for all tests of a process."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder, Programs(num_workers=1)


@pytest.fixture
def cpp(monkeypatch):
    """A sandbox that compiles."""
    if shutil.which(os.environ.get("CXX") or "g++") is None:
        pytest.skip("no C++ compiler here")
    holds = fence.probe()
    if holds.problem or not (holds.landlock or holds.bubblewrap):
        pytest.skip("no fence for compilers here")
    folder, sandbox = _started()
    monkeypatch.setenv("PONDER_CACHE", folder)
    return sandbox


# ---- a batch problem: twice a number; half the points for one too many -----------------------------------------------

TWICE = {
    "problem.json": json.dumps(
        {"code": "twice", "name": "Twice", "time_limit": 0.5, "memory_limit": 256 << 20, "task_type": "Batch",
         "task_type_params": json.dumps({"task_type_parameters_Batch_compilation": "grader"})}
    ),
    "subtasks/00-samples.json": json.dumps({"score": 0, "testcases": ["0-1"]}),
    "subtasks/01-small.json": json.dumps({"score": 40, "testcases": ["0-1", "1-1"]}),
    "subtasks/02-full.json": json.dumps({"score": 60, "testcases": ["0-1", "1-1", "2-1"]}),
    "tests/0-1.in": "1\n", "tests/0-1.out": "2\n",
    "tests/1-1.in": "100\n", "tests/1-1.out": "200\n",
    "tests/2-1.in": "1000000000\n", "tests/2-1.out": "2000000000\n",
    "graders/twice.h": "long long twice(int number);\n",
    "graders/grader.cpp": '#include "twice.h"\n#include <cstdio>\nint main() { int number; scanf("%d", &number);\n'
    'printf("%lld\\n", twice(number)); }\n',
    "checker/checker.cpp": """
#include <cstdio>
#include <fstream>
int main(int argc, char** argv) {
  if (argc < 4) return 3;
  std::ifstream input(argv[1]), answer(argv[2]);
  FILE* output = fopen(argv[3], "r");
  long long number, right, said;
  if (!(input >> number) || !(answer >> right) || right != 2 * number) return 4;
  if (!output || fscanf(output, "%lld", &said) != 1) { puts("0"); fprintf(stderr, "no number\\n"); return 0; }
  printf("%s\\n", said == right ? "1.0" : said == right + 1 ? "0.5" : "0");
  fprintf(stderr, "said %lld\\n", said);
}
""",
    "solutions/correct/sum.cpp": '#include "twice.h"\nlong long twice(int n) { return (long long)n + n; }\n',
    "solutions/incorrect/overflow.cpp": '#include "twice.h"\nlong long twice(int n) { return 2 * n % 32768; }\n',
    "solutions/partial/one_more.cpp": '#include "twice.h"\nlong long twice(int n) { return 2LL * n + 1; }\n',
    "statement.md": "# Twice\n\nReturn twice the number.\n\n| Subtask | Score | Constraints |\n| :-: | :-: | - |\n"
    "| 1 | $40$ | $N \\le 100$ |\n| 2 | $60$ | none |\n",
}  # fmt: skip

# ---- communication: one process spells a number, another reads it; half the points for a long spelling -------------

RELAY = {
    "problem.json": json.dumps(
        {"code": "relay", "name": "Relay", "time_limit": 0.5, "memory_limit": 256 << 20, "task_type": "Communication",
         "task_type_params": json.dumps({"task_type_parameters_Communication_num_processes": 2})}
    ),
    "subtasks/01-full.json": json.dumps({"score": 100, "testcases": ["1", "2"]}),
    "tests/1.in": "7\n", "tests/1.out": "\n", "tests/2.in": "123\n", "tests/2.out": "\n",
    "graders/relay.h": "#include <string>\nstd::string spell(int number);\nint read(std::string word);\n",
    "graders/stub.cpp": """
#include "relay.h"
#include <csignal>
#include <iostream>
int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc != 2) return 9;
  if (argv[1][0] == '0') { int number; std::cin >> number; std::cout << spell(number) << std::endl; }
  else { std::string word; std::cin >> word; std::cout << read(word) << std::endl; }
}
""",
    "graders/manager.cpp": """
#include <csignal>
#include <cstdio>
#include <cstring>
int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc != 5) return 9;
  FILE *to0 = fopen(argv[2], "a"), *from0 = fopen(argv[1], "r");
  FILE *to1 = fopen(argv[4], "a"), *from1 = fopen(argv[3], "r");
  int number, said;
  char word[100];
  if (!to0 || !from0 || !to1 || !from1 || scanf("%d", &number) != 1) return 8;
  fprintf(to0, "%d\\n", number), fflush(to0);
  if (fscanf(from0, "%99s", word) != 1) { puts("0"); fputs("the judge failed, call the staff\\n", stderr); return 0; }
  fprintf(to1, "%s\\n", word), fflush(to1);
  if (fscanf(from1, "%d", &said) != 1) { puts("0"); fputs("the judge failed, call the staff\\n", stderr); return 0; }
  puts(said != number ? "0" : strlen(word) > 4 ? "0.5" : "1");
  fprintf(stderr, "%s\\n", word);
}
""",
    "solutions/correct/digits.cpp": '#include "relay.h"\nstd::string spell(int n) { return std::to_string(n); }\n'
    "int read(std::string word) { return std::stoi(word); }\n",
    "solutions/partial/ones.cpp": '#include "relay.h"\nstd::string spell(int n) { return std::string(n % 90, 49); }\n'
    "int read(std::string word) { return word.size() > 30 ? 123 : word.size(); }\n",
}  # fmt: skip


def folder_of(files: dict[str, str], folder: Path) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def zip_of(files: dict[str, str], path: Path, *, folder: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{folder}/{name}".lstrip("/"), text)
    return path
