"""Programs run as they would run, within their limits, whatever they do; the servers survive it. All really fenced."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ponder.sandbox import Limits, Program, Ran, child, fence
from ponder.sandbox.cached import CachedSandbox
from ponder.sandbox.programs import Programs
from ponder.sandbox.scripted import ScriptedSandbox
from ponder.sandbox.together import PatientLimits
from tests.helpers import many_open_files, until

pytestmark = pytest.mark.skipif(bool(fence.probe().problem), reason="on Linux only: there is no fence elsewhere")
SHORT = Limits(cpu_seconds=0.3, memory_mb=128)


@pytest.fixture(scope="module")
def sandbox():
    with Programs(num_workers=2) as programs:
        yield programs


def run(sandbox, source: str, stdin: bytes = b"", **more) -> Ran:
    return sandbox.run(Program(source=source), stdin, **more)


# ---- it runs programs


def test_a_judge_with_more_than_a_thousand_open_files_reads_what_a_program_says(sandbox):
    with many_open_files():
        assert run(sandbox, "print(input()[::-1])", b"abc").stdout == b"cba\n"


def test_a_program_reads_writes_and_gets_its_arguments(sandbox):
    ran = run(
        sandbox, "import sys\nprint(input()[::-1], sys.argv[1:])\nprint('e', file=sys.stderr)", b"abc", args=["x", "y"]
    )
    assert (ran.status, ran.exit_code, ran.stdout, ran.stderr) == ("ok", 0, b"cba ['x', 'y']\n", b"e\n")
    assert 0 < ran.cpu_seconds < 1
    assert 1 < ran.memory_mb < 128
    assert ran.fence == sandbox.fence
    assert sandbox.fence.startswith("closed filter")


@pytest.mark.parametrize(
    "idiom",
    [
        "print(open(0).read().split())", "import sys; print(sys.stdin.read().split())",
        "import sys; print(sys.stdin.buffer.read().decode().split())",
        "import os; print(os.read(0, os.fstat(0).st_size).decode().split())",
        "import io, os; f = io.BytesIO(os.read(0, os.fstat(0).st_size)); print(f.read().decode().split())",
        "import sys; input = sys.stdin.readline; print([input().strip(), *input().split()])",
        "import fileinput; print(' '.join(fileinput.input()).split())",
    ],
)  # fmt: skip
def test_the_usual_ways_of_reading_work(sandbox, idiom):
    ran = run(sandbox, idiom, b"1\n2 3\n")
    assert ran.stdout == b"['1', '2', '3']\n", ran.stderr


def test_the_usual_modules_are_there_and_the_others_are_missed_politely(sandbox):
    names = """math cmath random re json itertools functools collections heapq bisect string datetime decimal
    fractions statistics copy typing dataclasses enum operator array struct hashlib queue threading textwrap unittest
    time""".split()
    assert (
        run(
            sandbox,
            f"import {', '.join(names)}\nprint('é'.encode('latin-1'), datetime.datetime.strptime('2', '%d').day)",
        ).status
        == "ok"
    )
    ran = run(sandbox, "import numpy")
    assert ran.status == "crashed"
    assert ran.stderr.endswith(b"ModuleNotFoundError: No module named 'numpy'\n")
    assert run(sandbox, "import ponder").status == "crashed"


def test_how_programs_end_is_told(sandbox):
    for source, status, code in (
        ("", "ok", 0), ("import sys; sys.exit(3)", "crashed", 3), ("raise SystemExit", "ok", 0), ("1/0", "crashed", 1),
        ("import os; os._exit(7)", "crashed", 7), ("import os; os.abort()", "crashed", -6), ("(", "crashed", 1),
        ("raise SystemExit('no')", "crashed", 1), ("open('/etc/passwd')", "refused", None), ("x\0y", "crashed", 1),
        ("import os; os.fork()", "refused", None), ("\ud800", "crashed", 1), ("x = bytearray(10**9)", "memory", None),
        ("import atexit; atexit.register(print, 'bye')", "ok", 0), ("raise KeyboardInterrupt", "crashed", 1),
    ):  # fmt: skip
        ran = run(sandbox, source)
        assert (ran.status, ran.exit_code) == (status, code), (source, ran)
    assert run(sandbox, "import atexit; atexit.register(print, 'bye')").stdout == b"bye\n"
    assert b'File "program.py", line 2, in f\n    1 / x\n' in run(sandbox, "def f(x):\n    1 / x\nf(0)").stderr


def test_an_error_deep_down_or_at_the_end_of_many_is_told_like_any_other(sandbox):
    deep = """
import sys
sys.setrecursionlimit(10**6)
def f(n):
    if n: return g(n - 1) + 1
    raise ValueError('deep')
def g(n): return f(n) + 1
f(100_000)
"""  # in turn, so that nothing is shortened to "repeated"
    many = "e = None\nfor i in range(100_000):\n    x = ValueError('deep')\n    x.__cause__, e = e, x\nraise e"
    for source in (deep, many):
        ran = run(sandbox, source, limits=Limits(cpu_seconds=1.0))
        assert (ran.status, ran.exit_code) == ("crashed", 1), ran
        assert ran.stderr.startswith((b"Traceback", b"ValueError: deep\n\nThe above exception was the direct cause"))
        assert ran.stderr.endswith(b"ValueError: deep\n")


def test_a_program_does_the_same_thing_twice(sandbox):
    source = "import random, time\nprint(random.random(), list({'a', 'b', 'c', 'd'}), hash('x'), time.tzname)"
    first = run(sandbox, source).stdout
    with Programs() as other:
        assert {run(other, source).stdout, run(sandbox, source).stdout} == {first}


def test_input_and_source_of_any_size(sandbox):
    big = bytes(range(256)) * 20_000
    ran = run(sandbox, "import sys; print(len(sys.stdin.buffer.read()))", big)
    assert ran.stdout == b"%d\n" % len(big)
    ran = run(sandbox, "x = '" + "y" * 3_000_000 + "'; print(len(x))")
    assert ran.stdout == b"3000000\n"
    assert run(sandbox, "pass", big).status == "ok"  # it need not read


def test_nothing_of_another_run_or_of_us_is_in_its_memory(sandbox):
    os.environ["SECRET_OF_OURS"] = "environment-secret"
    try:
        with Programs() as fresh:
            run(fresh, "x = 'source-secret'; y = input()", b"input-secret\n", args=["argument-secret"])
            source = """
import ctypes, gc, os
libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_long
os.write(1, repr(dict(os.environ)).encode())
os.write(1, repr([o for o in gc.get_objects() if isinstance(o, (str, list, dict))])[:100000].encode())
top = libc.sbrk(0) & ~4095
for page in range(top - 1500 * 4096, top, 4096): libc.write(1, ctypes.c_void_p(page), ctypes.c_long(4096))
"""
            ran = run(fresh, source, limits=Limits(output_bytes=1 << 24))
    finally:
        del os.environ["SECRET_OF_OURS"]
    assert len(ran.stdout) > 1_000_000
    for word in (b"source-secret", b"input-secret", b"argument-secret", b"environment-secret"):
        assert word not in ran.stdout


# ---- limits


def test_each_limit_has_its_status(sandbox):
    for source, status in (
        ("while True: pass", "time"), ("9**9**9", "time"), ("import time; time.sleep(99)", "idle"),
        ("import re; re.match('(a*)*b', 'a' * 64)", "time"), ("x = [0] * 10**9", "memory"),
        ("print('x' * 10**7)", "output"), ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", "idle"),
        ("import os\nfor i in (0, 1, 2): os.close(i)\nwhile True: pass", "time"),
    ):  # fmt: skip
        ran = run(sandbox, source, limits=SHORT)
        assert ran.status == status, (source, ran)
        assert ran.exit_code is None
        assert ran.note


def test_a_program_that_never_lets_its_judge_rest_is_stopped_too(sandbox):
    drip = "import time, sys\nwhile True:\n    print('x', flush=True)\n    time.sleep(0.005)"
    ran = run(sandbox, drip, limits=SHORT)
    assert ran.status == "idle"
    assert ran.own_seconds < 10


def test_output_at_the_limit_is_kept_and_one_byte_more_is_not(sandbox):
    limits = Limits(output_bytes=100_000)
    assert run(sandbox, "print('x' * 99_999)", limits=limits).status == "ok"
    ran = run(sandbox, "print('x' * 100_000)", limits=limits)
    assert ran.status == "output"
    assert len(ran.stdout) == 100_000


def test_three_hundred_megabytes_of_output_end_at_the_limit(sandbox):
    ran = run(sandbox, "import os\nfor _ in range(300): os.write(1, b'x' * 2**20)")
    assert (ran.status, len(ran.stdout)) == ("output", 1 << 20)
    ran = run(
        sandbox, "import sys\nfor _ in range(2000): sys.stderr.write('x' * 1000)\nprint(1)\nsys.stderr.write('end')"
    )
    assert (ran.status, ran.stdout) == ("ok", b"1\n")
    assert len(ran.stderr) <= 1 << 16
    assert ran.stderr.endswith(b"xxxend")


def test_threads_work_and_a_bomb_of_them_ends(sandbox):
    many = "import threading\nx = []\nt = [threading.Thread(target=x.append, args=(i,)) for i in range(20)]\n"
    ran = run(sandbox, many + "for i in t: i.start()\nfor i in t: i.join()\nprint(len(x))")
    assert ran.stdout == b"20\n", ran
    deep = "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(64 << 20)\n"
    deep += "def f(n): return n and 1 + f(n - 1)\n"
    ran = run(sandbox, deep + "t = threading.Thread(target=lambda: print(f(20000))); t.start(); t.join()")
    assert ran.stdout == b"20000\n", ran
    bomb = "import threading, time\nfor _ in range(500): threading.Thread(target=time.sleep, args=(99,)).start()"
    assert run(sandbox, bomb, limits=SHORT).status in ("idle", "crashed", "memory")


def test_a_program_cannot_pass_its_death_off_as_the_machines(sandbox):
    for source in ("import os; os.kill(os.getpid(), 9)", "import signal; signal.raise_signal(9)",
                   "import ctypes; ctypes.string_at(8)", "import os; os.kill(os.getpid(), 31)"):  # fmt: skip
        assert run(sandbox, source).status in ("refused", "crashed"), source


def test_limits_say_what_is_wrong_with_them():
    for wrong in ({"cpu_seconds": 0}, {"cpu_seconds": float("nan")}, {"memory_mb": 1}, {"output_bytes": 0}):
        with pytest.raises(ValueError, match="use 0 to 3600"):
            Limits(**wrong)
    with pytest.raises(ValueError, match="at least 1"):
        Programs(num_workers=0)


# ---- conversations


def test_a_conversation_goes_back_and_forth(sandbox):
    talk = sandbox.start(Program(source="while True: print(int(input()) + 1)"))
    for number in range(50):
        talk.send(b"%d" % number)
        assert talk.receive() == b"%d" % (number + 1)
    ran = talk.finish()  # its input ends
    assert ran.status == "crashed"
    assert ran.stderr.endswith(b"EOFError: EOF when reading a line\n")
    assert talk.finish() is ran
    assert talk.kill() is ran
    assert talk.receive() is None
    talk.send(b"nobody reads this")


def test_a_conversation_ends_for_every_reason(sandbox):
    def start(source, **more):
        return sandbox.start(Program(source=source), limits=Limits(cpu_seconds=0.3, **more))

    assert start("print(1)\nprint(2, end='')").receive() == b"1"
    silent = start("import time; time.sleep(99)")
    assert silent.receive() is None
    assert silent.finish().status == "idle"
    busy = start("while True: pass")
    assert busy.receive() is None
    assert busy.finish().status == "time"
    long = start("print('x' * 1000)")
    assert long.receive(most=100) is None
    assert start("while True: print('x' * 1000)", output_bytes=10_000).finish().status == "output"
    deaf = start("import time; time.sleep(0.5); print('never read')")
    deaf.send(b"x" * 1_000_000)  # more than a pipe holds, to somebody who does not read
    assert deaf.finish().status == "ok"
    killed = start("print('hi', flush=True)\nwhile True: input()")
    assert killed.receive() == b"hi"
    assert (killed.kill().status, killed.kill().exit_code) == ("ok", None)


def test_the_time_a_judge_takes_is_not_the_programs(sandbox):
    talk = sandbox.start(Program(source="while True: print(input())"), limits=Limits(cpu_seconds=0.1))
    for _ in range(2):
        time.sleep(1.0)  # longer than the program's own time
        talk.send(b"x")
        assert talk.receive() == b"x"
    assert talk.kill().own_seconds < 1.0


def test_a_conversation_that_is_forgotten_ends(sandbox):
    talk = sandbox.start(Program(source="print('up', flush=True)\nwhile True: pass"))
    assert talk.receive() == b"up"
    pid = talk.pid
    del talk
    gc.collect()
    until(lambda: not Path(f"/proc/{pid}").exists(), 20)


def test_two_programs_talk_through_pipes_of_ours(sandbox):
    compiled = _binary('#include <cstdio>\nint main(){int x; if(scanf("%d",&x)==1) printf("%d\\n",x*2);}', sandbox)
    near, far = os.pipe()
    first = sandbox.start_binary(compiled, stdin=b"21\n", stdout=far)
    second = sandbox.start_binary(compiled, stdin=near)
    os.close(near)
    os.close(far)
    assert first.finish().status == "ok"
    assert second.receive() == b"84"
    assert second.finish().status == "ok"
    os.close(compiled)


def _binary(source, sandbox):
    import shutil
    import tempfile

    from ponder.sandbox.child import executable

    if not shutil.which("g++"):
        pytest.skip("no compiled C here: it needs an x86 CPU with AVX2 and a C compiler")
    with tempfile.TemporaryDirectory() as box:
        Path(box, "a.cpp").write_text(source)
        ran = sandbox.run_tool(
            ["/usr/bin/g++", "-static", "-o", "a", "a.cpp"], box, limits=Limits(cpu_seconds=20, memory_mb=2_000)
        )
        assert ran.status == "ok", ran
        return executable(Path(box, "a").read_bytes())


def test_a_tool_writes_its_box_and_reads_nothing_else(sandbox, tmp_path):
    (tmp_path / "secret").write_text("secret")
    box = tmp_path / "box"
    box.mkdir()
    script = (
        "echo made > made; cat ../secret; echo x > ../outside; cat /etc/passwd; kill -9 $PPID; (sleep 99 &) ; echo done"
    )
    ran = sandbox.run_tool(["/bin/sh", "-c", script], str(box), limits=Limits(cpu_seconds=1, memory_mb=512))
    assert ran.stdout == b"done\n", ran
    assert (box / "made").read_text() == "made\n"
    assert not (tmp_path / "outside").exists()
    assert b"Permission denied" in ran.stderr


def test_a_tool_that_waits_for_itself_is_stopped_and_one_that_waits_for_its_workers_is_not(
    sandbox, tmp_path, monkeypatch
):
    monkeypatch.setattr(child, "FAMILY_LOOKS_AT_REST", 3)
    limits = PatientLimits(cpu_seconds=60, memory_mb=512)  # as compilers have them: no limit of sleep
    works = "(i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done); echo done"  # its shell sleeps as long
    ran = sandbox.run_tool(["/bin/sh", "-c", works], str(tmp_path), limits=limits)
    assert (ran.status, ran.stdout) == ("ok", b"done\n")
    for waits in ("cat < /dev/stderr", "cat /dev/stdout | cat", "sleep 999 & wait"):
        ran = sandbox.run_tool(["/bin/sh", "-c", waits], str(tmp_path), limits=limits)
        assert ran.status == "idle", (waits, ran)
        assert ran.own_seconds < 60


def test_without_landlock_a_tool_runs_in_bubblewrap_or_not_at_all(monkeypatch, tmp_path):
    found = fence.probe()
    (tmp_path / "secret").write_text("secret")
    box = tmp_path / "box"
    box.mkdir()
    script = ["/bin/sh", "-c", "echo made > made; cat ../secret /etc/passwd; ls /; echo done"]
    for bubblewrap in {found.bubblewrap, ""}:
        facts = {**vars(found), "landlock": 0, "bubblewrap": bubblewrap}
        monkeypatch.setattr(fence, "probe", lambda facts=facts: fence.FenceFacts(**facts))
        with Programs() as programs:
            assert "landlock" not in programs.fence
            assert run(programs, "print(1)").stdout == b"1\n"
            assert run(programs, "open('/etc/passwd')").status == "refused"
            if not bubblewrap:
                with pytest.raises(fence.FenceError, match="apt-get install bubblewrap"):
                    programs.run_tool(script, str(box))
                continue
            ran = programs.run_tool(script, str(box), limits=Limits(memory_mb=512))
            assert ran.stdout.endswith(b"done\n"), ran
            assert (box / "made").read_text() == "made\n"
            assert b"secret" not in ran.stdout
            assert b"root:" not in ran.stdout


# ---- the servers


def test_a_server_that_dies_is_replaced_and_its_run_repeated():
    with Programs() as programs:
        assert run(programs, "print(1)").stdout == b"1\n"
        os.kill(programs.server_pids[0], signal.SIGKILL)
        assert run(programs, "print(2)").stdout == b"2\n"
        thread = threading.Timer(0.3, lambda: os.kill(programs.server_pids[0], signal.SIGKILL))
        thread.start()
        ran = run(programs, "import time; time.sleep(1.0); print(3)")
        assert (ran.status, ran.stdout) == ("ok", b"3\n")


def test_what_a_server_said_counts_though_it_never_read_that_its_child_should_stop():
    with Programs() as programs:
        talk = programs.start(Program(source="import time; print(1, flush=True); time.sleep(0.3)"))
        assert talk.receive() == b"1"
        (server,) = programs.server_pids
        os.kill(server, signal.SIGSTOP)
        time.sleep(0.6)  # it ends
        talk.stop("idle", "said by its judge")
        time.sleep(2.2)  # longer than a server waits for one event: it sees the end first
        os.kill(server, signal.SIGCONT)
        assert talk.finish().note == "said by its judge"


def test_a_run_that_is_lost_twice_is_undecided():
    with Programs() as programs:
        run(programs, "")
        over = threading.Event()

        def kill_every_server():
            while not over.is_set():
                for pid in programs.server_pids:
                    children = Path(f"/proc/{pid}/task/{pid}/children")
                    if children.exists() and children.read_text():
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.02)

        thread = threading.Thread(target=kill_every_server)
        thread.start()
        ran = run(programs, "import time; time.sleep(2)")
        over.set()
        thread.join()
    assert (ran.status, ran.is_undecided, ran.exit_code) == ("lost", True, None)


def test_a_child_dies_with_its_server_and_a_server_with_us(tmp_path):
    source = """
import os, sys, threading, time
from ponder.sandbox import Program
from ponder.sandbox.programs import Programs
programs = Programs()
talk = programs.start(Program(source="print('up', flush=True)\\nwhile True: pass"))
talk.receive()
print(talk.pid, *programs.server_pids, flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, env=environment) as process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        process.kill()
    until(lambda: not any(_is_alive(pid) for pid in pids), 20)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_many_threads_share_it_and_nothing_is_left_over(sandbox):
    run(sandbox, "")
    before = set(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(max_workers=16) as pool:
        outs = list(pool.map(lambda n: run(sandbox, "print(int(input()) ** 2)", b"%d" % n).stdout, range(200)))
    assert outs == [b"%d\n" % n**2 for n in range(200)]
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= len(before)
    for pid in sandbox.server_pids:
        assert len(os.listdir(f"/proc/{pid}/fd")) < 16
        until(lambda pid=pid: Path(f"/proc/{pid}/task/{pid}/children").read_text() == "")


def test_it_works_below_asyncio():
    async def main():
        with Programs(num_workers=2) as programs:
            ask = lambda n: asyncio.to_thread(run, programs, f"print({n})")
            return [ran.stdout for ran in await asyncio.gather(*map(ask, range(20)))]

    assert asyncio.run(main()) == [b"%d\n" % n for n in range(20)]


def test_verdicts_do_not_change_beside_busy_processes(sandbox):
    sources = ["print(sum(range(200000)))", "import time; time.sleep(0.2); print(1)", "1/0", "while True: pass",
               "import time; time.sleep(60)", "x = [0] * 10**8", "print('x' * 2**21)"]  # fmt: skip
    wanted = ["ok", "ok", "crashed", "time", "idle", "memory", "output"]
    limits = Limits(cpu_seconds=0.2)
    busy = [subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"]) for _ in range(8)]
    try:
        for _ in range(2):
            assert [run(sandbox, source, limits=limits).status for source in sources] == wanted
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_a_closed_sandbox_and_a_forked_one_say_so():
    programs = Programs()
    programs.close()
    programs.close()
    with pytest.raises(RuntimeError, match="closed"):
        run(programs, "")
    programs._pid += 1  # as after a fork of this process
    with pytest.raises(RuntimeError, match="another process"):
        run(programs, "")


def test_unfenced_is_explicit_and_stands_in_every_result(monkeypatch):
    found = fence.probe()
    monkeypatch.setattr(fence, "probe", lambda: fence.FenceFacts(**{**vars(found), "system": "Darwin"}))
    with pytest.raises(fence.FenceError, match="--unfenced"):
        Programs()
    with Programs(unfenced=True) as programs:
        assert programs.fence == "unfenced"
        ran = run(programs, "print(len(open('/proc/self/stat').read()) > 0)")
        assert (ran.stdout, ran.fence) == (b"True\n", "unfenced")


# ---- around it


def test_a_cache_runs_a_program_once_and_never_keeps_what_was_lost():
    said = iter([Ran(status="lost"), "1\n", "2\n", "3\n", "4\n"])
    inner = ScriptedSandbox(lambda *_: next(said))
    cached = CachedSandbox(inner)
    program = Program(source="x")
    assert cached.run(program).status == "lost"
    assert [cached.run(program).stdout for _ in range(3)] == [b"1\n"] * 3
    assert cached.run(program, b"i").stdout == b"2\n"
    assert cached.run(program, args=["i"]).stdout == b"3\n"
    assert cached.run(program, limits=SHORT).stdout == b"4\n"
    assert (len(inner.calls), cached.num_runs, cached.num_hits, cached.fence) == (5, 7, 2, "scripted")


def test_a_cache_forgets_the_oldest_and_mixes_nothing_up():
    inner = ScriptedSandbox(lambda program, stdin, args: f"{program.source}|{stdin!r}|{list(args)}")
    cached = CachedSandbox(inner, most_bytes=5_000)
    asked = [(Program(source="a" * (i % 3)), b"a" * (i // 3), ["a"] * (i % 2)) for i in range(30)] * 2
    for program, stdin, args in asked:
        assert cached.run(program, stdin, args=args).stdout == f"{program.source}|{stdin!r}|{list(args)}".encode()
    assert len(inner.calls) > 30
    cached.close()


def test_a_program_that_two_threads_ran_is_counted_once_by_the_size_that_is_kept():
    both, sizes = threading.Barrier(2), iter([10, 8_000])

    def run(*_):
        size = next(sizes)
        both.wait()
        return Ran(status="ok", stdout=b"x" * size)

    cached = CachedSandbox(ScriptedSandbox(run))
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(cached.run, [Program(source="x")] * 2))
    assert cached._bytes == sum(len(ran.stdout) + 1_000 for ran in cached._kept.values())


def test_the_scripted_sandbox_converses():
    sandbox = ScriptedSandbox(lambda program, stdin, args: "".join(f"{int(line) + 1}\n" for line in stdin.split()))
    talk = sandbox.start(Program(source=""))
    talk.send(b"1")
    assert talk.receive() == b"2"
    assert talk.receive() is None
    talk.send(b"5")
    assert (talk.receive(), talk.finish().status, talk.receive()) == (b"6", "ok", None)
