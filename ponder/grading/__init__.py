"""Grading: what an answer says, when two answers are the same, verifiers, and killable children for what may hang.

Below tasks, strategies and serve, so that an exam, a reward and a served vote go by one rule. Nothing here imports
torch or sympy; the heavy parts load inside a killable child when first needed.
"""

from ponder.grading.extract import ends_in_answer
from ponder.grading.handed_in import as_verdict
from ponder.grading.verifiers import VERIFIERS, grade, grade_file

__all__ = ["VERIFIERS", "as_verdict", "ends_in_answer", "grade", "grade_file"]
