"""The program in a model's answer: fences as models write them, code without any, and hostile texts."""

from __future__ import annotations

import random

import pytest

from ponder.grading.code_blocks import MAX_CODE, extract_code
from tests.helpers import takes_at_most

F = "def f(x):\n    return x\n"


@pytest.mark.parametrize(
    "answer",
    [
        f"```python\n{F}```",
        f"Sure, here it is:\n\n```python\n{F}```\n\nIt returns `x`.",
        f"```Python3\n{F}```",
        f"```py\n{F}```  ",
        f"``` python\n{F}```",
        f"```{{.python}}\n{F}```",
        f"```python title=f.py\n{F}```",
        f"~~~python\n{F}~~~",
        f"````python\n{F}````",
        f"```\n{F}```",
        "```\r\ndef f(x):\r\n    return x\r\n```",
        "```python\ndef f(x):\n    return x```",  # the fence on the last line of the code
        f"Here is the code: ```python\n{F}```",
        "1. Write it:\n\n   ```python\n   def f(x):\n       return x\n   ```\n",  # in a list
        f"```python\n{F}",  # cut off
        f"I will now write it.\n```python\n{F}\n",
        F,
        f"The function:\n\n{F}\nThis function returns its argument.",
        f"<think>\nMaybe ```python\ndef f(x): return 0\n```?\n</think>\n```python\n{F}```",
        f"some thoughts without their opening tag</think>\n{F}",
        f"```python\ndef f(x):\n    return 1\n```\nNo, better:\n```python\n{F}```",  # the last
        f"```python\n{F}```\nOutput:\n```\n3\n```",
        f"```python\n{F}```\nRun it:\n```bash\npython f.py\n```",
        f"```python\n{F}```\n```python\n>>> f(1)\n1\n```",  # a transcript is no program
        f"```python\n{F}```\nand a cut one:\n```python\ndef f(",
    ],
)  # fmt: skip
def test_the_program_is_found_however_it_is_fenced(answer: str) -> None:
    assert extract_code(answer) == F


def test_with_a_name_the_block_that_defines_it_wins_over_an_example_after_it() -> None:
    answer = f"```python\n{F}```\nFor example:\n```python\nprint(f(3))\n```"
    assert extract_code(answer, defines="f") == F
    assert extract_code(answer) == "print(f(3))\n"
    assert extract_code(answer, defines="g") == "print(f(3))\n", "none defines it: as without the name"
    assert extract_code(f"```python\nprint(1)\n```\n```python\n{F}", defines="f") == F, "though it was cut off"


def test_a_fence_in_a_docstring_does_not_end_the_block() -> None:
    code = 'def f(x):\n    """Identity.\n\n    ```\n    f(1) == 1\n    ```\n    """\n    return x\n'
    assert extract_code(f"```python\n{code}```\nDone.") == code
    unclosed = '```python\ndef f(x):\n    """never closed\n```\nAgain:\n```python\n' + F + "```"
    assert extract_code(unclosed, defines="f") == F, "a docstring that never ends does not swallow what follows"


@pytest.mark.parametrize(
    "answer",
    ["", "   \n\n", "It cannot be done.", "The answer is 5.", "```", "```python", "```python\n```", 
     "```java\nint f;\n```",
     "<think>def f(x): return x", "I import nothing and define nothing.", "For x in the list, return it.",
     "If you like: try it.", "\x00", "`" * 10_000],
)  # fmt: skip
def test_an_answer_without_a_program_has_none(answer: str) -> None:
    assert extract_code(answer) is None


def test_the_body_of_a_function_alone_keeps_its_indentation() -> None:
    assert extract_code("    y = x\n    return y\n") == "    y = x\n    return y\n"


def test_unfenced_code_ends_where_prose_begins() -> None:
    code = "import math\n\n# area\n"
    code += 'def area(r):\n    """The area.\n\nof a disc"""\n    return math.pi * r * r\n\nprint(area(2))\n'
    assert extract_code(f"{code}\nThe program prints the area of a disc.") == code


def test_c_plus_plus_is_told_from_python() -> None:
    cpp = '#include <cstdio>\nint main() {\n    puts("1");\n}\n'
    answer = f"```python\n{F}```\n```cpp\n{cpp}```"
    assert extract_code(answer, "c++17") == cpp
    assert extract_code(answer, "python") == F
    assert extract_code(f"My solution:\n\n{cpp}\nIt prints 1.", "c++20") == cpp
    assert extract_code(f"```\n{cpp}```", "c++17") == cpp


def test_what_comes_back_can_be_spelled_in_utf_8() -> None:
    found = extract_code("```python\nx = '\ud800'\n```")
    assert found is not None and found.encode() == b"x = '?'\n"


def test_a_program_longer_than_any_limit_is_none() -> None:
    assert extract_code("```python\n" + "x = 1\n" * MAX_CODE + "```") is None


@pytest.mark.parametrize(
    "hostile",
    ["```" * 300_000, "```\n" * 250_000, "```python\n" * 100_000, '"""' * 300_000, "def " * 250_000, "a." * 500_000,
     "a, " * 300_000, "\n" * 1_000_000, " " * 1_000_000, "x" * 5_000_000, "```python\n" + '"""\n```\n' * 100_000,
     "<think>" * 140_000, "</think>" * 120_000, "f(" * 400_000, "a[" * 400_000, "~~~" * 300_000 + "python"],
)  # fmt: skip
def test_hostile_texts_are_read_in_linear_time(hostile: str) -> None:
    with takes_at_most(3.0):
        extract_code(hostile, defines="f")
        extract_code(hostile, "c++17")


@pytest.mark.parametrize("end", ["x", "`", "\n```"])
def test_what_repeats_is_read_in_linear_time_whatever_ends_it(end: str) -> None:
    lines = [
        "```python\n'''\n```\n'''\n",
        "a:" + " " * 490 + "!\n",
        "long " * 99 + "!\n",
        "static " + "a " * 245 + "!\n",
    ]
    pieces = ["`", "``", "```a", "~", "~~~a", "~~~`", "``` ", "\n", " ", "\t", "a", "python", "~~~\n", "```\n ", *lines]
    for piece in pieces:
        for before in ("", "```\n"):
            text = before + piece * (200_000 // len(piece)) + end
            with takes_at_most(1.5):
                extract_code(text)
                extract_code(text, "c++17")


def test_any_mixture_of_pieces_is_survived() -> None:
    rng = random.Random(0)
    pieces = ["```", "```python\n", "\n", "~~~", '"""', "'''", F, ">>> f(1)\n", "prose. ",
              "</think>", "<think>", "\ud800",
              "    ", "#include <x>\n", "\x00", "}", "```cpp"]  # fmt: skip
    for _ in range(2_000):
        answer = "".join(rng.choices(pieces, k=rng.randrange(12)))
        for language in ("python", "c++17"):
            found = extract_code(answer, language, defines="f")
            assert found is None or (found.strip() and found.encode() is not None)
