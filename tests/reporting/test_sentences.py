"""Numbers in sentences: percentages of the heroes' maps and the README's lead in mAP are those under results/."""

import re
from math import ceil, floor

import pandas as pd
import pytest

from reidkit.reporting import report

POINTING, ALIKE, MOST = "pointing", "similarity", "own_argmax"  # columns of attention-heroes.csv
PERCENT, SHARE = r"(\d+) to (\d+) %", r"0\.(\d\d) to 0\.(\d\d)"
# what stands before a range (and what behind it), the column and the variant that it is of
SAID = {
    "docs/results.md": [
        (rf"in {PERCENT} of the cases for MPN and", POINTING, "mpn"),
        (rf"for MPN and {PERCENT} for MPNo", POINTING, "mpn-no-ca"),
        (rf"{PERCENT} for Naive MTL", POINTING, "naive-mtl"),
        (rf"{PERCENT} for the Baseline", POINTING, "baseline"),
        (rf"maps of MPN have a similarity of {SHARE}", ALIKE, "mpn"),
        (rf"\(Naive MTL {SHARE}\)", ALIKE, "naive-mtl"),
        (rf"{PERCENT} \(PSA\)", POINTING, "psa"),
        (rf"{PERCENT} \(FSA\)", POINTING, "fsa"),
        (rf"both to MPNo's {PERCENT}", POINTING, "mpn-no-ca"),
        (rf"as often as MPN's \({PERCENT};", MOST, "baseline"),
        (rf"; MPN {PERCENT}\)", MOST, "mpn"),
    ],
    "README.md": [
        (rf"for MPN in {PERCENT} of the cases", POINTING, "mpn"),
        (rf"Naive MTL {PERCENT} \(\w+ seeds\)", POINTING, "naive-mtl"),
    ],
}
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def passage(page):
    """The paragraph on the maps of the heroes, in one line."""
    parts = [" ".join(part.split()) for part in page.split("\n\n")]
    found = [part for part in parts if "60 badly placed queries" in part]
    assert len(found) == 1, "one paragraph tells of the 60 badly placed queries"
    return found[0]


def untrue(text, said, scores):
    """Ranges of a paragraph that are not those of the seeds, rounded to the nearest hundredth or outwards."""
    wrong, ranges = [], 0
    for pattern, column, variant in said:
        found = re.findall(pattern, text)
        assert found, f"no sentence like {pattern!r}: say here how the page tells {column} of {variant} now"
        values = 100 * scores[scores.variant == variant][column]
        low, high = values.min(), values.max()
        ranges += len(found)
        for told in found:
            fits = int(told[0]) in {floor(low), round(low)} and int(told[1]) in {ceil(high), round(high)}
            wrong += [] if fits else [f"{column} of {variant}: {' to '.join(told)}, measured {low:.1f} to {high:.1f}"]
    assert ranges == len(re.findall(f"{PERCENT}|{SHARE}", text)), "a range that no line of SAID compares"
    return wrong


@pytest.fixture(scope="module")
def scores(repo):
    return pd.read_csv(repo / "results" / "sidewalk" / "attention-heroes.csv")


@pytest.fixture(scope="module")
def heroes(repo):
    runs = report.collect_results(repo / "results" / "sidewalk" / "runs.csv")
    return runs[(runs.preset == "hero") & (runs.test == "ours")]


@pytest.mark.parametrize("page", SAID)
def test_ranges_are_those_of_the_seeds(repo, scores, page):
    text = passage((repo / page).read_text())
    assert set(scores.images) == {60} and set(scores.level) == {"strong"}
    assert untrue(text, SAID[page], scores) == []
    changed = re.sub(rf"{PERCENT}(?= of the cases)", lambda m: f"{int(m[1]) - 2} to {m[2]} %", text)
    assert len(untrue(changed, SAID[page], scores)) == 1


def test_the_maps_of_every_seed_were_scored(scores, heroes):
    """Those of the table of heroes, as the page says."""
    for variant, part in scores.groupby("variant"):
        assert set(part.seed) == set(heroes[heroes.system == variant].seed), variant


def told_difference(text, pattern):
    """What stands behind a pattern, such as 1.6 [0.2, 3.0], as numbers."""
    found = re.search(pattern + r" \(?([+-]?\d+\.\d) \[([+-]?\d+\.\d), ([+-]?\d+\.\d)\]", text)
    assert found, f"no sentence like {pattern!r}"
    return [float(number) for number in found.groups()]


def measured_difference(heroes, better, worse):
    (row,) = report.ordering(heroes, [(better, worse)], "mAP", level="strong").to_dict("records")
    return [round(row[key], 1) for key in ("difference", "low", "high")], row["seeds"]


def test_the_leads_in_map_are_the_measured_ones(repo, scores, heroes):
    text = passage((repo / "README.md").read_text())
    lead, seeds = measured_difference(heroes, "mpn-no-ca", "naive-mtl")
    assert told_difference(text, "without channel attention leads Naive MTL by") == lead and lead[1] > 0
    assert {WORDS.index(word) for word in re.findall(r"\((\w+) seeds\)", text)} == {seeds}
    assert set(scores[scores.variant.isin(["mpn", "naive-mtl"])].groupby("variant").seed.nunique()) == {seeds}
    of_mpn, _ = measured_difference(heroes, "mpn", "naive-mtl")
    assert re.search(r"MPN (itself does not lead|does not)\.\*", text) and of_mpn[1] <= 0
    page = " ".join((repo / "docs" / "results.md").read_text().split())
    assert told_difference(page, "MPN is level with Naive MTL") == of_mpn and of_mpn[1] <= 0 <= of_mpn[2]


HERO, UNHIDDEN, GAIN = ("sidewalk-medium", "hero"), ("sidewalk-unhidden", "quick"), "strong minus mild"
INTERVAL = r"([+-]?\d+\.\d)( | \(| points )?\[([+-]?\d+\.\d), ([+-]?\d+\.\d)\]"
# what stands before a difference in a sentence of docs/results.md, the pair, the scale and the level that it is of
DIFFERENCES = [
    ("coarse over fine stripes gains", "cgpn", "cgpn-2", UNHIDDEN, GAIN),
    ("on strong the two are level", "cgpn", "cgpn-2", UNHIDDEN, "strong"),
    ("on mild fine stripes stay ahead", "cgpn", "cgpn-2", UNHIDDEN, "mild"),
    ("Supervision gains nothing there either (CGPN over CGPN-4", "cgpn", "cgpn-4", UNHIDDEN, "strong"),
    ("MPN is level with Naive MTL", "mpn", "naive-mtl", HERO, "strong"),
    ("(Naive MTL over MT Only", "naive-mtl", "mt-only", HERO, "mild"),
    ("It is above the Baseline on both levels (appears, on mild with", "baseline-ub", "baseline", HERO, "mild"),
    ("Naive MTL is ahead of it in every seed,", "naive-mtl", "baseline-ub", HERO, "strong"),
    ("on mild it stays below it in every seed", "mpn-no-ca", "baseline-ub", HERO, "mild"),
    ("Naive MTL, which has the paper's prior", "mpn-no-ca-uniform", "naive-mtl", HERO, "strong"),
    (
        "gains 4.1 points over it on strong (appears) and is ahead in every seed on mild",
        "mpn-no-ca",
        "mpn-no-ca-uniform",
        HERO,
        "mild",
    ),
    (
        "with it MPNo is behind in every seed on strong and in two of three on mild",
        "mpn-no-ca",
        "mpn-no-ca-roi",
        HERO,
        "mild",
    ),
    ("(CGPN over CGPN-1 appears on both levels, on mild with", "cgpn", "cgpn-1", HERO, "mild"),
    ("more where people are hidden (strong minus mild", "cgpn", "cgpn-1", HERO, GAIN),
    ("Global parts beside them (CGPN over CGPN-3) are ahead in every seed on mild", "cgpn", "cgpn-3", HERO, "mild"),
    ("what they gain from mild to strong is nothing here", "cgpn", "cgpn-2", HERO, GAIN),
    ("supervising the global parts is ahead in every seed on mild", "cgpn", "cgpn-4", HERO, "mild"),
]


def by_hand(runs, better, worse, scale, level):
    """[mean, low, high] in points of better - worse, paired by seed, with a 95 % t interval."""
    t = runs[(runs.dataset == scale[0]) & (runs.preset == scale[1]) & (runs.metric == "mAP") & (runs.test == "ours")]
    by_seed = t.pivot(index="seed", columns=["system", "level"], values="value") * 100
    of = {name: by_seed[name].assign(**{GAIN: lambda d: d.strong - d.mild})[level] for name in (better, worse)}
    gaps = (of[better] - of[worse]).dropna()
    half = report.t_quantile(0.95, len(gaps) - 1) * gaps.std() / len(gaps) ** 0.5
    return [gaps.mean(), gaps.mean() - half, gaps.mean() + half]


def test_every_interval_of_a_sentence_is_the_measured_one(repo):
    runs = report.collect_results(repo / "results" / "sidewalk" / "runs.csv")
    runs = runs[runs["shift"].isna()]
    lines = [line for line in (repo / "docs" / "results.md").read_text().splitlines() if not line.startswith("|")]
    text = " ".join(" ".join(lines).split()).split("**Arms and sleeves**")[0]  # those are held to sleeves.csv
    for before, *what in DIFFERENCES:
        found = re.search(rf"{re.escape(before)} \(?{INTERVAL}", text)
        assert found, f"no sentence like {before!r}"
        told = [float(found[group]) for group in (1, 3, 4)]
        assert told == pytest.approx(by_hand(runs, *what), abs=0.0501), before
    assert len(re.findall(INTERVAL, text)) == len(DIFFERENCES), "an interval that no line of DIFFERENCES compares"
