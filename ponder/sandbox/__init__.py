"""Untrusted programs: run behind a fence, within limits, with an honest account of what happened.

    sandbox = Programs(num_workers=2)                                  # programs.py; scripted.py has the fake for tests
    ran = sandbox.run(Program(source="print(int(input()) + 1)"), b"41\\n")
    ran.status, ran.stdout, ran.cpu_seconds                            # "ok", b"42\\n", 0.003

`base.py` has the words, `fence.py` what the kernel is told to refuse, `programs.py` the servers that fork children
behind it, `languages.py` compilers, `calls.py` functions that are called from outside. `grading/killable.py` is another
thing: a fence against accidents of our own code, never for programs of a model.
"""

from ponder.sandbox.base import Language, Limits, Program, Ran, Running, Sandbox, Status

__all__ = ["Language", "Limits", "Program", "Ran", "Running", "Sandbox", "Status"]
