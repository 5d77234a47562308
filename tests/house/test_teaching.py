"""The lecturer's page: lessons of 90 minutes, of notebooks, sections and panels that exist, each question answered."""

import re

from paths import REPO

TEXT = (REPO / "docs" / "teaching.md").read_text()
LESSONS = {
    part.split("\n", 1)[0].strip(): part for part in re.split(r"^## ", TEXT, flags=re.M) if part.startswith("Lesson ")
}


def blocks(lesson):
    """[(minutes, what is shown, what is asked)] of a lesson's table."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \| ?(.*?) ?\|$", lesson, flags=re.M)
    return [(int(minutes), shown, asked) for minutes, shown, asked in rows]


def test_three_lessons_of_ninety_minutes():
    assert len(LESSONS) == 3
    for name, lesson in LESSONS.items():
        assert sum(minutes for minutes, _, _ in blocks(lesson)) == 90, name
        lines = [line for line in lesson.splitlines() if line.startswith("|")]
        assert len(lines) - 2 == len(blocks(lesson)) >= 6, f"{name}: a row of its table has no minutes"


def test_every_notebook_and_panel_exists():
    from reidkit.panels import __all__ as panels

    known = {p.stem[:2] for p in (REPO / "notebooks").glob("[0-9][0-9]_*.py")}
    linked = re.findall(r"\[(\d\d)\]\(\.\./notebooks/(\d\d)_\w+\.ipynb\)", TEXT)
    assert linked and all(number == target for number, target in linked)
    shown = {n for lesson in LESSONS.values() for _, what, _ in blocks(lesson) for n in re.findall(r"\b(\d\d),", what)}
    assert shown <= known and {n for n, _ in linked} == known
    named = set(re.findall(r"`([A-Z]\w+[a-z]\w*)`", TEXT))
    assert named == set(panels), "each panel has its place in a lesson, and no other name looks like one"


def test_the_comparator_of_a_lesson_has_its_variants():
    """`VariantComparator` (05): `a` against `b`: the notebook opens the panel with these two."""
    (number, *names), *more = re.findall(r"`VariantComparator` \((\d\d)\): `([\w-]+)` against `([\w-]+)`", TEXT)
    (notebook,) = (REPO / "notebooks").glob(f"{number}_*.py")
    (opened,) = re.findall(r"^VariantComparator\(.+$", notebook.read_text(), flags=re.M)
    assert not more and names == re.findall(r'networks\["([\w-]+)"\]', opened)


def test_every_question_is_asked_and_answered():
    """Q1, Q2, ... of a table stand below it, with what students get wrong."""
    for name, lesson in LESSONS.items():
        asked = [q for _, _, what in blocks(lesson) for q in re.findall(r"Q\d", what)]
        _, *answers = re.split(r"^- \*\*(?=Q\d\. )", lesson, flags=re.M)
        assert asked == [answer[:2] for answer in answers] and len(asked) >= 6, name
        for answer in answers:
            assert "?** " in answer and "*Often said: " in " ".join(answer.split()), f"{name}: {answer[:60]}"
