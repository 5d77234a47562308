"""What several notebooks share: `notebooks/lesson.py` and `notebooks/figures/`."""

import importlib
import io
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from needs import need
from paths import REPO
from PIL import Image

from reidkit.errors import ReIDKitError
from reidkit.models.stripes import BRANCH_1, BRANCH_2
from reidkit.reporting import claims, colours, plots, report

need("matplotlib")
need("IPython")
sys.path.insert(0, str(REPO / "notebooks"))
figures, lesson = (importlib.import_module(name) for name in ("figures", "lesson"))
sys.path.pop(0)


def results(values, level="strong", seeds=2):
    """A results table of {system: mAP in percent of seed 0}; each further seed scores one point more."""
    rows = [[f"{s}-{i}", s, s, "sidewalk-small", "quick", i, level, "ours", "step AP", np.nan, "mAP", (v + i) / 100,
             "", "", ""] for s, v in values.items() for i in range(seeds)]  # fmt: skip
    return pd.DataFrame(rows, columns=report.COLUMNS)


def test_compare_counts_what_agrees(capsys):
    before = len(lesson.AGREED)
    lesson.compare("equal", torch.ones(3), torch.ones(3))
    lesson.compare("rounded", torch.ones(3), torch.ones(3) + 1e-6)
    lesson.compare("other", torch.ones(3), torch.tensor([1.0, 1.0, 1.5]))
    assert lesson.AGREED[before:] == [True, True, False]
    lines = capsys.readouterr().out.splitlines()
    assert "exact True   approximate True   max difference 0.0e+00" in lines[0]
    assert "exact False  approximate True" in lines[1]
    assert "approximate False  max difference 5.0e-01" in lines[2]


def test_say_wraps_what_is_too_long_for_a_projector(capsys):
    lesson.say("short", 3)
    lesson.say("word " * 50 + "\n  end")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "short 3" and lines[-1] == "  end"
    assert max(map(len, lines)) <= lesson.WIDTH and "".join(lines[1:-1]).split() == ["word"] * 50


def test_told_prints_errors_and_warnings_with_short_names(capsys, tmp_path):
    def complain():
        warnings.warn(f"half of {tmp_path / 'maps'} is missing", stacklevel=1)
        raise ReIDKitError(f"no file in {tmp_path / 'maps'}")

    lesson.told(complain, WORK=tmp_path)
    assert capsys.readouterr().out == "warning: half of WORK/maps is missing\nReIDKitError: no file in WORK/maps\n"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "maps")
    lesson.told(lambda: f"{link} leads to {tmp_path / 'maps'}", HERE=link)
    assert capsys.readouterr().out == "HERE leads to HERE\n"
    lesson.told(lambda: {"found": 3})
    assert capsys.readouterr().out == "{'found': 3}\n"
    with pytest.raises(ZeroDivisionError):  # an error that is not the kit's is a fault of the notebook
        lesson.told(lambda: 1 / 0)


def test_results_come_from_the_first_place_that_has_the_wanted_systems(tmp_path):
    own, shipped = tmp_path / "runs.csv", tmp_path / "shipped.csv"
    results({"mpn": 40}).to_csv(own, index=False)
    results({"cgpn": 50, "mpn": 41}).to_csv(shipped, index=False)
    places = (tmp_path / "nothing", own, shipped)
    table, source = lesson.all_results(places, "cgpn")
    assert set(table.system) == {"cgpn", "mpn"} and source == shipped.as_posix()
    assert lesson.all_results(places)[1] == own.as_posix()
    table, source = lesson.all_results(places, "mgn")
    assert table.empty and source == "nowhere"
    assert lesson.label_of({"name": "sidewalk", "size": "small"}) == "sidewalk-small"
    assert lesson.label_of({"name": "market1501"}) == "market1501"


def test_a_prediction_is_counted_pair_by_pair(capsys):
    table = results({"a": 30, "b": 40, "c": 35})
    lesson.pairs_as_predicted(["a", "b", "c", "not-run"], table, "strong")
    lesson.pairs_as_predicted(None, table, "strong")
    assert capsys.readouterr().out.splitlines() == [
        "2 of 3 pairs as you predicted, on strong",
        "you made no prediction; the cell above the tables waits for one",
    ]


def test_claims_become_a_table_and_a_picture(capsys):
    table = results({"naive-mtl": 40, "baseline": 35}, seeds=3)
    checked = {("strong", "mAP"): claims.check_claims(table, metric="mAP", level="strong")}
    overview = lesson.claims_overview(checked, ("strong", "mAP"))
    verdicts = overview["ours: strong mAP"]
    assert verdicts[overview["worse in the paper"].eq("baseline").to_numpy()].str.contains("appears").any()
    assert overview["paper: mAP"].str.fullmatch(r"[+-]\d+\.\d|-").all()
    assert lesson.draw_claims(checked["strong", "mAP"], "title") is not None
    nothing = claims.check_claims(report.no_results(), metric="mAP", level="strong")
    assert lesson.draw_claims(nothing, "title") is None and "title: no pair" in capsys.readouterr().out
    tally = lesson.tally_orderings(table, ["mpn-table1"], dataset="sidewalk-small", preset="quick")
    assert tally.loc[("mpn-table1", "strong"), "appears"] == 1


def test_dots_name_what_was_not_run(capsys):
    table = pd.concat([results({"a": 40, "b": 50}, level) for level in ("mild", "strong")])
    figure = figures.dots(table, ["a", "not-run", "b"], title="t")
    assert capsys.readouterr().out == "not run yet: not-run\n"
    assert [ax.get_title() for ax in figure.axes] == ["mild", "strong"]
    seeds = [line.get_xdata() for line in figure.axes[1].lines if line.get_marker() == "o"]
    assert np.allclose(seeds, [[40, 41], [50, 51]])
    assert figures.dots(table, ["not-run"]) is None


def test_a_network_keeps_its_colour_whatever_the_order_of_the_counts():
    groups = {"t": {"x": {"second": (1, 4), "first": (3, 4)}, "y": {"first": (2, 4), "second": (2, 4)}}}
    from matplotlib.colors import to_hex

    figure = figures.shares(groups, ["first", "second"], "%", lambda hits, n: (hits / n, hits / n))
    marks = {(line.get_marker(), to_hex(line.get_color()).upper()) for line in figure.axes[0].lines
             if line.get_marker() in "os"}  # fmt: skip
    assert marks == {("o", plots.COLOURS[0]), ("s", plots.COLOURS[1])}
    places = [line.get_xdata() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [float(np.ravel(x)[0]) for x in places] == [75, 50]


def test_counts_of_a_group_are_joined_by_their_mean():
    _, axes = figures.base.axes_of(1, 1, 3, 3)
    figures.by_count(axes[0, 0], {1: ("a", "b"), 2: ("c",), 3: ("not-run",)}, pd.Series({"a": 10.0, "b": 20, "c": 30}))
    dotted = [line for line in axes[0, 0].lines if line.get_linestyle() == ":"]
    assert dotted[0].get_xdata().tolist() == [1, 2] and dotted[0].get_ydata().tolist() == [15, 30]


def test_stripe_groups_show_what_a_feature_sees():
    figure = figures.stripe_groups((BRANCH_1, BRANCH_2), "t")
    groups = [g for b in (BRANCH_1, BRANCH_2) for g in b.groups]
    assert len(figure.axes) == len(groups)
    for ax, group in zip(figure.axes, groups):
        box = ax.patches[0]
        assert (box.get_y(), box.get_y() + box.get_height()) == pytest.approx(group.extent)


def test_stacked_shares_fill_the_whole():
    figure = figures.stacked_shares({"start": pd.Series({"softmax, Eq. 1": 0.5, "triplet": 0.3, "MSE": 0.2})}, "share")
    ends = sorted(bar.get_x() + bar.get_width() for bar in figure.axes[0].patches)
    assert ends == pytest.approx([0.5, 0.8, 1.0])
    assert "softmax 50.0%" in [text.get_text() for text in figure.axes[0].texts]


def test_a_long_title_is_not_cut():
    _, axes = figures.base.axes_of(1, 1, 2, 1)
    axes[0, 0].set_title("a title that is much longer than its figure is wide")
    figure = axes[0, 0].figure
    with Image.open(io.BytesIO(figures.as_jpeg(figure, dpi=100).data)) as picture:
        assert picture.width > 300  # the figure alone: 200


def test_curves_mark_few_points_and_join_many():
    few, many = range(5), range(100)
    figure = figures.curves(
        {"t": {"mpn": (few, few), "baseline": (many, many)}, "u": {"a": (few, few)}}, "x", log=["u"]
    )
    lines = figure.axes[0].lines
    assert lines[0].get_marker() == colours.SYSTEMS["mpn"][1] and lines[1].get_marker() == ""
    assert [line.get_color() for line in lines] == [colours.SYSTEMS[s][0] for s in ("mpn", "baseline")]
    assert figure.axes[0].get_ylim()[0] == 0 and figure.axes[1].get_yscale() == "log"


def test_areas_under_precision_are_the_average_precision():
    figure = figures.precision_areas([1, 3, 6], {"step": 13 / 18, "trapezoid": 0.677778})
    for ax, area in zip(figure.axes, (13 / 18, 0.677778)):
        corners = [p.get_xy() for p in ax.patches]
        shoelace = [abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2 for x, y in (c.T for c in corners)]
        assert sum(shoelace) == pytest.approx(area, abs=1e-5)


def test_a_sweep_draws_mean_and_spread_and_hard_sharing_is_dashed():
    t = pd.DataFrame({"mean": [40.0, 42, 41], "sd": [1.0, np.nan, 2]}, index=[4, 6, 8])
    figure = figures.sweep({"mild": {"mAP": t}, "strong": {"mAP": t.assign(mean=t["mean"] - 5)}}, "mpn", "K", "t")
    assert [ax.get_title() for ax in figure.axes] == ["mild", "strong"]
    line = figure.axes[1].lines[0]
    assert line.get_ydata().tolist() == [35, 37, 36] and line.get_color() == colours.SYSTEMS["mpn"][0]
    figure = figures.soft_against_hard({"conv 1": t.set_axis(["0", "1", "hard"])}, "t")
    dashed = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert set(dashed[0].get_ydata()) == {41} and figure.axes[0].get_xticklabels()[-1].get_text() == "hard"


def test_photographs_become_one_small_jpeg():
    sheet = figures.sheet({"a": [np.zeros((144, 48, 3), np.uint8)] * 2}, ["x", "y"])
    assert sheet.data.startswith(b"\xff\xd8\xff") and len(sheet.data) < 30_000
