"""What the K sweep computes, against the evaluation of the same networks, and the curve of trained ones."""

import numpy as np
import pandas as pd
import pytest
import torch
from needs import need

need("ipywidgets")
from reidkit.evaluation import evaluate_ranking
from reidkit.panels.k_sweep import KSweep, systems_of, trained_curve
from reidkit.panels.kit.chart import Line, draw_chart
from reidkit.panels.kit.sketch import Sketch, Words
from reidkit.panels.kit.subset import subset
from reidkit.training import load_run


def test_sweep_cuts_the_map_of_the_network(panels, runs, sidewalk_tiny):
    panel, ds = panels["KSweep"], sidewalk_tiny
    model, pooled = load_run(runs / "ide-s0"), []
    for table in (ds.query, ds.gallery):
        maps = torch.cat([panel.run.maps(p) for p in table.path]).numpy()  # [N, C, 12, w]
        stripes = [maps[:, :, 4 * k : 4 * k + 4].max(axis=(2, 3)) for k in range(3)]
        pooled.append(np.concatenate(stripes, axis=1))
    assert model.backbone.channels == maps.shape[1]
    kit = evaluate_ranking(*pooled, ds.query.pid, ds.gallery.pid, ds.query.camid, ds.gallery.camid)
    assert panel.cut[3].mAP == pytest.approx(kit.mAP, abs=1e-3) and set(panel.cut) == set(range(1, 13))
    assert panel.stripes(panel.state(parts=5)).shape == (5, 3, 4)  # 12 rows become 5 * ceil(12 / 5)


def test_sweep_says_where_stripes_are_resized(panels):
    panel = panels["KSweep"]
    resized, exact = panel.state(parts=5), panel.state(parts=6)
    assert "3 rows a part (12 → 15)" in said(panel.draw(resized)) and "resized from 12 to 15" in panel.status(resized)
    assert "2 rows × 4 cells a part" in said(panel.draw(exact)) and "resized" not in panel.status(exact)


def test_sweep_shows_trained_runs_only_when_revealed(panels, results, runs, sidewalk_tiny):
    panel = panels["KSweep"]
    panel.reset()
    values = panel.trained("mAP")
    assert sorted(values) == [1, 3, 6] and len(values[6]) == 2
    one = results[(results.run == "mpn-3-s0") & (results.metric == "mAP") & (results.level == sidewalk_tiny.level)]
    assert values[3].tolist() == one.value.tolist() and systems_of(3) == ["mpn model.num_parts=3"]
    best = max(values, key=lambda k: values[k].mean())
    hidden, shown = panel.draw(panel.state()), panel.draw(panel.state(reveal=True))
    assert "trained: MPN with K parts, a dot a seed" in said(shown) and "cut only" not in " ".join(said(hidden))
    assert "reveal" in panel.verdict(panel.state())
    assert f"trained: best K = {best} ({100 * values[best].mean():.1f})" in panel.verdict(panel.state(reveal=True))
    assert "as you guessed" in panel.verdict(panel.state(reveal=True, guess=best))
    assert "mAP" not in panel.status(panel.state()) and "mAP" in panel.status(panel.state(reveal=True))


def said(sketch):
    return [item.words for item in sketch.items if isinstance(item, Words)]


def test_two_test_sets_never_share_an_axis(panels, sidewalk_tiny):
    """The map that is cut ranks the panel's images, trained networks were ranked on the whole test set."""
    panel = panels["KSweep"]
    panel.reset()
    axes = [words for words in said(panel.draw(panel.state(reveal=True))) if words.startswith("mAP (%) on")]
    here = f"{len(sidewalk_tiny.query)} queries, {len(sidewalk_tiny.gallery)} gallery images"
    assert axes == [f"mAP (%) on {here}", f"mAP (%) on the whole test set, level {sidewalk_tiny.level}"]
    assert all(line.short in where for line, where in zip(panel._lines(panel.state()), ("cut only", "trained")))


@pytest.mark.parametrize("points", [{}, {3: []}, {2: [40.0], 3: [], 6: [50.0, 52.0]}])
def test_a_chart_draws_the_values_there_are(points):
    """A line without values, or with none at one x, leaves them out: no axis numbers, no mark."""
    line = Line("trained", "trained networks", "#D55E00", points)
    sketch = Sketch((300, 240))
    draw_chart(sketch, (50, 20, 280, 160), [line], x_label="K", y_label="mAP", xs=range(1, 7), marks={})
    picture = sketch.raster()
    coloured = (np.asarray(picture)[21:160, 51:280] == (0xD5, 0x5E, 0x00)).all(axis=2)
    filled = [x for x, values in points.items() if values]
    columns = [50 + (x - 0.5) / 6 * 230 for x in filled]
    assert coloured.any() == bool(filled) and all(coloured[:, round(c) - 51].any() for c in columns)
    numbers = (np.asarray(picture)[25:155, :45] != 255).any()
    assert numbers == bool(filled)


def test_sweep_without_results_and_with_a_folder(runs, sidewalk_tiny):
    few = subset(sidewalk_tiny, 3)
    alone = KSweep(runs / "cgpn-s0", few)  # the map of the first branch
    alone.reveal = True
    assert alone.error == "" and "no runs here" in alone.verdict(alone.state()) and "mode" in alone.hidden()
    folder = KSweep(runs / "ide-s0", few, runs)
    assert folder._run_of(3) is None  # part_dim 16 is another system than the suite's
    row = folder.results.run == "mpn-3-s0"
    folder.results.loc[row, "system"] = "mpn model.num_parts=3"
    assert folder._run_of(3) == runs / "mpn-3-s0"
    assert folder.part_maps(3, few.query.path.iloc[0]).shape == (3, 96, 32)
    folder.parts = 3
    assert folder.error == ""
    one_k = folder.results[folder.results.run == "mpn-3-s0"]
    assert KSweep(runs / "ide-s0", few, one_k).trained("mAP") == {}, "one K is no curve"


def test_the_curve_over_k_is_of_one_preset(results, sidewalk_tiny):
    one = results.system[results.variant == "mpn"].iloc[0]
    other = results[results.system == one].assign(preset="long", value=0.0)  # one K only
    both = pd.concat([other, results])
    alone, mixed = (trained_curve(table, "mAP", sidewalk_tiny) for table in (results, both))
    assert len(alone) > 1 and list(alone) == list(mixed)
    assert all((mixed[parts] == alone[parts]).all() and mixed[parts].max() > 0 for parts in alone)
