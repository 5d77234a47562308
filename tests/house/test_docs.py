"""The pages that a stranger reads first: every link leads somewhere, and licence, citation and package agree."""

import re
import tomllib

import pytest
import yaml
from paths import REPO

PAGES = [
    REPO / "README.md",
    REPO / "CONTRIBUTING.md",
    *sorted((REPO / "docs").glob("*.md")),
    REPO / "results" / "paper" / "README.md",
]


def text_of(page):
    """The page without blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


def anchors(page):
    """The anchors of a page's headings, as GitHub and JupyterLab name them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(REPO).as_posix())
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", text_of(page)) + re.findall(r'<img src="([^"]+)"', text_of(page))
    for target in targets:
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists() and place.is_relative_to(REPO), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(place), f"{page.name}: no heading for {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(REPO).as_posix())
def test_files_named_in_a_page_exist(page):
    """`reidkit/...`, `results/...` and their like, apart from places for something (NAME) and what a command makes."""
    named = re.findall(r"`((?:reidkit|results|tests|notebooks|data_scripts|docs)/[\w./-]*)`", text_of(page))
    missing = [n for n in named if not (REPO / n).exists() and "NAME" not in n]
    assert missing == []


def test_readme_is_about_two_screens_and_names_what_a_stranger_looks_for():
    text = (REPO / "README.md").read_text()
    assert len(text.splitlines()) <= 105
    for word in (
        "make tour",
        "make test",
        "make lab",
        "LICENSE",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "docs/results.md",
        "docs/responsible-use.md",
        "docs/teaching.md",
    ):
        assert word in text
    first_screen = text[: text.index("## The notebooks")]
    for word in ("make tour", "make lab", "minutes", "Where to click first", "LICENSE", "CITATION.cff", "fig8.jpg"):
        assert word in first_screen, word
    listed = re.findall(r"^\| \[`(\w+)`\]\(notebooks/\1\.ipynb\) \|", text, flags=re.M)
    assert listed == sorted(p.stem for p in (REPO / "notebooks").glob("[0-9][0-9]_*.py"))
    pictures = re.findall(r'<img src="([^"]+)"[^>]* alt="[^"]+">', text)
    assert len(pictures) == 1 and pictures[0].startswith(("results/panels/", "docs/"))


def test_readme_gives_each_figure_to_the_notebook_that_has_it():
    """CGPN Fig. 5 and 6, MPN Fig. 7 to 10: the notebook of a row of the table names the figure itself."""
    rows = re.findall(r"^\| \[`(\w+)`\]\S+ \| ([^|]*) \|", (REPO / "README.md").read_text(), flags=re.M)
    for notebook, sections in rows:
        source = (REPO / "notebooks" / f"{notebook}.py").read_text()
        for figures in re.findall(r"Fig\. ([\d, -]+)", sections):
            for number in re.findall(r"\d+", figures):
                assert re.search(rf"Fig(?:\.|ures?) (?:\d+\w?(?:, | to | and ))*{number}\b", source), (notebook, number)


def test_panels_are_in_the_notebooks_that_their_page_names():
    """`<img src="../results/panels/Name.jpg" ...>**Title (02)**`: notebook 02 opens the panel."""
    page = (REPO / "docs" / "panels.md").read_text()
    named = re.findall(r"results/panels/(\w+)\.jpg\"[^>]*><br>\*\*[^(*]+\(([\d, ]+)\)\*\*", page)
    assert len(named) == 8
    for panel, numbers in named:
        for number in numbers.split(", "):
            (notebook,) = (REPO / "notebooks").glob(f"{number}_*.py")
            assert re.search(rf"\b{panel}\b[.(]", notebook.read_text()), (panel, number)


def test_licence_citation_and_package_agree():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    licence = (REPO / "LICENSE").read_text()
    assert licence.startswith("MIT License") and "2026 the reidkit authors" in licence
    assert project["license"] == citation["license"] == "MIT" and project["license-files"] == ["LICENSE"]
    assert citation["version"] == project["version"] and citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference)
    names = {a["family-names"] for a in citation["references"][0]["authors"]}
    assert names == {"Ding", "Wang", "Tao"} and citation["references"][0]["title"] in " ".join(
        (REPO / "README.md").read_text().split()
    )
