"""The papers' claims: they agree with the papers' own tables, and verdicts are worded from the numbers."""

from math import inf, isnan, sqrt

import numpy as np
import pandas as pd
import pytest

from reidkit.errors import UnknownNameError
from reidkit.models.zoo import VARIANTS
from reidkit.reporting import claims, report
from reidkit.training.suites import SUITES

SYSTEMS = {
    "baseline": (0.38, 0.40, 0.37),
    "mt-only": (0.41, 0.42, 0.41),
    "naive-mtl": (0.41, 0.41, 0.43),
    "psa": (0.35, 0.37, 0.34),
    "fsa": (0.5,),
}

PAIRS = [("mt-only", "baseline"), ("naive-mtl", "mt-only"), ("psa", "baseline"), ("fsa", "baseline"), ("mpn", "psa")]
SOME = [claims.Claim(a, b, "here", "mpn-table1") for a, b in PAIRS]


@pytest.fixture
def results():
    rows = [
        [
            f"{s}-{seed}",
            s,
            s,
            "sidewalk-small",
            "quick",
            seed,
            "strong",
            "ours",
            "step AP",
            np.nan,
            "mAP",
            v,
            "",
            "",
            "",
        ]
        for s, values in SYSTEMS.items()
        for seed, v in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=report.COLUMNS)


@pytest.mark.parametrize("claim", claims.MPN_CLAIMS, ids=lambda c: f"{c.better}>{c.worse}")
def test_claims_agree_with_the_papers_tables(claim):
    assert {claim.better, claim.worse} <= set(VARIANTS)
    trained = {row.variant for row in SUITES[claim.suite]}
    assert {claim.better, claim.worse} <= trained, "one suite trains both"
    if claim.suite == "mpn-fig10":
        assert isnan(claims.paper_difference(claim))  # a curve without numbers
        return
    t = report.paper_table(claim.suite)
    wide = t[t.variant != ""].pivot(index=["dataset", "metric"], columns="variant", values="value")
    assert ((wide[claim.better] - wide[claim.worse]).dropna() >= 0).all()  # sample over batch ties once
    assert claims.paper_difference(claim, "mAP") > 0


@pytest.mark.parametrize("claim", claims.CGPN_CLAIMS, ids=lambda c: f"{c.better}>{c.worse}")
def test_cgpn_claims_agree_with_its_tables_in_map(claim):
    """In mAP, as means over the data sets that both rows have: single sets differ."""
    trained = {row.variant for row in SUITES[claim.suite]}
    assert {claim.better, claim.worse} <= set(VARIANTS) & trained
    assert claims.paper_difference(claim, "mAP") > 0


def test_table_1_of_cgpn_prints_an_ide_on_cuhk03_alone():
    """22.2 / 21.0 there, and dashes on the other sets."""
    ide = report.paper_table("cgpn-table1").query("variant == 'ide'")
    assert dict(zip(ide.metric, ide.value)) == {"rank1": 22.2, "mAP": 21.0} and set(ide.dataset) == {"cuhk03-labeled"}
    claim = next(c for c in claims.CGPN_CLAIMS if c.worse == "ide")
    assert claims.paper_difference(claim) == pytest.approx(83.6 - 21.0)
    assert claims.paper_difference(claim, "rank1") == pytest.approx(87.1 - 22.2)


def test_paper_difference_by_hand():
    claim = claims.Claim("mpn", "mpn-no-ca", "", "mpn-table1")
    assert claims.paper_difference(claim, "mAP") == pytest.approx((0.2 + 0.4 + 0.7 + 0.8) / 4)
    assert isnan(claims.paper_difference(claims.Claim("mpn", "pcb", "", "mpn-table1")))


def test_the_paper_prints_both_directions_of_its_claim_on_unsupervised_parts():
    """CGPN 4.5: +3.1 and +3.0 on Market-1501 and DukeMTMC, and -0.3 on CUHK03, where the claim is the opposite one."""
    of = [c for c in claims.CGPN_CLAIMS if {c.better, c.worse} == {"cgpn-3", "cgpn-4"}]
    found = {claim.better: claims.paper_difference(claim) for claim in of}
    assert found == {"cgpn-4": pytest.approx((3.1 + 3.0) / 2), "cgpn-3": pytest.approx(0.3)}


def test_no_claim_twice():
    for some in (claims.MPN_CLAIMS, claims.CGPN_CLAIMS):
        assert len({(c.better, c.worse) for c in some}) == len(some)


def test_check_claims(results):
    table = claims.check_claims(results, SOME, level="strong")
    assert list(table.verdict) == ["appears", "undecided", "reversed", "one seed", "not run"]
    assert set(table["where"]) == {"here"} and table.paper.notna().all()
    needed = table["seeds to decide"]
    assert needed.isna().tolist() == [True, False, True, True, True]
    # naive-mtl - mt-only: 0, -1, 2 points: mean 1/3, sd sqrt(7/3)
    assert needed[1] == claims.seeds_needed(1 / 3, sqrt(7 / 3)) > 3


def test_seeds_needed_by_hand():
    assert claims.seeds_needed(3, 1) == 3  # t(2) 1 / sqrt(3) = 2.48, t(1) 1 / sqrt(2) = 8.98
    assert claims.seeds_needed(-3, 1) == 3
    assert claims.seeds_needed(1e-6, 1) == inf and isnan(claims.seeds_needed(1.0, np.nan))
    n = int(claims.seeds_needed(0.5, 1.3))
    half, before = (report.t_quantile(0.95, m - 1) * 1.3 / sqrt(m) for m in (n, n - 1))
    assert half < 0.5 <= before


def test_explanation_is_made_of_the_numbers(results):
    text = claims.explain(claims.check_claims(results, SOME, level="strong"))
    assert text.startswith("5 orderings in mAP")
    assert "- mt-only over baseline: +3.0 [+0.5, +5.5], above in 3 of 3 seeds" in text
    undecided = text[text.index("**undecided**") : text.index("**one seed**")]
    assert "naive-mtl over mt-only: +0.3" in undecided and "seeds would decide" in undecided
    assert "- fsa over baseline: +12.0, above in 1 of 1 seeds" in text
    assert text.endswith("no seed has both): mpn over psa")
    lower = results.assign(value=results.value.where(results.system != "mt-only", results.value - 0.2))
    assert "**appears**" not in claims.explain(claims.check_claims(lower, SOME[:1], level="strong"))


def test_missing_runs(results):
    table = claims.missing_runs("mpn-table1", results, seeds=3).set_index("system")
    assert "baseline" not in table.index and len(table) == 10 - 4
    assert table.loc["fsa", "missing seeds"] == "1, 2" and table.loc["mpn", "missing seeds"] == "0, 1, 2"
    command = table.command.iloc[0]
    assert command == "reidkit ablate mpn-table1 --dataset sidewalk --size small --preset quick --seeds 3"
    long = claims.missing_runs("mpn-fig7", results, seeds=1, preset="long")
    assert "mpn model.num_parts=4" in set(long.system) and "--preset long --seeds 1" in long.command[0]
    real = claims.missing_runs("mpn-table1", report.no_results(), dataset="market1501", preset="paper", seeds=1)
    assert len(real) == 10 and "--dataset market1501 --preset paper" in real.command[0]
    with pytest.raises(UnknownNameError, match="mpn-table1"):
        claims.missing_runs("mpn-table12", results)


def at_scale(results, *, size=None, preset="quick", setting="", add=None):
    """The same runs at another scale, the values of some systems changed by `add`."""
    more = results.value + results.variant.map(add or {}).fillna(0)
    return results.assign(
        dataset=f"sidewalk-{size or 'small'}",
        preset=preset,
        value=more,
        system=results.variant + (f" {setting}" if setting else ""),
    )


def test_by_scale_by_hand(results):
    pairs = [("mt-only", "baseline"), ("mpn", "psa"), ("psa", "baseline")]
    wide = at_scale(results, setting="backbone=small-512", add={"mt-only": 0.1})
    many = at_scale(results[results.system != "psa"], size="many", preset="long", add={"baseline": 0.04})
    nothing = at_scale(results[results.variant == "fsa"], size="full")  # one system makes no pair
    t = claims.by_scale(pd.concat([results, wide, many, nothing]), pairs, level="strong")
    scales = ["sidewalk-small quick", "sidewalk-small quick backbone=small-512", "sidewalk-many long"]
    assert list(t.scale) == [scales[0]] * 2 + [scales[1]] * 2 + [scales[2], "mean of 3 scales", "mean of 2 scales"]
    d = np.array([3.0, 2.0, 4.0])  # mt-only minus baseline, seed by seed
    first = t[t["better in the paper"] == "mt-only"].set_index("scale")
    assert list(first.difference.round(6)) == [3, 13, -1, 5] and list(first.seeds) == [3] * 4
    half = report.t_quantile(0.95, 2) * d.std(ddof=1) / sqrt(3)
    assert first.low["mean of 3 scales"] == pytest.approx(5 - half) and first.verdict.iloc[-1] == "appears"
    assert t.difference.iloc[-1] == pytest.approx(-3) and t["better in the paper"].iloc[-1] == "psa"


def test_by_scale_averages_the_seeds_that_all_scales_have(results):
    long = at_scale(results[results.seed < 2], preset="long", add={"mt-only": 0.02})
    t = claims.by_scale(pd.concat([results, long]), [("mt-only", "baseline")], level="strong").set_index("scale")
    none = at_scale(results.assign(seed=results.seed + 7), preset="paper")
    apart = claims.by_scale(pd.concat([results, none]), [("mt-only", "baseline")], level="strong")
    assert list(apart.seeds) == [3, 3]  # no seed in common, no mean
    assert list(t.seeds) == [3, 2, 2] and t.difference["mean of 2 scales"] == pytest.approx((3 + 2) / 2 + 1)


def test_by_scale_of_one_scale_or_none_has_no_mean(results):
    pairs = [("mt-only", "baseline")]
    assert list(claims.by_scale(results, pairs).scale) == ["sidewalk-small quick"]
    empty = claims.by_scale(results, [("mpn", "psa")])
    assert empty.empty and set(claims.by_scale(results, pairs).columns) == set(empty.columns)
