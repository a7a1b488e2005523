"""Grading: what an answer says, when two answers are the same, verifiers, and killable children for what may hang.

Below tasks, strategies and serve, so that an exam, a reward and a served vote go by one rule. Nothing here imports
torch or sympy; the heavy parts load inside a killable child when first needed.
"""

from ponder.grading.extract import ends_in_answer
from ponder.grading.handed_in import as_verdict
from ponder.grading.verifiers import VERIFIERS, grade, grade_file
from ponder.types import Completion

__all__ = ["VERIFIERS", "as_verdict", "counted_answer", "ends_in_answer", "grade", "grade_file"]


def counted_answer(completion: Completion) -> str:
    """The answer of a completion that is graded and that votes: "" where there is none, or a budget cut it inside.

    "12" cut out of "1234" is no answer: more tokens could have changed it.
    """
    is_cut = completion.finish_reason in ("length", "window") and ends_in_answer(completion.answer)
    return "" if is_cut else completion.answer
