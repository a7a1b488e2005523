"""What runs inside the fence: plain Python files that `calls.py` sends as programs. They import nothing of ponder but
each other.

`wire.py` is in both programs, in place of its import, before `candidate.py` (holds the model's program, knows no test)
or `asserts.py` (holds the tests, never runs a line of the model's). Only here is code executed that came as text, and
only behind the fence.
"""
