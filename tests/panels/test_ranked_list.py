"""The ranked list against the evaluation of the same networks, and AP by hand."""

import numpy as np
import pytest
import torch
from needs import need

need("ipywidgets")
from reidkit.panels.ranked_list import smaller_gallery


def test_ranked_list_agrees_with_the_evaluation(panels, sidewalk_tiny):
    from reidkit.evaluation import evaluate_ranking

    panel = panels["RankedList"]
    panel.reset()
    for name, run in panel.runs.items():
        q, g = (run.features(t).flatten(1) for t in (panel.queries, panel.gallery))
        kit = evaluate_ranking(q, g, panel.queries.pid, panel.gallery.pid, panel.queries.camid, panel.gallery.camid)
        ours = [panel.ap(panel.state(run=name), i) for i in range(len(panel.queries))]
        np.testing.assert_allclose(ours, kit.per_query.ap, atol=2e-3)  # near ties may change places


def test_ap_by_hand_and_the_junk_rule(panels):
    panel = panels["RankedList"]
    panel.reset()
    panel.query = 2
    formula = panel.by_hand(panel.state(), terms=100).removeprefix("AP = ").split(" = ")
    assert eval(formula[0]) == pytest.approx(float(formula[1]), abs=5e-4)
    with_rule, without = panel.ranking(panel.state()), panel.ranking(panel.state(junk_rule=False))
    assert (with_rule.kind != "junk").all() and (without.kind == "junk").any() and len(without) == len(panel.gallery)
    more = panel.counted_right(panel.state(junk_rule=False), without)
    assert len(more) > len(panel.counted_right(panel.state(), with_rule))
    panel.set(**{name: 0.0 for name in panel.weight_names})
    assert "every part has weight 0" in panel.error
    panel.reset()


def test_weights_are_those_of_the_chosen_parts(panels):
    panel = panels["RankedList"]
    state = panel.state(**{name: 0.0 for name in panel.weight_names[1:]})
    run = panel.runs[state.run]
    q, g = run.features(panel.queries)[5, 0], run.features(panel.gallery)[:, 0]  # part 1 alone
    np.testing.assert_allclose(panel.scores(state, 5), torch.cosine_similarity(g, q[None], dim=1), atol=1e-5)


def test_a_smaller_gallery_keeps_every_true_match(sidewalk_tiny):
    queries = sidewalk_tiny.query.head(4)
    small = smaller_gallery(queries, sidewalk_tiny.gallery, 40)
    wanted = sidewalk_tiny.gallery.pid.isin(queries.pid).sum()
    assert small.pid.isin(queries.pid).sum() == wanted and len(small) == max(40, wanted)
    assert smaller_gallery(queries, sidewalk_tiny.gallery, None) is sidewalk_tiny.gallery
