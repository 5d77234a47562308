"""The page's tables: numbers against scipy, text that cannot become markup."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reidkit.reporting.report import COLUMNS
from reidkit.reproduce.page import html_table, intervals


def results(values: dict[str, list[float]], level="mild"):
    rows = []
    for system, numbers in values.items():
        for seed, value in enumerate(numbers):
            for metric, v in (("mAP", value), ("rank1", value / 2)):
                own = {"system": system, "seed": seed, "level": level, "test": "ours", "metric": metric, "value": v}
                rows.append({**own, "shift": float("nan")})
    return pd.DataFrame(rows, columns=COLUMNS)


def test_mean_sd_and_interval_over_seeds():
    numbers = [0.61, 0.64, 0.70]
    table = intervals(results({"a": numbers, "b": [0.5]}), ["a", "b", "never run"], "mild")
    low, high = stats.t.interval(0.95, 2, np.mean(numbers), stats.sem(numbers))
    assert table.loc["a", "mAP"] == "65.0" and table.loc["a", "seeds"] == "3"
    assert table.loc["a", "mAP sd"] == f"{100 * np.std(numbers, ddof=1):.1f}"
    assert table.loc["a", "mAP 95 % interval"] == f"{100 * low:.1f} to {100 * high:.1f}"
    assert table.loc["a", "Rank-1"] == "32.5"
    assert list(table.loc["b", ["seeds", "mAP", "mAP sd", "mAP 95 % interval"]]) == ["1", "50.0", "-", "-"]
    assert list(table.loc["never run", ["seeds", "mAP", "Rank-1"]]) == ["0", "-", "-"]


def test_other_levels_and_queries_of_a_shift_do_not_count():
    table = results({"a": [0.6]})
    shifted = results({"a": [0.1]}).assign(shift=0.05)
    other = results({"a": [0.2]}, level="strong")
    found = intervals(pd.concat([table, shifted, other]), ["a"], "mild")
    assert found.loc["a", "mAP"] == "60.0" and found.loc["a", "seeds"] == "1"


@pytest.mark.parametrize("place", ["index", "column", "cell"])
def test_text_of_a_table_is_never_markup(place):
    bad = "<b>&x"
    table = pd.DataFrame(
        {bad if place == "column" else "c": [bad if place == "cell" else "v"]}, index=[bad if place == "index" else "i"]
    )
    page = html_table(table)
    assert bad not in page and "&lt;b&gt;&amp;x" in page


def test_the_papers_columns_can_be_told_by_their_name_and_look():
    page = html_table(pd.DataFrame({"paper: market1501 mAP": ["84.4"], "ours: set mAP": ["50.0"]}, index=["Baseline"]))
    assert page.count('class="paper"') == 2 and 'class="wide"' in page
    assert html_table(pd.DataFrame()) == ""
