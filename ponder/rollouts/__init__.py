"""Rollouts: playing problems with an engine, grading what came of it, and what a reward holds beside the verdict.

`collect` makes a step's groups of play, grade and reward terms. Training, exams and scorers' labels all grade here,
so that a verifier that hangs or raises is counted the same wherever it does.
"""
