"""docs/claims.md is what the command makes of the shipped results; its verdicts by hand; its places exist."""

import json
import re
from math import sqrt

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from reidkit.cli import app
from reidkit.errors import ReIDKitError
from reidkit.models.zoo import VARIANTS, create_model
from reidkit.reporting import claim_list, claims_page, exhibits, report, table9, verdicts
from reidkit.reporting.full_test import full_test
from reidkit.training.suites import SUITES

CLAIM = claim_list.Claim("mpn", "baseline", "MPN 0", "mpn-table1")
FLIPPED = claim_list.Claim("cgpn", "ide", "CGPN 0", "cgpn-table1")


def runs(system, values, level="strong", dataset="sidewalk-small", preset="quick", form="step AP"):
    """Rows of a table of results: one seed a value of mAP, in percent."""
    rows = [
        [
            f"{system}-{dataset}-{preset}-{seed}",
            system,
            system.split(" ")[0],
            dataset,
            preset,
            seed,
            level,
            "ours",
            form,
        ]
        + [np.nan, "mAP", value / 100, "", "", ""]
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=report.COLUMNS)


def test_the_page_is_what_the_command_makes_of_the_stored_results(repo, tmp_path):
    result = CliRunner().invoke(app, ["claims", "--save", str(tmp_path / "claims.md")])
    assert result.exit_code == 0, result.output
    made, kept = (tmp_path / "claims.md").read_text(), (repo / "docs" / "claims.md").read_text()
    assert made == kept, "docs/claims.md is not of these results: run `reidkit claims --save docs/claims.md`"


def test_a_claim_is_asked_at_every_scale_where_both_of_its_systems_were_run():
    table = pd.concat(
        [
            runs("mpn", (40, 42, 41)),
            runs("baseline", (37, 40, 37)),
            runs("mpn", (50, 50), preset="long"),
            runs("baseline", (51, 53), preset="long"),
            runs("mpn backbone=small-256 lr=0.1", (60,)),
            runs("baseline backbone=small-256 lr=0.1", (50,)),
            runs("mpn backbone=small-96", (60,)),  # the other one was not run there
            runs("mpn", (40, 42), level="mild", dataset="market1501"),
            runs("baseline", (40, 42), level="mild", dataset="market1501"),
        ]
    )
    found = verdicts.verdicts(table, [CLAIM]).set_index("scale")
    assert list(found.index) == [
        "sidewalk-small quick",
        "sidewalk-small long",
        "sidewalk-small quick backbone=small-256 lr=0.1",
        "market1501 quick",
    ]
    first = found.iloc[0]  # differences 3, 2, 4
    half = report.t_quantile(0.95, 2) / sqrt(3)
    assert (first.difference, first.low) == (pytest.approx(3), pytest.approx(3 - half))
    assert list(found.verdict) == ["appears", "undecided", "one seed", "undecided"]
    assert list(found.level) == ["strong"] * 3 + ["mild"]


def test_settings_of_a_row_are_no_scale_and_k_is_no_setting_of_another_claim():
    flip = "step AP, flip mean"
    table = pd.concat(
        [
            runs("cgpn", (50, 51), form=flip),
            runs("ide test_flip=mean", (40, 42), form=flip),
            runs("ide", (60, 60)),  # tested otherwise: another system
            runs("mpn model.num_parts=6", (50, 52)),
            runs("mpn model.num_parts=4", (40, 41)),
            runs("baseline", (50, 50)),
        ]
    )
    assert list(verdicts.verdicts(table, [FLIPPED]).scale) == ["sidewalk-small quick"]
    assert verdicts.verdicts(table, [FLIPPED]).difference.item() == pytest.approx(9.5)
    assert verdicts.verdicts(table, [CLAIM]).empty
    four = next(c for c in claim_list.FIG7_CLAIMS if c.worse.endswith("=4"))
    assert verdicts.verdicts(table, [four]).difference.item() == pytest.approx(10.5)
    assert verdicts.split_system("mpn size=[96, 32] lr=0.1") == ("mpn", ("size=[96, 32]", "lr=0.1"))


def test_sharper_is_strong_minus_mild_seed_by_seed():
    (claim, *_) = claim_list.SHARPER_CLAIMS
    table = pd.concat(
        [
            runs("cgpn", (50, 52, 51)),
            runs("cgpn-1", (40, 41, 43)),
            runs("cgpn", (70, 70, 70), level="mild"),
            runs("cgpn-1", (69, 68, 69), level="mild"),
        ]
    )
    row = verdicts.sharper(table, [claim]).iloc[0]
    assert row.difference == pytest.approx(np.mean([10 - 1, 11 - 2, 8 - 1])) and row.level == "strong minus mild"
    assert verdicts.sharper(table[table.level == "mild"], [claim]).empty


def test_verdicts_on_attention_maps():
    scores = pd.DataFrame(
        [
            [v, s, "strong", "gradcam", "sidewalk-small", x + s / 100, 0.1, 0.1, 0.1]
            for v, x in (("naive-mtl", 0.9), ("mpn", 0.8))
            for s in (0, 1)
        ],
        columns=["variant", "seed", "level", "method", "data", "similarity", "own_energy", "background", "shift"],
    )
    table = verdicts.map_verdicts(scores, claim_list.MAP_CLAIMS).set_index("measure")
    assert table.difference["similarity"] == pytest.approx(10) and table.verdict["background"] == "not run"
    none = verdicts.map_verdicts(claims_page.read_scores(None), claim_list.MAP_CLAIMS)
    assert set(none.verdict) == {"not run"}


def test_scores_that_are_none_are_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ReIDKitError, match=r"x\.csv cannot be read .*lacks the columns"):
        claims_page.read_scores(tmp_path / "x.csv")
    with pytest.raises(ReIDKitError, match=r"none\.csv"):
        claims_page.read_scores(tmp_path / "none.csv")


def test_two_scores_of_one_seed_are_no_two_seeds(repo, tmp_path):
    file = tmp_path / "scores.csv"
    scores = pd.read_csv(repo / "results" / "sidewalk" / "attention.csv", dtype={"trained": str, "commit": str})
    again = scores[scores.variant == "mpn"].head(1).assign(similarity=0.1)
    pd.concat([scores, again]).to_csv(file, index=False)
    with pytest.raises(ReIDKitError, match=rf"scores\.csv has several .*\(lines \d+, {len(scores) + 2}\); keep one"):
        claims_page.read_scores(file)


def test_times_are_those_of_the_stored_benchmarks(tmp_path):
    assert set(table9.time_verdicts(tmp_path).verdict) == {"not run"}
    steps = {"mgn": (0.64, 64), "mpn-no-ca": (0.24, 48), "pyramid": (0.192, 48)}
    stored = {name: {"seconds_a_step": s, "batch": b} for name, (s, b) in steps.items()}
    content = {"variants": stored, "preset": "paper", "provenance": {"device": "cuda: a card"}}
    (tmp_path / "train-card.json").write_text(json.dumps(content))
    table = table9.time_verdicts(tmp_path).set_index(["slower", "faster"])
    assert list(table.loc[("mgn", "mpn-no-ca"), ["ms_slower", "ms_faster"]]) == pytest.approx([10, 5])
    assert (
        list(table.verdict) == ["appears", "reversed", "not run", "not run"]
        and table["where"].iloc[0] == "cuda: a card, paper"
    )


def test_sizes_are_counted_on_real_networks():
    model = create_model("mpn-no-ca", table9.IDENTITIES)
    classifiers = sum(p.numel() for m in (model.classifier, model.aux_classifier) for p in m.parameters())
    assert table9.training_parameters("mpn-no-ca") == sum(p.numel() for p in model.parameters()) - classifiers
    assert table9.test_parameters("mpn-no-ca") == model.count_parameters()
    assert {c.verdict for c in table9.count_claims()} == {"holds"}
    assert table9.CountClaim("", "", "", False).verdict == "does not hold"


def test_every_table_and_figure_has_its_place(repo):
    names = {(e.paper, e.name) for e in exhibits.EXHIBITS}
    figures = {("MPN", f"Fig. {n}") for n in range(1, 11)} | {("CGPN", f"Fig. {n}") for n in range(1, 7)}
    assert names == figures | {("MPN", f"Table {n}") for n in range(1, 10)} | {
        ("CGPN", f"Table {n}") for n in range(1, 5)
    }
    assert {e.suite for e in exhibits.EXHIBITS} - {""} == set(SUITES)
    import reidkit.panels

    for e in exhibits.EXHIBITS:
        assert not e.panel or hasattr(reidkit.panels, e.panel)
        assert e.notebook or e.suite
        if e.notebook:
            text = (repo / "notebooks" / f"{e.notebook}.py").read_text()
            kind, number = e.name.split(" ")
            kind = kind.rstrip(".") + (r"(?:\.|ures?)" if kind == "Fig." else "s?")
            assert re.search(rf"{kind} (?:\d+\w?(?:, | to | and ))*{number}\b", text), (e.notebook, e.name)


def test_every_claim_is_on_the_page(repo):
    page = (repo / "docs" / "claims.md").read_text()
    for claim in (*claim_list.MPN_CLAIMS, *claim_list.FIG7_CLAIMS, *claim_list.CGPN_CLAIMS):
        assert f"| `{claim.better}` over `{claim.worse}` |" in page and claim.says in page
        assert claim.better.split(" ")[0] in VARIANTS and claim.suite in SUITES


def test_what_a_full_test_takes():
    """Two networks of 70 epochs of five copies of 32,621 images; an epoch of CGPN has each of 751 people once, eight
    images of each in batches of eight people (94 of them)."""
    text = full_test("mpn-table8")
    assert text.startswith("`reidkit reproduce mpn-table8 --dataset msmt17 --root DIR`: 6 runs and 3 of the IDE")
    images = 3 * (2 * 70 * 5 * 32621 + 60 * 174 * 48)  # an epoch of an IDE: 1,041 people, 6 a batch, 8 images of each
    assert f"{images / 1e6:,.0f} million" in text
    assert "the same on dukemtmc" in full_test("mpn-table2")
    assert f"15 runs, {5 * 3 * 240 * 94 * 64 / 1e6:,.0f} million" in full_test("cgpn-table3")


def test_tables_count_only_claims_about_rows_that_they_print():
    """CGPN's Table 2 prints CGPN alone of what the kit builds; MPN's Table 6 has no MPN*, which Table 5 has."""
    flip = {"dataset": "occluded-duke", "form": "step AP, flip mean"}
    table = pd.concat(
        [
            *(runs(name, values, **flip) for name, values in (("cgpn", (50, 51)), ("mgn", (40, 42)))),
            *(runs(name, values) for name, values in (("mpn", (50, 51)), ("pcb", (45, 44)), ("mpn-rga", (60, 61)))),
        ]
    )
    found = verdicts.verdicts(table, claims_page.PAIRS)
    at = {(e.paper, e.name): claims_page._verdict_of(e, found) for e in exhibits.EXHIBITS if e.suite}
    assert at["CGPN", "Table 2"] == "no two of its rows are built"
    assert at["MPN", "Table 5"] == "strong: appears 1, undecided 1" and at["MPN", "Table 6"] == "strong: undecided 1"


def test_a_sentence_about_whole_people_is_not_asked_on_occluded_ones():
    """CGPN 4.5: unsupervised global parts help on holistic images and harm on occluded ones."""
    flip = {"form": "step AP, flip mean"}
    sets = {"dataset": "cuhk03-labeled", "level": "", **flip}
    table = pd.concat(
        [
            *(runs("cgpn-4", (70, 71), level=level, **flip) for level in ("mild", "strong")),
            *(runs("cgpn-3", (60, 61), level=level, **flip) for level in ("mild", "strong")),
            runs("cgpn-4", (50, 51), **sets),
            runs("cgpn-3", (60, 61), **sets),
        ]
    )
    found = verdicts.verdicts(table, claim_list.CGPN_CLAIMS)
    rows = [tuple(row) for row in found[["better", "scale", "level", "verdict"]].itertuples(index=False)]
    assert rows == [
        ("cgpn-4", "sidewalk-small quick", "mild", "appears"),
        ("cgpn-3", "sidewalk-small quick", "strong", "reversed"),
        ("cgpn-3", "cuhk03-labeled quick", "", "appears"),
    ]
