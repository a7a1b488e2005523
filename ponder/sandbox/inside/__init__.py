"""What runs inside the fence: plain Python files that `calls.py` sends as programs. They import nothing of ponder, and
nothing of ponder imports them.

`wire.py` is in both programs, before `candidate.py` (holds the model's program, knows no test) or `asserts.py` (holds
the tests, never runs a line of the model's). Only here is code executed that came as text, and only behind the fence.
"""
