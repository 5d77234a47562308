"""The checkers of the notebooks' "your turn" cells.

    print(check_exercise("03.2", margin, points=points, people=people))

They never raise, and say "not attempted yet" until you try. What each exercise expects stands in
`answers.py`, worked solutions in `solutions/`: both are spoilers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def check(answer: Any, expected: Any, *, tolerance: float = 1e-6, hint: str = "") -> str:
    """Compare an answer with what is expected; returns one line to read.

    answer: None means not attempted. expected: a value, an array or tensor, or a function
    answer -> bool.
    """
    if answer is None or answer is ...:
        return "not attempted yet"
    try:
        if isinstance(expected, Callable):
            right = bool(expected(answer))
        elif isinstance(expected, (str, bool)):
            right = answer == expected
        else:
            a, b = np.asarray(answer, dtype=float), np.asarray(expected, dtype=float)
            right = a.shape == b.shape and bool(np.allclose(a, b, atol=tolerance, rtol=0))
    except Exception as e:  # a wrong kind of answer is an answer too
        return f"not yet: your answer could not be compared ({type(e).__name__}: {e})"
    return "right" if right else "not yet" + (f". Hint: {hint}" if hint else "")


def check_exercise(name: str, answer: Any, **given: Any) -> str:
    """Check the answer of one exercise, such as "03.2"; given: what the exercise's own notebook
    computed."""
    if answer is None or answer is ...:
        return "not attempted yet"
    from answers import EXERCISES

    exercise = EXERCISES[name]
    return check(
        answer, exercise.expected(**given), tolerance=exercise.tolerance, hint=exercise.hint
    )
