"""A split that is given: which options can act on it, and what becomes of copies."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_pictures import person_folders, save_person

from reidkit.data import load_dataset
from reidkit.errors import DatasetError, ReIDKitError

THREE = ("train", "query", "gallery")


def divided(root: Path, name: str, splits: tuple[str, ...]) -> Path:
    """Two persons to train on and two to test, four shots each, as folders or as a CSV."""
    for pid in range(4):
        for shot in range(4):
            split = "train" if pid < 2 else splits[1 + (shot > 0) % (len(splits) - 1)]
            save_person(root / split / f"p{pid}" / f"{shot}.png", pid, shot)
    if name == "csv":
        paths = [p.relative_to(root) for p in sorted(root.rglob("*.png"))]
        rows = [(p.as_posix(), p.parts[1], p.parts[0]) for p in paths]
        pd.DataFrame(rows, columns=["path", "pid", "split"]).to_csv(root / "l.csv", index=False)
    return root


@pytest.mark.parametrize("name", ["folder", "csv"])
@pytest.mark.parametrize(
    "splits, options, message",
    [
        (
            THREE,
            {"train_fraction": 0.9, "seed": 7, "queries": 3},
            "train_fraction=0.9 and queries=3 and seed=7 can have no",
        ),
        (
            THREE,
            {"seed": 1},
            "seed=1 can have no effect here, as the data set comes divided into train, query, gallery",
        ),
        (
            ("train", "test"),
            {"train_fraction": 0.9, "seed": 7},
            "train_fraction=0.9 can have .* divided into train, test",
        ),
    ],
)
def test_options_that_cannot_act_are_refused(tmp_path, name, splits, options, message):
    with pytest.raises(ReIDKitError, match=f"^{name}: {message}"):
        load_dataset(name, root=divided(tmp_path / "d", name, splits), **options)


@pytest.mark.parametrize("name", ["folder", "csv"])
def test_options_that_act_and_defaults_are_taken(tmp_path, name):
    ds = load_dataset(name, root=divided(tmp_path / "d", name, ("train", "test")), queries=3, seed=7)
    assert len(ds.query) == 6
    ds = load_dataset(name, root=divided(tmp_path / "e", name, THREE), train_fraction=0.5, queries=1, seed=0)
    assert [len(getattr(ds, s)) for s in THREE] == [8, 2, 6]


def test_pictures_without_names_are_not_divided(tmp_path):
    save_person(tmp_path / "crops" / "a.png", 1)
    people = person_folders(tmp_path / "people", 3)
    for root, options in ((tmp_path / "crops", {"seed": 3}), (people, {"labels": "none", "seed": 3})):
        with pytest.raises(ReIDKitError, match="seed=3 can have no effect here, as pictures without names"):
            load_dataset("folder", root=root, **options)


def test_copies_stay_where_the_split_is_given(tmp_path):
    root = divided(tmp_path / "d", "folder", THREE)
    shutil.copy(root / "train" / "p0" / "0.png", root / "train" / "p0" / "copy.png")
    with pytest.warns(UserWarning, match=r"1 files are copies .* and stay, as their split is given \(first: .*copy"):
        ds = load_dataset("folder", root=root)
    assert len(ds.train) == 9
    (root / "train" / "p0" / "copy.png").unlink()
    shutil.copy(root / "query" / "p2" / "0.png", root / "gallery" / "p2" / "copy.png")
    with pytest.warns(UserWarning, match="1 queries are in the gallery too") as said:
        load_dataset("folder", root=root)
    assert len(said) == 1


def test_copies_in_a_test_that_is_divided_here_are_left_out(tmp_path):
    root = divided(tmp_path / "d", "folder", ("train", "test"))
    for pid in (2, 3):
        for shot in range(4):
            shutil.copy(root / "test" / f"p{pid}" / f"{shot}.png", root / "test" / f"p{pid}" / f"{shot}-copy.png")
    for seed in range(5):
        with pytest.warns(UserWarning, match="8 files are copies .* left out") as said:
            ds = load_dataset("folder", root=root, seed=seed)
        assert len(said) == 1 and len(ds.query) + len(ds.gallery) == 8


def test_a_given_split_without_copies_is_silent(tmp_path):
    root = divided(tmp_path / "d", "csv", THREE)
    shutil.copy(
        root / "train" / "p0" / "0.png", root / "train" / "p1" / "9.png"
    )  # another person: `data check` says so
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_dataset("folder", root=root)
        assert np.unique(load_dataset("csv", root=root).train.pid).tolist() == [1, 2]


@pytest.mark.parametrize("splits", [("Train", "Query", "GALLERY"), ("train", "Test", "Test")])
def test_folders_of_a_split_may_have_capitals(tmp_path, splits):
    for split in splits:
        for pid in range(2):
            for shot in range(2):
                save_person(
                    tmp_path / split / f"{split[:2]}{pid}" / f"{split}{shot}.png", 10 * ord(split[0]) + pid, shot
                )
    ds = load_dataset("folder", root=tmp_path)
    assert set(ds.train.person) == {f"{splits[0][:2]}0", f"{splits[0][:2]}1"} and len(ds.query) and len(ds.gallery)


@pytest.mark.parametrize("splits", [THREE, ("train", "test")])
def test_folders_beside_a_split_are_no_persons(tmp_path, splits):
    root = divided(tmp_path / "d", "folder", splits)
    for pid in range(2):
        save_person(root / "val" / f"p{pid}" / "0.png", 60 + pid)
    with pytest.raises(DatasetError, match=rf"beside a split \({', '.join(sorted(splits))}\) there are .* 'val'"):
        load_dataset("folder", root=root)
