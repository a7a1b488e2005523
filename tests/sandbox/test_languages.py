"""C++: compiled behind a fence, kept, run behind another; sources that attack their compiler."""

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ponder.config import ConfigError
from ponder.sandbox import Limits, Program, languages
from ponder.sandbox.base import Ran
from ponder.sandbox.hostile_cpp import COMPILER_ATTACKS, SECRET_FILE
from ponder.sandbox.languages import compiled
from ponder.sandbox.speed import PRINTS, SOURCE
from ponder.sandbox.together import PatientLimits
from tests.cpp import cpp  # noqa: F401 - a fixture

ADD = '#include <cstdio>\nint main() { int a, b; scanf("%d %d", &a, &b); printf("%d\\n", a + b); }\n'
# those that use up the compiler's seconds, which are for a script, and one of each kind stays
SLOW = {"macros that double", "templates that double", "constants that double", "a constant without end",
        "brackets without end"}  # fmt: skip


def cpp_program(source, *, language="c++20", files=()):
    return Program(source=source, language=language, files=files)


def counted(sandbox, monkeypatch):
    """How often the compiler is started from now on."""
    commands = []
    run_tool = sandbox.run_tool
    monkeypatch.setattr(
        sandbox, "run_tool", lambda command, *a, **k: commands.append(command) or run_tool(command, *a, **k)
    )
    return commands


def test_a_program_is_compiled_and_runs(cpp):  # noqa: F811
    ran = cpp.run(cpp_program(ADD), b"40 2\n")
    assert (ran.status, ran.stdout) == ("ok", b"42\n")
    assert ran.fence == cpp.fence


@pytest.mark.parametrize(("free", "status"), [(1 << 20, "lost"), (1 << 40, "refused")])
def test_a_compiler_that_finds_the_disk_full_says_nothing_about_the_program(tmp_path, monkeypatch, free, status):
    class Full:
        def run_tool(self, *args, **options):
            return Ran(status="crashed", stderr=b"cc1plus: fatal error: No space left on device", exit_code=1)

    monkeypatch.setenv("PONDER_CACHE", str(tmp_path))
    monkeypatch.setattr(languages, "compiler", lambda: languages.Compiler(path="/usr/bin/g++", version="gcc version 1"))
    monkeypatch.setattr(languages, "_check_works", lambda *_: None)
    monkeypatch.setattr(languages.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    built = compiled(cpp_program(ADD + f"// {free}\n"), Full())
    assert built.status == status and built.as_ran().is_undecided == (status == "lost")


def test_the_same_program_is_compiled_once_and_another_standard_is_another_program(cpp, monkeypatch):  # noqa: F811
    source = ADD + "// once\n"
    commands = counted(cpp, monkeypatch)
    first = compiled(cpp_program(source), cpp)
    assert compiled(cpp_program(source), cpp).file == first.file
    assert len(commands) == 1
    assert compiled(cpp_program(source, language="c++17"), cpp).file != first.file
    assert len(commands) == 2
    assert "-std=gnu++17" in commands[1]


def test_threads_that_want_the_same_program_compile_it_once(cpp, monkeypatch):  # noqa: F811
    commands = counted(cpp, monkeypatch)
    threads = [threading.Thread(target=compiled, args=(cpp_program(ADD + "// thread\n"), cpp)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(commands) == 1


def test_what_does_not_compile_is_refused_with_the_compilers_message_and_asked_once(cpp, monkeypatch):  # noqa: F811
    program = cpp_program("int main() {\n  return sum;\n}\n")
    built = compiled(program, cpp)
    assert built.status == "refused"
    assert "program.cpp:2:10: error: ‘sum’ was not declared" in built.note
    commands = counted(cpp, monkeypatch)
    ran = cpp.run(program)
    assert (ran.status, ran.note) == ("refused", built.note)
    talk = cpp.start(program)
    talk.send(b"1")
    assert talk.receive() is None
    assert talk.finish().status == talk.kill().status == "refused"
    assert not commands


def test_files_lie_beside_the_source_and_a_stub_is_compiled_once_for_all_programs(cpp, monkeypatch):  # noqa: F811
    stub = ("stub.cpp", '#include "task.h"\n#include <cstdio>\nint main() { printf("%d\\n", task(20)); }\n')
    files = (("task.h", "int task(int);\n"), stub)
    commands = counted(cpp, monkeypatch)
    for number in (1, 2):
        source = f'#include "task.h"\nint task(int n) {{ return {number} * n; }}\n'
        assert cpp.run(cpp_program(source, files=files)).stdout == b"%d\n" % (20 * number)
    assert sum("stub.cpp" in command for command in commands) == 1
    assert len(commands) == 3


def test_another_header_makes_another_stub(cpp):  # noqa: F811
    stub = ("stub.cpp", '#include "n.h"\n#include <cstdio>\nint main() { printf("%d\\n", N); }\n')
    printed = [cpp.run(cpp_program("", files=(("n.h", f"const int N = {n};\n"), stub))).stdout for n in (1, 2)]
    assert printed == [b"1\n", b"2\n"]


@pytest.mark.parametrize("name", ["../x.h", "/etc/x.h", "a/b.h", "", "program.cpp", "x\x00.h", "-o", ".h", "x" * 200])
def test_a_file_with_a_name_that_leads_elsewhere_is_refused(name):
    built = compiled(cpp_program(ADD, files=((name, ""),)), None)
    assert built.status == "refused"


def test_limits_hold_for_compiled_programs_too(cpp):  # noqa: F811
    endless = cpp_program("int main() { for (volatile int i = 0;; ++i); }\n")
    assert cpp.run(endless, limits=Limits(cpu_seconds=0.2)).status == "time"
    greedy = cpp_program("#include <vector>\nint main() { std::vector<long> v; for (;;) v.push_back(1); }\n")
    assert cpp.run(greedy, limits=Limits(memory_mb=64)).status == "memory"
    chatty = cpp_program('#include <cstdio>\nint main() { for (;;) puts("more"); }\n')
    assert cpp.run(chatty, limits=Limits(output_bytes=1000)).status == "output"


@pytest.mark.parametrize(
    "source",
    [
        "static char a[1 << 28]; int main(int n, char**) { a[n] = 1; return a[n + 5]; }\n",
        "static char a[1 << 20] = {1}, b[255 << 20]; int main(int n, char**) { b[n] = 1; return a[n + 5] + b[9]; }\n",
    ],
)
def test_globals_larger_than_the_memory_are_memory(cpp, source):  # noqa: F811
    ran = cpp.run(cpp_program(source), limits=Limits(memory_mb=256))
    assert (ran.status, ran.exit_code) == ("memory", None)
    assert cpp.run(cpp_program(source), limits=Limits(memory_mb=512)).status == "ok"
    wild = cpp_program("int main(int n, char**) { *(volatile int*)(0x123456789000 + n) = 1; }\n")
    assert cpp.run(wild, limits=Limits(memory_mb=16)).status == "crashed"


def test_the_memory_of_a_compiled_program_is_its_own_or_not_known(cpp):  # noqa: F811
    source = """
#include <cstdlib>
#include <cstring>
int main(int n, char** words) {
  int size = atoi(words[1]) << 20;
  char* p = (char*)malloc(size);
  memset(p, n, size);
  return p[n] - n;
}
"""
    small, large = (cpp.run(cpp_program(source), args=[mb]) for mb in ("1", "100"))
    assert (small.status, small.memory_mb, large.status) == ("ok", 0.0, "ok")
    assert 100 <= large.memory_mb < 110


def test_a_deep_recursion_has_the_whole_memory_for_its_stack(cpp):  # noqa: F811
    source = """
#include <cstdio>
int depth(int n) { volatile char room[1024]; room[n % 1024] = 1; return n ? depth(n - 1) + room[n % 1024] : 0; }
int main() { printf("%d\\n", depth(60000)); }
"""
    assert cpp.run(cpp_program(source), limits=Limits(memory_mb=256)).stdout == b"60000\n"


@pytest.mark.parametrize("attack", [a for a in COMPILER_ATTACKS if a.name not in SLOW], ids=lambda a: a.name)
def test_a_source_that_attacks_the_compiler_gets_nothing(cpp, attack, tmp_path):  # noqa: F811
    secret = tmp_path / "secret"
    secret.write_text("int the_secret_word;\n")
    source = attack.source.replace(SECRET_FILE, str(secret))
    ran = cpp.run(cpp_program(source), limits=Limits(cpu_seconds=1))
    assert attack.breach(ran, b"the_secret_word") == ""
    assert len(ran.note) <= languages.MAX_NOTE


def test_a_compiler_that_waits_for_itself_is_refused_in_seconds_and_says_why(cpp):  # noqa: F811
    began = time.monotonic()
    ran = cpp.run(cpp_program('#include "/dev/stdout"\nint main() {}\n'))
    assert ran.status == "refused" and "it waited for what never came" in ran.note
    assert time.monotonic() - began < languages.LIMITS.wall_seconds / 10


@pytest.mark.slow
@pytest.mark.parametrize("attack", [a for a in COMPILER_ATTACKS if a.name in SLOW], ids=lambda a: a.name)
def test_a_source_that_uses_up_the_compilers_time_or_memory_is_refused(cpp, attack, monkeypatch):  # noqa: F811
    monkeypatch.setattr(languages, "LIMITS", PatientLimits(cpu_seconds=1, memory_mb=512))
    ran = cpp.run(cpp_program(attack.source + "// in less time\n"))
    assert attack.breach(ran, b"the_secret_word") == ""
    told = ("error", "too much time, memory or disk", "exhausted", "processor time")
    assert any(each in ran.note for each in told), ran.note


def test_attacks_leave_nothing_behind(cpp, tmp_path):  # noqa: F811
    folder = Path(os.environ["PONDER_CACHE"]) / "c++"
    compiled(cpp_program("char data[1 << 28] = {1};\nint main() {}\n"), cpp)
    assert not list(folder.glob(".box-*"))


def test_only_sources_whose_includes_stand_first_take_the_precompiled_header():
    takes = languages._takes_everything
    assert takes("#include <bits/stdc++.h>\nint main() {}\n")
    assert takes('// mine\n\n#include "task.h"\r\n # include <bits/stdc++.h> // all\r\nusing namespace std;\n')
    assert not takes("#define int long long\n#include <bits/stdc++.h>\n")
    assert not takes('#pragma GCC optimize("O3")\n#include <bits/stdc++.h>\n')
    assert not takes("#include <vector>\nint main() {}\n#include <bits/stdc++.h>\n")
    assert not takes("/* #include <bits/stdc++.h> */\n#include <bits/stdc++.h>\n")
    assert not takes("")


@pytest.mark.slow
def test_the_precompiled_header_is_made_once_and_changes_nothing(cpp, monkeypatch):  # noqa: F811
    commands = counted(cpp, monkeypatch)
    source = """
#include <bits/stdc++.h>
using namespace std;
int main() { vector<int> v{1, 2}; cout << accumulate(v.begin(), v.end(), 3) << endl; }
"""
    for number in range(2):
        assert cpp.run(cpp_program(f"{source}// {number}\n")).stdout == b"6\n"
    assert sum("c++-header" in command for command in commands) == 1


def test_the_oldest_programs_leave_the_cache(cpp, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setattr(languages, "MAX_KEPT", 3)
    for number in range(40):
        (tmp_path / str(number)).write_text("")
        os.utime(tmp_path / str(number), (number, number))
    languages._drop_oldest(tmp_path)
    assert sorted(int(file.name) for file in tmp_path.iterdir()) == [37, 38, 39]


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch):
    languages.compiler.cache_clear()
    monkeypatch.setenv("CXX", "no-such-compiler")
    try:
        with pytest.raises(ConfigError, match=r"apt-get install g\+\+"):
            compiled(cpp_program(ADD), None)
        monkeypatch.setenv("CXX", "true")
        with pytest.raises(ConfigError, match="not GNU's compiler"):
            compiled(cpp_program(ADD), None)
    finally:
        languages.compiler.cache_clear()


def test_the_reference_program_prints_what_it_should(cpp):  # noqa: F811
    assert cpp.run(cpp_program(SOURCE), limits=Limits(cpu_seconds=10)).stdout == PRINTS
