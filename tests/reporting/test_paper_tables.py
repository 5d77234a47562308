"""The papers' tables: spot values, row counts, and every difference that the papers' own text states."""

import pandas as pd
import pytest
from paths import REPO

PAPER = REPO / "results" / "paper"
CELLS = {  # table: (rows, numbers), counted on the printed page
    "mpn-table1": (10, 78),
    "mpn-table2": (5, 20),
    "mpn-table3": (6, 24),
    "mpn-table4": (4, 16),
    "mpn-table5": (32, 82),
    "mpn-table6": (26, 52),
    "mpn-table7": (20, 66),
    "mpn-table8": (12, 24),
    "mpn-table9": (5, 20),
    "mpn-fig10": (1, 4),
    "cgpn-table1": (16, 66),
    "cgpn-table2": (4, 16),
    "cgpn-table3": (5, 30),
    "cgpn-table4": (13, 26),
}
MPN_SETS = ["market1501", "dukemtmc", "cuhk03-detected", "cuhk03-labeled"]
CGPN_SETS = ["market1501", "dukemtmc", "cuhk03-labeled"]


def load(table: str) -> pd.DataFrame:
    return pd.read_csv(PAPER / f"{table}.csv", dtype={"value": float}, keep_default_na=False)


def value(table: str, row: str, dataset: str, metric: str) -> float:
    t = load(table)
    found = t[(t.row == row) & (t.dataset == dataset) & (t.metric == metric)]
    assert len(found) == 1, (table, row, dataset, metric)
    return float(found.value.iloc[0])


def test_all_tables_are_there():
    assert {p.stem for p in PAPER.glob("*.csv")} == set(CELLS)


@pytest.mark.parametrize("table", CELLS)
def test_shape(table):
    t = load(table)
    assert list(t.columns) == ["row", "variant", "dataset", "metric", "value"]
    assert (t.row.nunique(), len(t)) == CELLS[table]
    assert not t.duplicated(["row", "dataset", "metric"]).any()
    assert t.value.notna().all() and (t.value > 0).all()
    percent = t[t.metric.str.match(r"(rank\d+|mAP)$")]
    assert (percent.value < 100).all()


@pytest.mark.parametrize("table", CELLS)
def test_rank1_is_above_map(table):
    """Rank-1 exceeds mAP in every cell, except MGCAM on CUHK03 (printed 46.7/46.9 and 50.1/50.2)."""
    wide = load(table).pivot_table(index=["row", "dataset"], columns="metric", values="value")
    if {"rank1", "mAP"} <= set(wide.columns):
        wrong = wide[wide.rank1 < wide.mAP].index
        assert {row for row, _ in wrong} <= {"MGCAM"}


@pytest.mark.parametrize("table", CELLS)
def test_variants_are_names_of_the_zoo(table):
    from reidkit.models.zoo import VARIANTS

    names = set(load(table).variant) - {""}
    assert names <= set(VARIANTS)


@pytest.mark.parametrize(
    ("table", "row", "dataset", "metric", "printed"),
    [
        ("mpn-table1", "MT Only", "cuhk03-detected", "mAP", 69.3),
        ("mpn-table2", "ROI Resize", "dukemtmc", "rank1", 91.0),
        ("mpn-table3", "Sample-wise [10]", "market1501", "rank1", 95.1),
        ("mpn-table4", "Batch-wise", "dukemtmc", "mAP", 80.3),
        ("mpn-table5", "MPN*", "market1501", "mAP (multi-query)", 93.1),
        ("mpn-table6", "GSRW", "dukemtmc", "mAP", 66.4),
        ("mpn-table7", "HPDN", "cuhk03-labeled", "rank1", 64.3),
        ("mpn-table8", "Our Baseline", "msmt17", "mAP", 47.5),
        ("cgpn-table1", "VPM", "dukemtmc", "mAP", 72.6),
        ("cgpn-table2", "PGFA", "occluded-duke", "rank5", 68.6),
        ("cgpn-table4", "Branch 3", "cuhk03-labeled", "mAP", 78.7),
    ],
)
def test_spot_values(table, row, dataset, metric, printed):
    assert value(table, row, dataset, metric) == printed


def test_table9():
    t = load("mpn-table9")
    assert t[(t.row == "DSA-reID") & (t.metric == "training parameters (M)")].value.item() == 187.8
    assert t[(t.row == "MPNo") & (t.metric == "testing time (ms)")].value.item() == 5.1


# A statement of the text: the table, the better row, the other row, the metric, data sets, differences.
STATEMENTS = [
    ("mpn-table1", "PSA Alone, C1-S", "Naive MTL", "rank1", MPN_SETS, [0.9, 1.7, 5.6, 4.1]),  # Sec. 5.2.2
    ("mpn-table1", "PSA Alone, C1-S + C2-S", "Baseline", "mAP", MPN_SETS, [4.3, 3.5, 10.4, 8.2]),
    ("mpn-table1", "FSA Alone", "Baseline", "rank1", MPN_SETS, [1.3, 2.3, 10.1, 7.0]),  # Sec. 5.2.3
    ("mpn-table1", "FSA Alone", "Baseline", "mAP", MPN_SETS, [3.9, 3.3, 10.2, 7.8]),
    ("mpn-table1", "MPNo", "Baseline", "mAP", MPN_SETS, [4.8, 4.2, 11.7, 9.0]),  # Sec. 5.2.4
    ("mpn-table5", "MPN", "DSA-Local(Single)", "rank1", MPN_SETS[:1], [2.3]),  # Sec. 5.4.1
    ("mpn-table5", "MPN", "DSA-Local(Single)", "mAP", MPN_SETS[:1], [6.2]),
    ("mpn-table6", "MPN", "PCB+RPP", "rank1", ["dukemtmc"], [7.0]),  # Sec. 5.4.2
    ("mpn-table6", "MPN", "PCB+RPP", "mAP", ["dukemtmc"], [10.5]),
    ("mpn-table6", "MPN", "BDB+Cut", "rank1", ["dukemtmc"], [2.5]),
    ("mpn-table6", "MPN", "BDB+Cut", "mAP", ["dukemtmc"], [6.0]),
    ("mpn-table6", "MPN", "Pyramid", "rank1", ["dukemtmc"], [2.5]),
    ("mpn-table6", "MPN", "Pyramid", "mAP", ["dukemtmc"], [3.0]),
    ("mpn-table7", "MPN", "PCB+RPP", "rank1", ["cuhk03-detected"], [19.7]),  # Sec. 5.4.3
    ("mpn-table7", "MPN", "PCB+RPP", "mAP", ["cuhk03-detected"], [21.6]),
    ("mpn-table7", "MPN", "Pyramid", "rank1", MPN_SETS[2:], [4.5, 6.1]),
    ("mpn-table8", "MPN", "OSNet", "rank1", ["msmt17"], [4.8]),  # Sec. 5.4.4
    ("mpn-table8", "MPN", "OSNet", "mAP", ["msmt17"], [9.8]),
    ("cgpn-table1", "CGPN", "SAN", "mAP", ["market1501"], [1.9]),  # CGPN Sec. 4.3
    ("cgpn-table1", "CGPN", "MGN", "rank1", ["market1501"], [0.4]),
    ("cgpn-table1", "CGPN", "MGN", "mAP", ["market1501"], [3.0]),
    ("cgpn-table1", "CGPN", "Pyramid", "rank1", ["dukemtmc"], [1.4]),
    ("cgpn-table1", "CGPN", "Pyramid", "mAP", ["dukemtmc", "cuhk03-labeled"], [1.9, 6.7]),
    ("cgpn-table1", "CGPN", "SAN", "rank1", ["cuhk03-labeled"], [7.0]),
    ("cgpn-table2", "CGPN", "PGFA", "rank1", ["occluded-duke"], [7.1]),
    ("cgpn-table2", "CGPN", "PGFA", "mAP", ["occluded-duke"], [13.6]),
    ("cgpn-table3", "CGPN", "CGPN-1", "rank1", CGPN_SETS, [1.2, 1.1, 4.7]),  # CGPN Sec. 4.4
    ("cgpn-table3", "CGPN", "CGPN-1", "mAP", CGPN_SETS, [2.0, 2.5, 3.7]),
    ("cgpn-table3", "CGPN", "CGPN-2", "rank1", CGPN_SETS, [0.8, 0.1, 1.8]),
    ("cgpn-table3", "CGPN", "CGPN-2", "mAP", CGPN_SETS, [0.5, 0.7, 1.1]),
    ("cgpn-table3", "CGPN", "CGPN-3", "rank1", CGPN_SETS, [1.9, 1.8, 2.8]),  # CGPN Sec. 4.5
    ("cgpn-table3", "CGPN", "CGPN-3", "mAP", CGPN_SETS, [3.7, 4.0, 2.6]),
    ("cgpn-table3", "CGPN", "CGPN-4", "rank1", CGPN_SETS, [0.9, 0.4, 3.7]),
    ("cgpn-table3", "CGPN", "CGPN-4", "mAP", CGPN_SETS, [0.6, 1.0, 2.9]),
    ("cgpn-table3", "CGPN-4", "CGPN-3", "rank1", CGPN_SETS, [1.0, 1.4, -0.9]),
    ("cgpn-table3", "CGPN-4", "CGPN-3", "mAP", CGPN_SETS, [3.1, 3.0, -0.3]),
    ("cgpn-table4", "CGPN", "CGPN + Branch 4", "rank1", ["cuhk03-labeled"], [1.7]),  # CGPN Sec. 4.6
    ("cgpn-table4", "CGPN", "CGPN + Branch 4", "mAP", ["cuhk03-labeled"], [1.2]),
    ("cgpn-table4", "CGPN", "CGPN + Branch 4 + Branch 5", "rank1", ["cuhk03-labeled"], [1.3]),
    ("cgpn-table4", "CGPN", "CGPN + Branch 4 + Branch 5", "mAP", ["cuhk03-labeled"], [1.0]),
]


@pytest.mark.parametrize(("table", "better", "other", "metric", "datasets", "differences"), STATEMENTS)
def test_differences_stated_in_the_text(table, better, other, metric, datasets, differences):
    for dataset, difference in zip(datasets, differences, strict=True):
        found = value(table, better, dataset, metric) - value(table, other, dataset, metric)
        assert found == pytest.approx(difference, abs=1e-9), (table, better, other, dataset)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("mpn-table1", "MPNo"), ("mpn-table2", "MPNo (printed: ours)")),
        (("mpn-table1", "MPNo"), ("mpn-table4", "Class-wise")),
        (("mpn-table1", "FSA Alone"), ("mpn-table3", "Class-wise")),
        (("mpn-table1", "MT Only"), ("mpn-table2", "MT Only")),
        (("mpn-table1", "Naive MTL"), ("mpn-table3", "Naive MTL")),
        (("mpn-table1", "Baseline"), ("mpn-table3", "Baseline")),
        (("mpn-table1", "MPN"), ("mpn-table5", "MPN")),
        (("mpn-table1", "MPN"), ("mpn-table6", "MPN")),
        (("mpn-table1", "MPN"), ("mpn-table7", "MPN")),
        (("cgpn-table1", "CGPN"), ("cgpn-table3", "CGPN")),
        (("cgpn-table3", "CGPN"), ("cgpn-table4", "CGPN")),
        (("mpn-table5", "MGN"), ("cgpn-table1", "MGN")),
    ],
)
def test_one_system_has_the_same_numbers_in_every_table(first, second):
    tables = [load(table) for table, _ in (first, second)]
    numbers = [t[t.row == row].set_index(["dataset", "metric"]).value for t, (_, row) in zip(tables, (first, second))]
    shared = numbers[0].index.intersection(numbers[1].index)
    assert len(shared) >= 2
    assert (numbers[0][shared] == numbers[1][shared]).all()


def test_the_text_on_the_upper_bound():
    """Sec. 5.2.1: on CUHK03-detected, Baseline (UB) is the baseline on CUHK03-labeled."""
    for metric in ("rank1", "mAP"):
        upper = value("mpn-table1", "Baseline (UB)", "cuhk03-detected", metric)
        assert upper == value("mpn-table1", "Baseline", "cuhk03-labeled", metric)


def test_methods_that_both_papers_print_have_one_number():
    """CGPN Table 1 cell by cell against MPN Tables 5 to 7; on DukeMTMC-reID the two cite other numbers of PCB+RPP."""
    tables = pd.concat([load(f"mpn-table{n}") for n in (5, 6, 7)]).replace({"row": {"DSA-reID": "DSA"}})
    keys = ["row", "dataset", "metric"]
    both = load("cgpn-table1").merge(tables, on=keys, suffixes=("_cgpn", "_mpn"))
    assert set(both.row) == {"PAN", "MGCAM", "HA-CNN", "PCB+RPP", "MGN", "DSA", "Pyramid"} and len(both) == 32
    other = both[both.value_cgpn != both.value_mpn]
    assert {(row, dataset) for row, dataset in zip(other.row, other.dataset)} == {("PCB+RPP", "dukemtmc")}
