"""Arms and sleeves: the measures by hand on planted maps, the regions on Sidewalk, the table of runs, the verdicts."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from attention_networks import write_run
from market_folder import make_market_folder
from typer.testing import CliRunner

from reidkit.attention.sleeves import arm_energy, arm_regions, score_sleeves, sleeve_of, sleeve_summary
from reidkit.cli import app
from reidkit.data import load_dataset
from reidkit.data.sidewalk import PART_NAMES, load_truth
from reidkit.data.sidewalk.dense import people_of
from reidkit.data.sidewalk.identity import make_identities
from reidkit.data.sidewalk.labels import FRAGMENT_ID, SHADES
from reidkit.errors import DatasetError, ReIDKitError
from reidkit.reporting import claim_list, claims_page, verdicts

K = 3


def test_relative_energy_by_hand():
    """A map that lies on the arm wholly, evenly everywhere, beside it, and none."""
    arm = np.zeros((1, 4, 5), bool)
    arm[0, 1, :2] = True  # a tenth of the image
    maps = np.zeros((1, 4, 4, 5))
    maps[0, 0, 1, 0], maps[0, 1], maps[0, 2, 3] = 1, 0.5, 1
    found = arm_energy(maps, {"lower": arm, "upper": np.zeros_like(arm)})
    np.testing.assert_allclose(found["lower"], [[10, 1, 0, np.nan]])
    assert np.isnan(found["upper"]).all(), "an arm that is not in the picture"


def planted(difference=0.0, favourite=2, people=40, shots=3, seed=0):
    """A table of images: lower arms of people with long sleeves have `difference` more energy in every map; map
    `favourite` has the most on upper arms in 9 of 10 images."""
    rng, rows = np.random.default_rng(seed), []
    for pid in range(people):
        sleeve, own = ("long", "short")[pid % 2], rng.normal(0, 0.2)
        for _ in range(shots):
            lower = 1 + own + difference * (sleeve == "long") + rng.normal(0, 0.1, K)
            upper = np.where(np.arange(K) == (favourite if rng.random() < 0.9 else 3) - 1, 3.0, 1.0)
            rows.append([pid, sleeve, *lower, *upper])
    return pd.DataFrame(
        rows, columns=["pid", "sleeve", *(f"{a}_{k + 1}" for a in ("lower", "upper") for k in range(K))]
    )


@pytest.mark.parametrize(("difference", "verdict"), [(0.5, "appears"), (-0.5, "reversed"), (0.0, "undecided")])
def test_a_planted_difference_is_found(difference, verdict):
    images = planted(difference)
    s = sleeve_summary(images, draws=500).set_index("measure")
    person = images.assign(lower=images.filter(like="lower").mean(axis=1)).groupby(["sleeve", "pid"]).lower.mean()
    slow = person["long"].mean() - person["short"].mean()
    assert s.value["lower_difference"] == pytest.approx(slow) == s.value["lower_long"] - s.value["lower_short"]
    assert list(s.people[["lower_long", "lower_short", "lower_difference"]]) == [20, 20, 40]
    spread = np.sqrt(person["long"].var(ddof=0) / 20 + person["short"].var(ddof=0) / 20)  # of two independent means
    half = (s.high["lower_difference"] - s.low["lower_difference"]) / 2
    assert half == pytest.approx(1.96 * spread, rel=0.2)
    table = s.reset_index().assign(run="r", variant="mpn", level="strong", method="gradcam")
    found = verdicts.arm_verdicts(table, claim_list.ARM_CLAIMS).set_index("measure")
    assert found.verdict["lower_difference"] == verdict and found.verdict["upper_lead"] == "appears"
    assert f"`r`, strong: {verdict} {slow:+.2f} [" in claims_page._arms(found.reset_index())


def test_more_pictures_of_the_same_people_are_no_more_people():
    """The interval is over people: the same images ten times give the same one."""
    images = planted(0.3)
    once, often = (sleeve_summary(t, draws=300) for t in (images, pd.concat([images] * 10)))
    pd.testing.assert_frame_equal(once, often)


def test_which_map_has_the_upper_arms():
    s = sleeve_summary(planted(favourite=2), draws=300).set_index("measure")
    shares = s.value[[f"upper_part_{k + 1}" for k in range(K)]]
    assert shares.sum() == pytest.approx(1) and shares.idxmax() == "upper_part_2" and shares.iloc[1] > 0.8
    assert s.value["upper_lead"] == pytest.approx(shares.iloc[1] - shares.drop("upper_part_2").max())
    assert sleeve_summary(planted(favourite=1), draws=300).set_index("measure").high["upper_lead"] < 0
    blank = planted().assign(**{f"upper_{k + 1}": 0.0 for k in range(K)})
    blank.loc[:5, "upper_3"] = 1.0  # where no map has evidence on the arm, none has the most of it
    assert sleeve_summary(blank, draws=50).set_index("measure").value["upper_part_3"] == 1


def test_images_that_say_nothing():
    """An arm out of the picture or a blank map is left out; one kind of sleeve alone is an error."""
    images = planted()
    hidden = images.assign(pid=images.pid + 100, lower_1=np.nan, lower_2=np.nan, lower_3=np.nan)
    hidden = hidden.assign(upper_1=np.nan, upper_2=np.nan, upper_3=np.nan)
    pd.testing.assert_frame_equal(
        sleeve_summary(pd.concat([images, hidden]), draws=50), sleeve_summary(images, draws=50)
    )
    with pytest.raises(ReIDKitError, match="nobody whose lower arms are seen has long sleeves"):
        sleeve_summary(images[images.sleeve == "short"])


def test_sleeves_as_they_are_seen():
    person = make_identities(1, (3, 1), sibling_rate=0.0)[0]
    cases = {
        ("long", "none"): "long",
        ("short", "none"): "short",
        ("short", "coat"): "long",
        ("short", "dress"): "short",
    }
    for (sleeve, outer), seen in cases.items():
        assert sleeve_of(replace(person, sleeve=sleeve, outer=outer)) == seen
    assert sleeve_of(None) == ""


def test_arms_on_sidewalk(sidewalk_tiny, tmp_path):
    """They lie on the arms of the exact maps, apart from each other; a short sleeve leaves the lower arm bare."""
    table = sidewalk_tiny.query.head(24)
    truth, people = load_truth(sidewalk_tiny, table), people_of(sidewalk_tiny, table)
    arms = arm_regions(sidewalk_tiny, table, truth.parts.shape[1:])
    is_arm = truth.parts == PART_NAMES.index("arms") + 1
    bare = np.isin(truth.codes // SHADES, [FRAGMENT_ID[f"arm_{side}"] for side in ("left", "right")])
    assert arms["lower"].any() and arms["upper"].any() and not (arms["lower"] & arms["upper"]).any()
    assert not (arms["lower"] & ~is_arm).any() and not (arms["upper"] & ~is_arm).any()
    for person, skin, lower in zip(people, bare, arms["lower"]):
        if lower.sum() > 20:
            assert (skin[lower].mean() > 0.9) == (sleeve_of(person) == "short")
    photographs = load_dataset("market-layout", root=make_market_folder(tmp_path / "m"))
    with pytest.raises(DatasetError, match="was not rendered"):
        people_of(photographs, photographs.query)


def test_runs_are_scored_once(sidewalk_tiny, tmp_path):
    run, out = write_run(tmp_path, "mpn-no-ca", 0), tmp_path / "sleeves.csv"
    root = str(sidewalk_tiny.root.parent)
    arguments = ["attention-scores", str(run), "--root", root, "--size", "tiny", "--sleeves", "--images", "16"]
    result = CliRunner().invoke(app, [*arguments, "--no-progress", "--out", str(out)])
    assert result.exit_code == 0, result.exception
    table = claims_page.read_arms(out)
    assert list(table.measure) == [
        *("lower_long", "lower_short", "lower_difference"),
        *(f"upper_part_{k}" for k in range(1, 7)),
        "upper_lead",
    ]
    assert {*table.run} == {run.name} and {*table.images} == {16} and table.command.notna().all()
    assert ((table.low <= table.value) & (table.value <= table.high)).all()
    before = out.read_bytes()
    again = score_sleeves([run], sidewalk_tiny, images=16, out=out, progress=False)
    assert out.read_bytes() == before and len(again) == len(table)
    (tmp_path / "x.csv").write_text("a\n1\n")
    with pytest.raises(ReIDKitError, match=r"x\.csv cannot be read .*lacks the columns .*--sleeves --out"):
        claims_page.read_arms(tmp_path / "x.csv")
    with pytest.raises(ReIDKitError, match=r"x\.csv cannot be read .*restore it"):
        score_sleeves([run], sidewalk_tiny, images=16, out=tmp_path / "x.csv", progress=False)
    (tmp_path / "x.csv").unlink()
    with pytest.raises(ReIDKitError, match=r"cannot write .*x\.csv"):
        score_sleeves([], sidewalk_tiny, images=16, out=out / "x.csv", progress=False)
    assert set(verdicts.arm_verdicts(claims_page.read_arms(None), claim_list.ARM_CLAIMS).verdict) == {"not run"}
