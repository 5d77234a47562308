"""Names of persons and cameras have one form: whole floats are integers, letters are composed."""

import unicodedata
import warnings

import numpy as np
import pandas as pd
import pytest
from own_pictures import person_folders, save_person

from reidkit.data import load_dataset
from reidkit.data.loaders import known_labels
from reidkit.data.sets.split import plain_name
from reidkit.errors import DatasetError

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))


def whole(ds):
    return pd.concat([ds.train, ds.query, ds.gallery]).sort_values("path").reset_index(drop=True)


@pytest.mark.parametrize("form", ["{:d}", "{:.1f}", "{:.3f}"])
def test_a_csv_of_floats_is_one_of_integers(tmp_path, form):
    people = person_folders(tmp_path / "people", 6)
    paths = sorted(people.rglob("*.png"))
    pids = np.repeat([-1, 3, 4, 5, 6, 7], 4)
    camids = np.tile([1, 2], 12)
    table = pd.DataFrame({"path": paths, "pid": map(form.format, pids), "camid": map(form.format, camids)})
    table.to_csv(people / "l.csv", index=False)
    ds = load_dataset("csv", root=people)
    assert whole(ds).pid.tolist() == pids.tolist() and whole(ds).camid.tolist() == camids.tolist()
    assert -1 not in {*ds.train.pid, *ds.query.pid} and ds.gallery.pid.isin(ds.junk_pids).sum() == 4
    assert set(ds.query.person) <= set("34567")


def test_folders_called_by_floats(tmp_path):
    people = person_folders(tmp_path / "people", 5)
    for number, folder in enumerate(sorted(people.iterdir())):
        folder.rename(people / f"{number or -1}.0")
    ds = load_dataset("folder", root=people)
    assert set(whole(ds).pid) == {-1, 1, 2, 3, 4} and -1 not in {*ds.train.pid, *ds.query.pid}


@pytest.mark.parametrize(
    "given, expected",
    [
        ("1.0", "1"),
        ("-1.00", "-1"),
        ("0002.0", "0002"),
        ("1.5", "1.5"),
        ("1,0", "1,0"),
        ("v1.0", "v1.0"),
        ("1.", "1."),
        ("1.0.0", "1.0.0"),
        (DECOMPOSED, COMPOSED),
    ],
)
def test_plain_name(given, expected):
    assert plain_name(given) == expected


def test_numbers_that_are_not_whole_are_names(tmp_path):
    people = person_folders(tmp_path / "people", 4)
    for folder, name in zip(sorted(people.iterdir()), ("-1.0", "1.0", "1.5", "2.0")):
        folder.rename(people / name)
    found = whole(load_dataset("folder", root=people, train_fraction=0))
    assert dict(zip(found.person, found.pid)) == {"-1": -1, "1": 1, "1.5": 2, "2": 3}


@pytest.mark.parametrize(
    "column, expected",
    [
        ([1.0, np.nan, -1.0], [1, -1, -1]),
        (pd.array([1.0, None, 3.0], "Float64"), [1, -1, 3]),
        (pd.array([1, None, 2**53 + 1], "Int64"), [1, -1, 2**53 + 1]),
        ([1.5, 2.0, 3.0], [-1, -1, -1]),
        ([np.inf, 2.0, 3.0], [-1, -1, -1]),
        ([1e300, 2.0, 3.0], [-1, -1, -1]),
        ([True, False, True], [-1, -1, -1]),
        (["1", "2", "3"], [-1, -1, -1]),
    ],
)
def test_labels_of_a_table(column, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = known_labels(pd.DataFrame({"pid": column}), "pid")
    assert got.tolist() == expected and got.dtype == np.int64


def test_one_person_in_both_forms_of_unicode(tmp_path):
    for split, name in {"train": COMPOSED, "test": DECOMPOSED}.items():
        for pid in range(3):
            for shot in range(2):
                folder = name if pid == 0 else f"{split}{pid}"
                save_person(tmp_path / "people" / split / folder / f"{shot}.png", 10 * len(split) + pid, shot)
    if len({p.name for p in (tmp_path / "people").glob("*/Z*")}) < 2:
        pytest.skip("this file system has one form only")
    with pytest.warns(UserWarning, match="1 identities are in the training set and in the test set"):
        ds = load_dataset("folder", root=tmp_path / "people")
    assert whole(ds).pid[whole(ds).person == COMPOSED].nunique() == 1 and DECOMPOSED not in set(whole(ds).person)
    assert any(DECOMPOSED in path for path in whole(ds).path)  # the disk's own spelling


@pytest.mark.parametrize("on_disk, listed", [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_csv_finds_files_in_the_other_form(tmp_path, on_disk, listed):
    people = person_folders(tmp_path / "people", 3)
    for shot in range(2):
        save_person(people / on_disk / f"{shot}.png", 50, shot)
    paths = [p.relative_to(people).as_posix() for p in sorted(people.rglob("*.png"))]
    table = pd.DataFrame({"path": [p.replace(on_disk, listed) for p in paths], "pid": [p.split("/")[0] for p in paths]})
    table.to_csv(people / "l.csv", index=False)
    ds = load_dataset("csv", root=people)
    assert whole(ds).path.tolist() == sorted(str(people / p) for p in paths)
    table.assign(path=table.path.str.replace(listed, "Zoe")).to_csv(people / "l.csv", index=False)
    with pytest.raises(DatasetError, match="2 of 14 pictures do not exist"):
        load_dataset("csv", root=people)


@pytest.mark.parametrize("column", ["pid", "camid"])
@pytest.mark.parametrize("word", ["nan", "<NA>", "None"])
def test_a_gap_among_numbers_is_no_name(tmp_path, column, word):
    people = person_folders(tmp_path / "people", 5)
    paths = [p.relative_to(people).as_posix() for p in sorted(people.rglob("*.png"))]
    table = pd.DataFrame({"path": paths, "pid": np.repeat(range(5), 4), "camid": np.tile([1.0, 2.0], 10)}).astype(str)
    table.loc[4:6, column] = word
    table.to_csv(people / "l.csv", index=False)
    with pytest.raises(DatasetError, match=rf"line 6: {column} is '{word}' among numbers \(3 such lines\)"):
        load_dataset("csv", root=people)
    table.assign(pid="p" + table.pid, camid="c" + table.camid).replace({f"{column[0]}{word}": word}).to_csv(
        people / "l.csv", index=False
    )
    assert word in set(whole(load_dataset("csv", root=people))["person" if column == "pid" else "camera"])
