"""Kinds of answers that were misread once: each for any number, letter or name, not for the one that showed it."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.grading.equality import canonical
from ponder.grading.verifiers import grade
from ponder.grading.visible import DIGITS

numbers = st.integers(2, 9_999)
letters = st.sampled_from("ABCDE")
functions = st.sampled_from("fghIvxyNT")

REFUTED = (
    "{} doesn't work", "{} does not satisfy the equation", "{} isn't a solution", "{} fails.", "x = {} is extraneous",
    "{} can be eliminated", "{} has to be rejected", "{} contradicts the condition.", "{} is a common mistake.",
    "{} would be right if they were equal.", "We discard x = {}.", "There's no way it is {}", "nothing like {}",
    "I don't think the answer is {}.", "It's false that the answer is {}.", "{} ✗", "❌ {}", "{} — wrong!",
    "{}, but I'm wrong", "{}. Hmm, that is wrong.", "{}. That can't be right.", "{}... Actually no.", "I retract {}.",
    "The answer is {}. I take that back.", "Tom says {}. Tom is wrong.", "You may think {}, but no.",
    "{} or so", "a minimum of {}", "{} at minimum", "a quarter of {}", "{} tens",
    "{} if n is even and 1 otherwise", "{} for the first and 1 for the second",
    "The answer is {} for even n, and 1 for odd n.",
)  # fmt: skip
COUNTED = ("{}. First item", "{}) Take the box", "Task {}:", "Line {}: error", "Exercise **{}**", "{}: label")


@pytest.mark.parametrize("verifier", ["math", "integer"])
@pytest.mark.parametrize("form", REFUTED)
@given(numbers)
@settings(max_examples=5, deadline=None)
def test_a_number_that_its_writer_refutes_is_no_answer(form, verifier, number):
    assert grade(str(number), form.format(number), verifier).outcome == "wrong"


@pytest.mark.parametrize("form", [form for form in REFUTED[:15] if form.startswith("{} ")])
@given(numbers, numbers)
@settings(max_examples=5, deadline=None)
def test_what_stands_in_the_place_of_a_refuted_number_is_the_answer(form, number, other):
    text = f"{form.format(number).rstrip('.')}. The answer is {other}."
    assert grade(str(other), text).outcome == "correct"
    assert number == other or grade(str(number), text).outcome == "wrong"


def test_a_sentence_that_is_taken_back_takes_nothing_else_with_it():
    assert grade("42", "The answer is 42. Some say 43. That is wrong.").outcome == "correct"
    assert grade("8", "I got 9. That's wrong. It is 8.").outcome == "correct"
    assert grade("72", "There are 36 pens in a pack, and Lena buys 2 packs, so she has 72.").outcome == "correct"


@pytest.mark.parametrize("form", COUNTED)
@given(st.integers(2, 99))
@settings(max_examples=5, deadline=None)
def test_the_number_of_a_line_is_no_answer(form, number):
    for verifier in ("math", "integer"):
        assert grade(str(number), form.format(number), verifier).outcome == "wrong"


@given(numbers)
@settings(max_examples=7, deadline=None)
def test_a_number_and_a_sentence_about_it_are_no_list_item(number):
    for text in (f"{number}. That is the answer.", f"{number}. I checked it.", f"{number}: {number} = {number}"):
        assert grade(str(number), text).outcome == "correct", text


@given(functions, functions)
@settings(max_examples=7, deadline=None)
def test_the_value_of_a_function_at_zero_is_no_factor_of_zero(name, other):
    target = rf"{name}(0) e^{{-t}}"
    assert grade(target, rf"e^{{-t}} {name}(0)").outcome == "correct"
    for wrong in ("0", rf"{name}(0) e^{{t}}", rf"{name} e^{{-t}}", rf"{name}(1) e^{{-t}}"):
        assert grade(target, wrong).outcome == "wrong", wrong
    assert (grade(target, rf"{other}(0) e^{{-t}}").outcome == "correct") == (name == other)


def test_a_differential_equation_is_not_the_value_of_its_first_term():
    target = r"y^{\prime}+r y-r x(t)=0"
    assert grade(target, "y' + r y = r x(t)").outcome == "correct"
    for wrong in ("y' + r y = 0", "y' - r y - r x(t) = 0", "y + r y - r x(t) = 0"):
        assert grade(target, wrong).outcome == "wrong", wrong
    assert grade(r"\dot{x}_0 t", r"t\dot{x}_{0}").outcome == "correct"
    assert grade(r"\dot{x}_0 t", "x_0 t").outcome == "wrong"


@pytest.mark.parametrize("names", [("C_1", "C_2"), ("c_1", "c_2"), ("C_{2}", "C_{1}"), ("K_1", "K_2")])
def test_the_constants_of_a_solution_may_have_any_names_but_not_one_name(names):
    target = r"C_1 e^{t} + C_2 e^{-t} + t"
    for first, second in permutations(names):
        assert grade(target, rf"t + {first} e^{{t}} + {second} e^{{-t}}").outcome == "correct"
        assert grade(target, rf"t + {first} e^{{t}} + {first} e^{{-t}}").outcome == "wrong"
        assert grade(target, rf"-t + {first} e^{{t}} + {second} e^{{-t}}").outcome == "wrong"
    assert grade("c e^{-2x}", "Ce^{-2x}").outcome == "correct"
    assert grade("mc^2", "mC^2").outcome == "wrong"


def test_the_variable_of_a_function_may_have_another_name():
    assert grade("f(n)=n^2", "f(x)=x^2 for all x").outcome == "correct"
    for wrong in ("f(x)=n^2", "f(x)=x^3", "g(x)=n^2"):
        assert grade("f(n)=n^2", wrong).outcome == "wrong", wrong


@given(numbers, numbers, st.sampled_from(range(0, len(DIGITS), 10)))
@settings(max_examples=20, deadline=None)
def test_digits_of_another_script_are_the_same_number(number, other, script):
    zero = sorted(DIGITS)[script]
    written = "".join(chr(zero + int(digit)) for digit in str(number))
    for verifier in ("math", "integer", "exact"):
        assert grade(str(number), written, verifier).outcome == "correct"
        assert (grade(str(other), written, verifier).outcome == "correct") == (number == other)


@given(letters, letters, numbers, numbers)
@settings(max_examples=7, deadline=None)
def test_a_choice_with_its_text_says_both(letter, other, number, wrong):
    for text in (f"({letter}) {number}", rf"\boxed{{\textbf{{({letter})}}\ {number}}}", f"{letter}. {number}"):
        assert grade(letter, text).outcome == grade(str(number), text).outcome == "correct", text
        assert (grade(other, text).outcome == "correct") == (letter == other)
        assert (grade(str(wrong), text).outcome == "correct") == (number == wrong)


@given(st.lists(st.integers(10, 99), min_size=2, max_size=5, unique=True), st.integers(1, 6))
@settings(max_examples=10, deadline=None)
def test_a_list_behind_its_count_says_both(members, count):
    listed = ", ".join(map(str, members))
    for text in (f"There are {len(members)} such values: {listed}.", f"{len(members)} ({listed})"):
        assert grade(str(len(members)), text, "integer").outcome == "correct", text
        assert grade(listed, text).outcome == "correct", text
        assert grade(f"{listed}, 5", text).outcome == "wrong", text
    if count != len(members):
        assert grade(str(count), f"{len(members)} ({listed})").outcome == "wrong"


@given(numbers)
@settings(max_examples=7, deadline=None)
def test_the_marks_of_feet_and_inches_are_units(number):
    assert grade(f"{number} feet", f"{number}'").outcome == grade(f"{number} inches", f'{number}"').outcome == "correct"
    assert grade(f"{number} feet", f'{number}"').outcome == grade(f"{number}^\\circ", f"{number}'").outcome == "wrong"
    assert grade(f"{number} inches", f"{number} in.").outcome == "correct"


@pytest.mark.parametrize(
    "text", ["It could be {0} or perhaps {1}.", "Not sure: {0}? {1}?", "{1}\n{0}", "I was going to say {0}.", "{0}?",
             "{0} would be right if the mass were constant, but it is not, so {1}.", "{0} violates a law, so {1}."]
)  # fmt: skip
def test_a_letter_that_is_only_considered_is_not_chosen(text):
    for first, second in permutations("BCD", 2):
        assert grade(first, text.format(first, second), "choice").outcome == "wrong"


@given(st.integers(2, 50), st.integers(2, 50), st.integers(2, 50))
@settings(max_examples=7, deadline=None)
def test_unit_vectors_name_coordinates(first, second, third):
    target = f"({first}, -{second}, {third})"
    for mark in (r"\hat{{{}}}", r"\mathbf{{{}}}", r"\vec {}", r"\hat{{\mathbf{{{}}}}}"):
        i, j, k = (mark.format(letter) for letter in "ijk")
        assert grade(target, f"{first}{i} - {second}{j} + {third}{k}").outcome == "correct", mark
        assert grade(target, f"{first}{i} + {second}{j} + {third}{k}").outcome == "wrong", mark
    assert grade(f"{first} + {second}i", rf"{first} + {second}\mathbf{{i}}").outcome == "correct"


@given(st.integers(1, 50), st.integers(51, 99))
@settings(max_examples=7, deadline=None)
def test_bounds_that_leave_nothing_between_them_name_what_is_beyond(low, high):
    beyond = rf"(-\infty, {low}) \cup ({high}, \infty)"
    for text in (f"x < {low}, x > {high}", f"x > {high} and x < {low}", rf"(-\infty, {low}), ({high}, \infty)"):
        assert grade(beyond, text).outcome == grade(text, beyond).outcome == "correct", text
        assert grade(f"({low}, {high})", text).outcome == "wrong", text
    assert grade(f"({low}, {high}), ({high}, {low})", rf"({low}, {high}) \cup ({high}, {low})").outcome == "wrong"


@given(st.integers(2, 99))
@settings(max_examples=7, deadline=None)
def test_a_noun_behind_per_cent_changes_nothing_unless_the_target_names_another(number):
    assert grade(f"{number}\\%", f"{number}% increase").outcome == "correct"
    assert grade(f"{number}% increase", f"{number}%").outcome == grade(f"{number}% chance", f"{number}/100").outcome
    assert grade(f"{number}% increase", f"{number}%").outcome == "correct"
    assert grade(f"{number}% increase", f"{number}% decrease").outcome == "wrong"


def test_a_list_beside_nothing_at_all_is_wrong():
    assert grade(r"\mathbb{R} \setminus (-\infty, \infty)", "3, 4").outcome == "wrong"
    assert grade(r"\mathbb{R} \setminus (-\infty, \infty)", "no solution").outcome == "correct"


@pytest.mark.parametrize("name", ["equation", "equation*", "align*", "gather", "displaymath", "math"])
@given(numbers)
@settings(max_examples=3, deadline=None)
def test_an_equation_in_an_environment_is_one_formula_wherever_its_lines_end(name, number):
    for body in (f"x = {number}", f"\n  {number}.\n", f"\n\\begin{{aligned}}\nx &= {number}\n\\end{{aligned}}\n"):
        for lead in ("The answer is\n", "Answer: ", "We find\n\n"):
            text = rf"{lead}\begin{{{name}}}{body}\end{{{name}}}" + "\nas required."
            assert grade(str(number), text).outcome == "correct", text
            assert grade(str(number + 1), text).outcome == "wrong", text
    assert grade("6", r"Answer: \begin{align} x &= 2 \cdot 3 \\ &= 6 \end{align}").outcome == "correct"
    assert (
        grade(r"\begin{pmatrix}1\\2\end{pmatrix}", "Answer:\n\\begin{pmatrix}\n1\\\\\n2\n\\end{pmatrix}").outcome
        == "correct"
    )


def test_a_factorial_of_a_letter_is_no_word():
    assert len({canonical(text) for text in ("n!", "n!!", "n", "(n)!")}) == 4


@pytest.mark.parametrize("name", ["quadrillion", "sextillion", "tenths", "hundredths"])
@given(numbers)
@settings(max_examples=3, deadline=None)
def test_a_scale_word_is_never_dropped(name, number):
    assert grade(str(number), f"{number} {name}").outcome == "wrong"


@pytest.mark.parametrize(
    "text", ["❌ A\n❌ {0}\n✅ {1}", "❌ {0}. red ✅ {1}. green", "{0} ❌ {1} ✅", "{0}: ❌\n{1}: ✅"]
)
def test_a_mark_belongs_to_the_letter_that_it_is_written_to(text):
    for first, second in permutations("BCD", 2):
        assert grade(second, text.format(first, second), "choice").outcome == "correct"
        assert grade(first, text.format(first, second), "choice").outcome == "wrong"
