"""Pictures of your own as a data set: a folder a person, a CSV, pictures without names; read, split, checked."""

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_pictures import person_folders, save_person

from reidkit.data import load_dataset
from reidkit.data.copies.check import check_command
from reidkit.data.copies.quarantine import restore_command
from reidkit.errors import DatasetError, ReIDKitError, UnknownNameError
from reidkit.evaluation import extract_features, queries_without_match, rank

SPLITS = ("train", "query", "gallery")


@pytest.fixture
def people(tmp_path):
    return person_folders(tmp_path / "people")


def rows(ds):
    """{path: (split, pid, camid)}"""
    return {r.path: (s, r.pid, r.camid) for s in SPLITS for r in getattr(ds, s).itertuples()}


def write_csv(path: Path, table: pd.DataFrame, **options) -> Path:
    table.to_csv(path, index=False, **options)
    return path


def table_of(folder: Path, **columns) -> pd.DataFrame:
    """The CSV of `person_folders`, with paths relative to the folder."""
    paths = sorted(folder.glob("p*/*.png"))
    relative = [p.relative_to(folder).as_posix() for p in paths]
    return pd.DataFrame({"path": relative, "pid": [p.parent.name for p in paths], **columns})


# ---- a folder a person -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction, queries", [(0.5, 1), (0.25, 2), (0.75, 9), (0, 1)])
def test_persons_are_divided_and_never_images(people, fraction, queries):
    ds = load_dataset("folder", root=people, train_fraction=fraction, queries=queries, seed=3)
    train, query, gallery = (set(getattr(ds, s).pid) for s in SPLITS)
    assert not train & (query | gallery) and query == gallery and len(train) == round(8 * fraction)
    assert sorted(rows(ds)) == sorted(str(p) for p in people.rglob("*.png"))
    assert (ds.query.groupby("pid").size() == min(queries, 3)).all()
    assert ds.num_train_ids == len(train) and set(ds.train.pid) <= set(range(1, 9))
    assert all(Path(r.path).parent.name == r.person for s in SPLITS for r in getattr(ds, s).itertuples())
    assert ds.label == "people" and ds.summary().cameras.sum() == 0 and not ds.cameras_known
    assert not len(queries_without_match(ds.query.pid, ds.gallery.pid, ds.query.camid, ds.gallery.camid))


def test_the_seed_decides_and_the_order_of_files_does_not(people, tmp_path):
    same, other = (load_dataset("folder", root=people, seed=s) for s in (0, 1))
    assert rows(load_dataset("folder", root=people)) == rows(same) != rows(other)
    assert same.fingerprint() != other.fingerprint()
    table = table_of(people)
    shuffled = write_csv(people / "a.csv", table.sample(frac=1, random_state=0))
    listed = load_dataset("csv", root=shuffled)
    assert {p: r[1] for p, r in rows(listed).items()} == {p: r[1] for p, r in rows(same).items()}
    assert set(listed.train.person) == set(same.train.person)
    shutil.copytree(people, tmp_path / "moved")
    assert load_dataset("folder", root=tmp_path / "moved").fingerprint() == same.fingerprint()


def test_odd_files_and_folders(people):
    save_person(people / "p00" / "deep" / "er" / "X.JPG", 0, 50)
    save_person(people / "Zoë 北" / "1.PNG", 60)
    save_person(people / "Zoë 北" / "2.png", 60, 1)
    save_person(people / ".hidden" / "1.png", 61)
    save_person(people / "p01" / "._1.png", 1, 51)
    save_person(people / "checks" / "folder" / "contact_sheet.png", 62)
    save_person(people / "dense" / "p00" / "000.png", 63)  # a dense body map
    save_person(people / "p01" / "@eaDir" / "000.png" / "thumb.png", 64)  # a disk station's
    save_person(people / "__MACOSX" / "p01" / "1.png", 65)
    (people / "p02" / "Thumbs.db").write_bytes(b"x")
    (people / "readme.txt").write_text("x")
    (people / "empty").mkdir()
    (people / "linked").symlink_to(people / "p03")  # reached twice: read once
    ds = load_dataset("folder", root=people)
    names = {Path(p).relative_to(people).as_posix() for p in rows(ds)}
    assert len(names) == 8 * 4 + 3
    assert {"p00/deep/er/X.JPG", "Zoë 北/1.PNG", "Zoë 北/2.png"} <= names
    assert sum("p03" in n or "linked" in n for n in names) == 4
    person = pd.concat([ds.train, ds.query, ds.gallery]).set_index("path").person
    assert person[str(people / "p00/deep/er/X.JPG")] == "p00"


def test_persons_with_one_image_are_no_queries(people):
    for pid in range(20, 26):
        save_person(people / f"single{pid}" / "1.png", pid)
    ds = load_dataset("folder", root=people)
    single = {s: {n for n in getattr(ds, s).person if n.startswith("single")} for s in SPLITS}
    assert [len(single[s]) for s in SPLITS] == [3, 0, 3]


def test_there_is_someone_to_look_for_and_to_train_on(people):
    ds = load_dataset("folder", root=people, train_fraction=0.99)
    assert ds.query.pid.nunique() == 1 and ds.num_train_ids == 7
    with pytest.raises(DatasetError, match="8 persons, of whom 8 have two images, cannot be divided"):
        load_dataset("folder", root=people, train_fraction=0.01)


def test_copies_of_a_picture_are_left_out(people):
    for number in range(3):
        shutil.copy(people / "p04" / "000.png", people / "p04" / f"copy{number}.png")
    shutil.copy(people / "p05" / "000.png", people / "p06" / "theirs.png")  # another person: `data check` says so
    with pytest.warns(UserWarning, match=r"3 files are copies .*left out \(first: .*copy0"):
        ds = load_dataset("folder", root=people)
    names = [Path(p).name for p in rows(ds)]
    assert len(names) == 33 and not any("copy" in n for n in names) and "theirs.png" in names


def test_a_split_by_hand(tmp_path, people):
    for split, persons in {"train": "0123", "query": "45", "gallery": "456"}.items():
        for person in persons:
            files = sorted((people / f"p0{person}").iterdir())
            for file in files[:1] if split == "query" else files[1:]:
                target = tmp_path / "mine" / split / f"p{person}" / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
    ds = load_dataset("folder", root=tmp_path / "mine")
    assert [len(getattr(ds, s)) for s in SPLITS] == [12, 2, 9]
    assert set(ds.query.person) == {"p4", "p5"} and set(ds.query.pid) < set(ds.gallery.pid)
    save_person(tmp_path / "mine" / "train" / "loose.png", 77)
    with pytest.raises(DatasetError, match=r"read as a split.*1 images lie in them without .*loose\.png"):
        load_dataset("folder", root=tmp_path / "mine")


def test_a_person_may_be_called_train(people):
    (people / "p00").rename(people / "train")
    assert "train" in set(pd.concat([getattr(load_dataset("folder", root=people), s) for s in SPLITS]).person)


# ---- pictures without names ------------------------------------------------------------------------------------------


def test_pictures_without_names_can_be_searched(tmp_path):
    from reidkit.models import create_model

    for i in range(5):
        save_person(tmp_path / "crops" / f"{i}.png", i)
    ds = load_dataset("folder", root=tmp_path / "crops")
    assert len(ds.gallery) == 5 and set(ds.gallery.pid) == {-1} and ds.train.empty and ds.query.empty
    net = create_model("ide", 3, backbone="small")
    features = extract_features(net, ds.gallery, size=(48, 16), progress=False)
    assert rank(features[2], features)[0] == 2
    with pytest.raises(DatasetError, match=r"crops: its 5 pictures in .* have no identities.*can be searched"):
        ds.validation_split()
    nested = load_dataset("folder", root=person_folders(tmp_path / "n"), labels="none")
    assert len(nested.gallery) == 32


@pytest.mark.parametrize(
    "make, options, message",
    [
        (lambda d: d.mkdir(), {}, "no images .*it holds nothing"),
        (lambda d: None, {}, "does not exist. Name the folder"),
        (lambda d: d.write_text("x"), {}, "is a file; a list of pictures is read with 'csv'"),
        (lambda d: [save_person(d / "a.png", 1), save_person(d / "b" / "1.png", 2)], {}, "1 of 2 images lie in"),
        (lambda d: save_person(d / "a.png", 1), {"labels": "folders"}, "1 of 1 images lie in"),
        (lambda d: person_folders(d, 2), {}, "2 persons, of whom 2 have two images"),
        (lambda d: person_folders(d, 9, 1), {}, "9 persons, of whom 0 have two images"),
        (lambda d: person_folders(d / "x" / "bounding_box_train", 3), {}, "Market-1501's layout"),
        (person_folders, {"train_fraction": 1}, "option train_fraction=1: expected a fraction"),
        (person_folders, {"train_fraction": "half"}, "option train_fraction='half'"),
        (person_folders, {"queries": 0}, "option queries=0"),
        (person_folders, {"seed": -1}, "option seed=-1"),
        (person_folders, {"seed": True}, "option seed=True"),
        (person_folders, {"labels": "folder"}, "labels.*Did you mean 'folders'"),
        (person_folders, {"fraction": 0.5}, "unknown option of folder"),
    ],
)
def test_refused_folders(tmp_path, make, options, message):
    make(tmp_path / "d")
    with pytest.raises(ReIDKitError, match=message):
        load_dataset("folder", root=tmp_path / "d", **options)


def test_one_setting_names_the_folder(people):
    """As in the notebooks: load_dataset(root=ROOT, **DATASET)."""
    wanted = rows(load_dataset("folder", root=people))
    for root in (people.parent, "elsewhere"):
        place = "people" if root == people.parent else str(people)
        assert rows(load_dataset(root=root, **{"name": "folder", "path": place})) == wanted


# ---- a CSV -----------------------------------------------------------------------------------------------------------


def test_a_csv_with_names_and_cameras(people):
    table = table_of(people, camid=["door", "yard"] * 16, weather="fine")
    ds = load_dataset("csv", root=write_csv(people / "list.csv", table), queries=2)
    assert ds.cameras_known and set(ds.train.camid) == {1, 2} and ds.summary().cameras.tolist() == [2, 2, 2]
    assert not len(queries_without_match(ds.query.pid, ds.gallery.pid, ds.query.camid, ds.gallery.camid))
    assert (ds.query.groupby("pid").camid.nunique() == 2).all() and len(ds.query) == 8
    assert dict(zip(ds.train.camera, ds.train.camid)) == {"door": 1, "yard": 2}
    assert rows(load_dataset("csv", root=people, queries=2)) == rows(ds)  # the one CSV of the folder
    few = load_dataset("csv", root=people, queries=9)
    assert not len(queries_without_match(few.query.pid, few.gallery.pid, few.query.camid, few.gallery.camid))


def test_every_query_keeps_a_match_under_another_camera(tmp_path):
    """Against the protocol itself, for persons seen unevenly."""
    rng = np.random.default_rng(0)
    people = person_folders(tmp_path / "p", 30, 5)
    path = write_csv(people / "l.csv", table_of(people, camid=rng.integers(0, 3, 150)))
    for queries in (1, 2, 3, 5):
        ds = load_dataset("csv", root=path, queries=queries, train_fraction=0)
        args = ds.query.pid, ds.gallery.pid, ds.query.camid, ds.gallery.camid
        assert len(ds.query) and not len(queries_without_match(*args))
        assert ds.query.groupby("pid").size().max() <= queries


@pytest.mark.parametrize(
    "given, expected",
    [
        (["7", "12", "3"], [7, 12, 3]),
        (["0", "1", "2"], [1, 2, 3]),
        (["0002", "0010", "0001"], [2, 10, 1]),
        (["07", "7", "1"], [1, 3, 2]),
        (["ben", "anna", "1"], [3, 2, 1]),
        (["NA", "nan", "None"], [1, 3, 2]),
        (["-1", "5", "6"], [-1, 5, 6]),
        (["٣", "4", "5"], [3, 1, 2]),  # a digit, but no ASCII
    ],
)
def test_numbers_of_names(given, expected):
    from reidkit.data.sets.split import numbers

    assert numbers(pd.Series(given)).tolist() == expected


def test_a_column_split_is_honoured(people):
    split = np.repeat(["train", "train", "train", "TEST", "query", "gallery", "train", "train"], 4)
    split[16:20], split[20:24] = ["query", "gallery", "gallery", "gallery"], "gallery"
    ds = load_dataset("csv", root=write_csv(people / "l.csv", table_of(people, split=split)))
    assert [len(getattr(ds, s)) for s in SPLITS] == [20, 2, 10]
    assert set(ds.query.person) == {"p03", "p04"} and set(ds.gallery.person) == {"p03", "p04", "p05"}
    split[0] = "gallery"
    with pytest.warns(UserWarning, match="1 identities are in the training set and in the test set"):
        load_dataset("csv", root=write_csv(people / "l.csv", table_of(people, split=split)))
    split[0] = "train"
    shutil.copy(people / "p04" / "000.png", people / "p04" / "001.png")
    with pytest.warns(UserWarning, match=r"1 queries are in the gallery too.*p04/000\.png"):
        load_dataset("csv", root=write_csv(people / "l.csv", table_of(people, split=split)))


def test_pictures_of_nobody_are_not_trained_on(people):
    split = np.repeat(["train", "query", "gallery"], [20, 4, 8])
    table = table_of(people, split=split).assign(pid=lambda t: t.pid.where(t.index % 4 > 0, "-1"))
    ds = load_dataset("csv", root=write_csv(people / "l.csv", table))
    assert len(ds.train) == 15 and ds.num_train_ids == 5 and (ds.train.pid > 0).all()
    assert (ds.gallery.pid == -1).sum() == 2 and len(ds.query) == 4


def test_where_paths_of_a_csv_are_looked_for(people, tmp_path):
    wanted = {Path(p).relative_to(people) for p in rows(load_dataset("folder", root=people))}
    (tmp_path / "lists").mkdir()
    inside = table_of(people)
    below = inside.assign(path="people/" + inside.path)
    windows = inside.assign(path=inside.path.str.replace("/", "\\"))
    absolute = inside.assign(path=str(people) + "/" + inside.path)
    for table, file, root, path in (
        (inside, people / "l.csv", people / "l.csv", ""),
        (windows, people / "l.csv", people, ""),
        (absolute, tmp_path / "lists" / "l.csv", tmp_path / "lists" / "l.csv", ""),
        (below, tmp_path / "lists" / "l.csv", tmp_path, "lists/l.csv"),  # beside the CSV, then below root
    ):
        write_csv(file, table)
        ds = load_dataset("csv", root=root, path=path)
        assert ds.root == people and {Path(p).relative_to(people) for p in rows(ds)} == wanted
        file.unlink()


@pytest.mark.parametrize("separator, encoding", [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_forms_of_a_csv(people, separator, encoding):
    (people / "p00").rename(people / "pZoë, 北")
    table = table_of(people).rename(columns={"pid": " pid "})
    ds = load_dataset("csv", root=write_csv(people / "l.csv", table, sep=separator, encoding=encoding))
    assert len(rows(ds)) == 32 and "pZoë, 北" in set(pd.concat([getattr(ds, s) for s in SPLITS]).person)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.rename(columns={"path": "file"}), r"needs one column 'path'; its columns are \['file', 'pid'\]"),
        (lambda t: t.rename(columns={"pid": "id", "path": "f"}), "needs one column 'path' and one 'pid'"),
        (lambda t: t.assign(pid=[*t.pid[:-1], ""]), r"line 33: pid is empty \(1 such lines\)"),
        (lambda t: t.assign(camid=["1", " ", *t.pid[2:]]), "line 3: camid is empty"),
        (lambda t: t.assign(split="dev"), "line 2: split is 'dev'; expected one of train"),
        (
            lambda t: t.assign(path=["gone.png", *t.path[1:]]),
            r"1 of 32 pictures do not exist \(first: 'gone.png', line 2",
        ),
        (lambda t: t.assign(path="."), "32 of 32 pictures do not exist"),
        (lambda t: t[:0], "has no rows"),
        (
            lambda t: pd.concat([t, t[:1].assign(pid="p01")]),
            r"1 pictures have two persons \(first: .* is \['p00', 'p01'\]",
        ),
    ],
)
def test_refused_csv(people, change, message):
    write_csv(people / "l.csv", change(table_of(people)))
    with pytest.raises(DatasetError, match=message):
        load_dataset("csv", root=people)


def test_csv_files_that_cannot_be_found_or_read(people):
    with pytest.raises(DatasetError, match=r"expected one CSV in .*, found none; the folder holds 'p00'"):
        load_dataset("csv", root=people)
    for name in ("a.csv", "b.CSV"):
        write_csv(people / name, table_of(people))
    with pytest.raises(DatasetError, match=r"expected one CSV in .*, found 'a\.csv', 'b\.CSV'"):
        load_dataset("csv", root=people)
    with pytest.raises(DatasetError, match="does not exist"):
        load_dataset("csv", root=people / "c.csv")
    for data in (b"", b"\xff\xfe\x00a", b"path,pid\na,b,c,d,e\nx\n", b'path,pid\n"a,b\n'):
        (people / "a.csv").write_bytes(data)
        with pytest.raises(DatasetError, match=r"a\.csv"):
            load_dataset("csv", root=people / "a.csv")


def test_the_same_row_twice_is_a_copy(people):
    table = table_of(people)
    with pytest.warns(UserWarning, match="1 files are copies"):
        ds = load_dataset("csv", root=write_csv(people / "l.csv", pd.concat([table, table[:1]])))
    assert len(rows(ds)) == 32


# ---- checked and trained ---------------------------------------------------------------------------------------------


def test_data_check(people, tmp_path, capsys):
    assert check_command("folder", people) == 0
    said = capsys.readouterr().out
    assert "problems\n  none" in said and "-1: not known" in said and "without a match" not in said
    assert (people / "checks" / "folder" / "contact_sheet.png").is_file()
    before = rows(load_dataset("folder", root=people))
    assert len(before) == 32
    assert check_command("csv", write_csv(people / "l.csv", table_of(people))) == 0
    assert (people / "checks" / "csv" / "report.txt").is_file()


@pytest.mark.parametrize("name", ["folder", "csv"])
def test_quarantine_and_back(people, name, capsys):
    write_csv(people / "l.csv", table_of(people))
    (people / "p02" / "001.png").write_bytes(b"no picture")
    assert check_command(name, people, quarantine=True) == 1
    ds = load_dataset(name, root=people)
    assert len(rows(ds)) == 31 and str(people / "p02" / "001.png") not in rows(ds)
    assert restore_command(name, people) == 1 and len(rows(load_dataset(name, root=people))) == 32


def test_unlabelled_pictures_are_checked_too(tmp_path, capsys):
    for i in range(3):
        save_person(tmp_path / "crops" / f"{i}.png", i)
    assert check_command("folder", tmp_path / "crops") == 0
    said = capsys.readouterr().out
    assert "pictures without identities" in said and "junk" not in said
    (tmp_path / "crops" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    assert check_command("folder", tmp_path / "crops") == 1 and "broken.png" in capsys.readouterr().out


def test_images_of_other_kinds_are_named(people, capsys):
    (people / "p00" / "x.gif").write_bytes(b"GIF89a")
    with pytest.warns(UserWarning, match=r"folder: 1 images are left out.*x\.gif"):
        assert check_command("folder", people) == 1
    table = table_of(people)
    write_csv(people / "l.csv", pd.concat([table, pd.DataFrame({"path": ["p00/x.gif"], "pid": ["p00"]})]))
    with pytest.warns(UserWarning, match=r"csv: 1 images are left out.*x\.gif"):
        assert len(rows(load_dataset("csv", root=people))) == 32


def test_nothing_is_warned_of_a_sound_set(people):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_dataset("folder", root=people)
        load_dataset("csv", root=write_csv(people / "l.csv", table_of(people)))


def test_validation_split(people):
    ds = load_dataset("folder", root=people).validation_split(0.5)
    assert ds.query.pid.nunique() == 2 == len(ds.query) and len(ds.gallery) == 6 and not ds.cameras_known


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="Did you mean 'folder'"):
        load_dataset("folders", root=os.devnull)
