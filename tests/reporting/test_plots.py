"""Figures: each draws what it was given, shows nothing by itself, and tells right from wrong without colour."""

import io

import numpy as np
import pandas as pd
import pytest
from needs import need
from PIL import Image

need("matplotlib").use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from reidkit.errors import ReIDKitError
from reidkit.priors import CoarsePrior
from reidkit.reporting import colours, plots, speed
from reidkit.reporting.report import COLUMNS

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 255, (48, 16, 3), dtype=np.uint8) for _ in range(5)]


def saved(figure: Figure) -> Image.Image:
    """The picture as a notebook would store it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


@pytest.fixture
def results():
    rows = []
    for system, base in (("baseline", 0.5), ("mpn", 0.6)):
        for seed in range(3):
            rows.append(
                [
                    f"{system}-{seed}",
                    system,
                    system,
                    "sidewalk-small",
                    "quick",
                    seed,
                    "strong",
                    "ours",
                    "step AP",
                    np.nan,
                    "mAP",
                    base + 0.01 * seed,
                    "",
                    "",
                    "",
                ]
            )
            for shift in (0.0, 0.1, 0.2):
                rows.append(
                    [
                        f"{system}-{seed}",
                        system,
                        system,
                        "sidewalk-small",
                        "quick",
                        seed,
                        "shift",
                        "ours",
                        "step AP",
                        shift,
                        "rank1",
                        base - shift + 0.01 * seed,
                        "",
                        "",
                        "",
                    ]
                )
    return pd.DataFrame(rows, columns=COLUMNS)


def test_a_system_has_one_colour_and_marker_everywhere(tmp_path):
    assert plots.styles(["baseline", "mpn"]) == plots.styles(["mpn", "baseline"])[::-1]
    assert plots.styles(["MPNo", "Naive MTL"]) == plots.styles(["mpn-no-ca", "naive-mtl"])
    other, mpn = plots.styles(["unheard of", "mpn-no-ca"])
    assert mpn == colours.SYSTEMS["mpn-no-ca"] and other[0] != mpn[0]
    assert len(set(plots.styles([*"abcdefgh"]))) == 8 and len(plots.styles([*"abcdefghij"])) == 10
    assert len(set(colours.SYSTEMS.values())) == len(colours.SYSTEMS)
    same = plots.line_styles(["MPNo, mild", "MPNo, strong", "baseline, mild"])
    assert [s["color"] for s in same] == [colours.SYSTEMS[n][0] for n in ("mpn-no-ca", "mpn-no-ca", "baseline")]
    assert [s["ls"] for s in same] == ["-", "--", "-"]
    table = pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0]})
    drawn = (plots.cmc_curve({"mpn": [0.8]}), plots.training_curves({"baseline": table, "mpn": table}))
    lines = [line for figure in drawn for line in figure.axes[0].lines if line.get_label() == "mpn"]
    assert {(line.get_color(), line.get_marker()) for line in lines} == {colours.SYSTEMS["mpn"]}
    assert all(figure.get_dpi() == plots.DPI for figure in drawn)


def test_cmc_curve():
    figure = plots.cmc_curve({"mpn": [0.8, 0.9, 1.0], "baseline": [0.5, 0.6, 0.7]}, max_rank=2)
    lines = figure.axes[0].lines
    assert list(lines[0].get_xdata()) == [1, 2] and list(lines[0].get_ydata()) == pytest.approx([80, 90])
    assert lines[0].get_marker() != lines[1].get_marker()
    assert not plt.get_fignums(), "a figure is shown when it is returned, and only then"


def test_rank1_under_shift(results):
    axis = plots.rank1_under_shift(results).axes[0]
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["baseline (3 seeds)", "mpn (3 seeds)"]
    assert list(axis.lines[0].get_ydata()) == pytest.approx([51, 41, 31])  # mean of 50, 51, 52 at shift 0
    band = axis.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(52) and band[:, 1].min() == pytest.approx(30)  # sd is 1 point
    only = plots.rank1_under_shift(results, ["mpn"]).axes[0]
    assert len(only.lines) == 1
    with pytest.raises(ReIDKitError, match="shift"):
        plots.rank1_under_shift(results[results["shift"].isna()])


def test_training_curves(tmp_path):
    table = pd.DataFrame({"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "mAP": [np.nan, 0.2, np.nan]})
    table.to_csv(tmp_path / "metrics.csv", index=False)
    figure = plots.training_curves({"a": tmp_path / "metrics.csv", "b": table.drop(columns="mAP")}, ["loss", "mAP"])
    assert [len(ax.lines) for ax in figure.axes] == [2, 1]
    assert list(figure.axes[1].lines[0].get_xdata()) == [2]  # epochs without an evaluation are left out
    with pytest.raises(ReIDKitError, match="accuracy"):
        plots.training_curves({"a": table}, ["accuracy"])


def test_image_grid():
    figure = plots.image_grid(IMAGES, titles=[f"id {i}" for i in range(5)], columns=3)
    shown = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    assert len(figure.axes) == 6 and len(shown) == 5
    assert all((a == b).all() for a, b in zip(shown, IMAGES))
    with pytest.raises(ReIDKitError, match="no image"):
        plots.image_grid([])


@pytest.mark.parametrize("reliable", [True, False])
def test_prior_steps(reliable):
    parsing = np.zeros((48, 16), np.uint8)
    parsing[6:12, 6:10], parsing[30:42, 6:10] = 13, 9
    segmentation = np.zeros((48, 16))
    segmentation[6:42, 4:8] = 1
    prior = CoarsePrior(np.ones((24, 8), bool), 0.125, 0.875, reliable)
    figure = plots.prior_steps(IMAGES[0], parsing, segmentation, prior, num_parts=3)
    union = figure.axes[3].images[0].get_array()
    assert (union == ((parsing > 0) | (segmentation > 0))).all()
    lines = [line.get_ydata()[0] for line in figure.axes[-1].lines]
    assert lines == pytest.approx([6, 18, 30, 42])  # K + 1 edges in pixels
    assert ("not reliable" in figure.axes[-1].get_title()) == (not reliable)


def test_every_lip_label_has_its_own_colour():
    assert plots.LIP_COLOURS.shape == (20, 3)
    assert len(np.unique(plots.LIP_COLOURS, axis=0)) == 20


def test_ranked_list_marks_by_sign_as_well_as_colour():
    figure = plots.ranked_list(IMAGES[0], IMAGES[1:4], [True, False, None], captions=["c1", "c2", "c3"])
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["query", "1 +", "2 x", "3 o"]
    right, wrong = (figure.axes[i].spines["top"] for i in (1, 2))
    assert right.get_edgecolor() != wrong.get_edgecolor() and right.get_linestyle() != wrong.get_linestyle()
    colours = {c for _, c in saved(figure).getcolors(1 << 20)}
    assert {(0, 114, 178), (213, 94, 0), (127, 127, 127)} <= colours  # blue, vermilion, grey reach the page
    with pytest.raises(ReIDKitError, match="3 gallery images but 1 marks"):
        plots.ranked_list(IMAGES[0], IMAGES[1:4], [True])


def test_bars():
    axis = plots.bars({"a": 70.0, "b": 74.0}, {"a": 1.0}, unit="mAP (%)", points={"b": [73.0, 75.0]}).axes[0]
    assert [p.get_width() for p in axis.patches] == [70.0, 74.0]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["a", "b"]
    assert axis.get_xlabel().startswith("mAP (%)") and axis.yaxis_inverted()
    assert axis.get_xlim()[0] < 69 and axis.get_xlim()[1] > 74


def test_variant_bars(results):
    axis = plots.variant_bars(results, ["baseline", "mpn"], "mAP", level="strong").axes[0]
    assert [p.get_width() for p in axis.patches] == pytest.approx([51, 61])
    assert "strong" in axis.get_xlabel() and "3 seeds" in axis.get_xlabel()
    dots = [line for line in axis.lines if line.get_marker() == "o" and len(line.get_xdata()) == 3]
    assert len(dots) == 2 and sorted(dots[1].get_xdata()) == pytest.approx([60, 61, 62])


def test_differences():
    rows = [
        ["a", "b", 3.0, 1.0, 5.0, 3, "appears"],
        ["c", "b", -2.0, -3.0, -1.0, 3, "reversed"],
        ["d", "b", 0.1, -1.0, 1.2, 3, "undecided"],
        ["e", "b", 1.0, np.nan, np.nan, 1, "one seed"],
        ["f", "b", np.nan, np.nan, np.nan, 0, "not run"],
    ]
    columns = ["better in the paper", "worse in the paper", "difference", "low", "high", "seeds", "verdict"]
    table = pd.DataFrame(rows, columns=columns).assign(metric="mAP")
    figure = plots.differences(table)
    axis = figure.axes[0]
    marks = {line.get_label(): (line.get_marker(), line.get_xdata()[0]) for line in axis.lines[1:]}
    assert marks == {
        "appears (1)": ("^", 3.0),
        "reversed (1)": ("v", -2.0),
        "undecided (1)": ("o", 0.1),
        "one seed (1)": ("x", 1.0),
    }
    names = [t.get_text() for t in axis.get_yticklabels()]
    assert names == ["a over b (3)", "c over b (3)", "d over b (3)", "e over b (1)"]
    segments = [s for c in axis.collections for s in c.get_segments()]
    assert [(s[0][0], s[1][0]) for s in segments[:2]] == [(1.0, 5.0), (-3.0, -1.0)]
    with pytest.raises(ReIDKitError, match="none of these differences was run"):
        plots.differences(table[table.verdict == "not run"])


def test_differences_by_scale():
    rows = [
        ["small", "a", "b", 3.0, 1.0, 5.0, 3, "appears"],
        ["small", "c", "b", -2.0, -3.0, -1.0, 3, "reversed"],
        ["large", "a", "b", 0.1, -1.0, 1.2, 3, "undecided"],
        ["mean of 2 scales", "a", "b", 1.5, 1.0, 2.0, 3, "appears"],
        ["mean of 1 scales", "c", "b", -2.0, -3.0, -1.0, 3, "reversed"],
    ]
    columns = ["scale", "better in the paper", "worse in the paper", "difference", "low", "high", "seeds", "verdict"]
    table = pd.DataFrame(rows, columns=columns).assign(metric="mAP")
    figure = plots.differences_by_scale(table, "t", columns=2)
    first, second = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["a over b", "c over b"]
    assert [t.get_text() for t in first.get_yticklabels()] == ["small", "large", "mean of them"]
    places = [
        sorted((line.get_marker(), x, y) for line in ax.lines[1:] for x, y in zip(*line.get_data()))
        for ax in (first, second)
    ]
    assert places == [[("^", 1.5, 2), ("^", 3.0, 0), ("o", 0.1, 1)], [("v", -2.0, 0), ("v", -2.0, 2)]]
    assert [t.get_text() for t in figure.legends[0].texts] == ["appears", "reversed", "undecided"]
    narrow = plots.differences_by_scale(table[table.scale != "mean of 1 scales"], columns=1)
    three = plots.differences_by_scale(pd.concat([table, table.assign(**{"worse in the paper": "z"})]), columns=3).axes
    assert len(narrow.axes) == 2 and [ax.get_visible() for ax in three] == [True] * 4 + [False] * 2
    three[0].figure.canvas.draw()
    numbered = [any(t.label1.get_visible() for t in ax.xaxis.get_major_ticks()) for ax in three[:4]]
    assert numbered == [False, True, True, True]  # the lowest of each column
    with pytest.raises(ReIDKitError, match="none of these differences was run"):
        plots.differences_by_scale(table.iloc[:0])


def test_training_speed_has_a_bar_for_every_row():
    row = {"network": "bare", "mode": "eager", "batch": 48, "images_a_second": 2000.0, "times_bare": 1.0}
    rows = [row | {"network": n, "mode": m, "batch": b} for b in (48, 96) for m in ("eager", "compiled") for n in "ab"]
    loops = [{"network": "a", "mode": "eager", "batch": 48, "images_a_second": 1800.0, "of_step": 0.9}]
    source = {"device": "cpu: x86_64", "threads": 2}
    figure = speed.training_speed({"bench": "train", "provenance": source, "rows": rows, "loops": loops})
    saved(figure)
    assert [len(ax.patches) for ax in figure.axes] == [5, 4] and all(ax.get_xlim()[0] == 0 for ax in figure.axes)
    assert figure.get_suptitle() == "Training on cpu: x86_64 (2 threads)"
    assert len({bar.get_hatch() for bar in figure.axes[0].patches}) == 2
    with pytest.raises(ReIDKitError, match="one of 'evaluate'"):
        speed.training_speed({"bench": "evaluate", "rows": rows})
    with pytest.raises(ReIDKitError, match="with rows"):
        speed.training_speed({"bench": "train", "variants": {}})
