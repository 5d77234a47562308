"""Sidewalk on disk: layout, determinism, going on after an interruption, errors, truth."""

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, namedtuple
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from killed import run_until_killed
from PIL import Image

from reidkit.data.sidewalk import PART_NAMES, ToolRates, load_sidewalk, load_truth, render_sidewalk, writer
from reidkit.data.sidewalk.plan import SHIFTS, SIZES, Settings, Size, people, plan, take
from reidkit.errors import DatasetError, UnknownNameError

NAME = re.compile(r"(-1|\d{4})_c(\d)s\d_(\d{6})_(\d{2})\.jpg")
FOLDERS = {
    "bounding_box_train",
    "query",
    "bounding_box_test",
    "query_strong",
    "bounding_box_test_strong",
    "query_shift",
}

MICRO = Size(64, 24, 6, 4, cameras=3, per_camera=2, distractors=3, junk=2)  # 148 images in 7 parts


@pytest.fixture()
def micro(monkeypatch):
    """A size that renders in a moment (in this process only)."""
    monkeypatch.setitem(SIZES, "micro", MICRO)
    monkeypatch.setattr(writer, "ONE_PROCESS_BELOW", 10**9)
    return "micro"


def digest(folder):
    """One hash a file of a finished rendering."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_layout_names_and_maps_are_market1501s(sidewalk_tiny):
    root = sidewalk_tiny.root
    assert root.name == "sidewalk-tiny" and (root / "sidewalk.json").exists()
    assert not list(root.glob(".tmp-*")) and not list((root / "truth" / "parts").iterdir())
    tables = {"bounding_box_train": sidewalk_tiny.train}
    for level, suffix in (("mild", ""), ("strong", "_strong")):
        tables[f"query{suffix}"], tables[f"bounding_box_test{suffix}"] = sidewalk_tiny.levels[level]
    tables["query_shift"] = sidewalk_tiny.levels["shift"][0]
    assert set(tables) == FOLDERS
    for folder, table in tables.items():
        files = sorted(p.name for p in (root / folder).iterdir())
        assert files == sorted(Path(p).name for p in table.path)
        for name, row in zip(map(os.path.basename, table.path), table.itertuples()):
            pid, camid, _, _ = NAME.fullmatch(name).groups()
            assert (int(pid), int(camid)) == (row.pid, row.camid)
        for name in files[::5]:
            parsing, segmentation = (
                np.asarray(Image.open((root / kind / folder / name).with_suffix(".png")))
                for kind in ("parsing", "segmentation")
            )
            with Image.open(root / folder / name) as image:
                assert image.size == (32, 96) and image.mode == "RGB" and image.format == "JPEG"
            assert parsing.shape == segmentation.shape == (96, 32)
            assert parsing.max() <= 19 and set(np.unique(segmentation)) <= {0, 255}


def test_splits_hold_what_the_protocol_needs(sidewalk_tiny):
    ds = sidewalk_tiny
    assert ds.num_train_ids == 24 and ds.query.pid.nunique() == 12 and ds.level == "mild"
    for level in ("mild", "strong"):
        query, gallery = ds.levels[level]
        assert (gallery.pid == 0).sum() == 8 and (gallery.pid == -1).sum() == 4
        assert set(query.pid) == set(gallery.pid) - {0, -1} and not set(query.pid) & set(ds.train.pid)
        assert not query.duplicated(["pid", "camid"]).any()
        for row in query.itertuples():  # every query can be found in another camera
            assert ((gallery.pid == row.pid) & (gallery.camid != row.camid)).any()
    assert ds.train.groupby("pid").camid.nunique().min() >= 2
    assert not set(ds.train.group) & set(ds.gallery.group) and (ds.gallery.group[ds.gallery.pid <= 0] == -1).all()
    assert {"ok", "head", "legs", "loose"} >= set(ds.train.detector) and ds.train.detector.nunique() >= 3


def test_many_changes_the_training_people_only_and_siblings_relates_everybody():
    small, many, siblings = (people(Settings(size)) for size in ("small", "many", "siblings"))
    looks = [[replace(person, group=0) for person in who["test"]] for who in (small, many)]
    assert looks[0] == looks[1] and small["train"] == many["train"][:200] and len(many["train"]) == 750
    for side in ("train", "test"):
        assert set(Counter(person.group for person in siblings[side]).values()) == {5}
    assert not {p.group for p in siblings["train"]} & {p.group for p in siblings["test"]}


def test_unhidden_changes_what_stands_before_the_people_of_the_training_images_only():
    small, unhidden = (plan(Settings(size)) for size in ("small", "unhidden"))
    pairs = list(zip(chain(*small), chain(*unhidden), strict=True))
    changed = [pair for pair in pairs if pair[0] != pair[1]]
    assert all(a.folder == "bounding_box_train" and a == replace(b, level="medium") for a, b in changed)
    assert len(changed) == sum(a.folder == "bounding_box_train" for a, _ in pairs)
    seen = [(take(Settings("small"), a)[0], take(Settings("unhidden"), b)[0]) for a, b in changed[:60]]
    assert sum(a.occluder != "none" for a, _ in seen) >= 6 and sum(b.occluder != "none" for _, b in seen) <= 2
    assert all(np.array_equal(a.image, b.image) for a, b in seen if a.occluder == b.occluder == "none")
    assert all((a.top, a.bottom, a.detector) == (b.top, b.bottom, b.detector) for a, b in seen)


def test_validation_split_keeps_siblings_together(sidewalk_tiny):
    for seed in range(5):
        split = sidewalk_tiny.validation_split(0.25, seed)
        held = set(split.query.group) | set(split.gallery.group)
        assert held and not held & set(split.train.group)


def test_shift_level_moves_the_true_boxes_and_nothing_else(sidewalk_tiny):
    query, gallery = sidewalk_tiny.levels["shift"]
    assert gallery is sidewalk_tiny.gallery and sorted(query["shift"].unique()) == list(SHIFTS)
    assert "shift" not in sidewalk_tiny.query
    mild = sidewalk_tiny.query
    for shift, rows in query.groupby("shift"):
        assert rows[["pid", "camid"]].to_numpy().tolist() == mild[["pid", "camid"]].to_numpy().tolist()
        for edge in ("top", "bottom"):
            assert rows[edge].to_numpy() - mild[edge].to_numpy() == pytest.approx(shift, abs=2e-5)
        same = ["yaw", "detector", "occluder", "quality", "group"]
        assert (rows[same].to_numpy() == mild[same].to_numpy()).all()
    still = query[query["shift"] == 0]
    assert all(Path(a).read_bytes() == Path(b).read_bytes() for a, b in zip(still.path, mild.path))


def test_truth_follows_the_table(sidewalk_tiny):
    table = sidewalk_tiny.train.iloc[[7, 3, 60]]
    some, one = load_truth(sidewalk_tiny, table), load_truth(sidewalk_tiny, table.iloc[1:2])
    assert some.parts.shape == some.parsing.shape == some.segmentation.shape == (3, 96, 32)
    assert some.visibility.shape == (3, len(PART_NAMES)) and some.segmentation.dtype == bool
    assert np.array_equal(some.parts[1], one.parts[0]) and some.top[1] == one.top[0]
    assert np.array_equal(some.parts > 0, some.segmentation) and (some.segmentation | (some.parsing == 0)).all()
    assert some.top.tolist() == table.top.tolist()
    mixed = load_truth(sidewalk_tiny, sidewalk_tiny.levels["strong"][0].iloc[:2])
    assert mixed.codes.shape == (2, 96, 32)


def test_truth_agrees_with_the_tools_most_of_the_time(sidewalk_tiny):
    truth = load_truth(sidewalk_tiny, sidewalk_tiny.train)
    names = [Path(p).relative_to(sidewalk_tiny.root).with_suffix(".png") for p in sidewalk_tiny.train.path]
    tool = np.stack([np.asarray(Image.open(sidewalk_tiny.root / "segmentation" / n)) > 0 for n in names])
    agree = (tool == truth.segmentation).mean(axis=(1, 2))
    assert np.median(agree) > 0.95 and agree.min() < 0.9  # and sometimes the tool fails


def test_maps_of_another_shape_than_their_images_are_refused(sidewalk_tiny, tmp_path):
    """Also with as many pixels: 32 x 96 instead of 96 x 32."""
    root = tmp_path / sidewalk_tiny.root.name
    shutil.copytree(sidewalk_tiny.root, root, copy_function=os.link)
    ds, file = load_sidewalk(tmp_path, "tiny", progress=False), root / "truth" / "query.npz"
    columns = dict(np.load(file))
    file.unlink()
    np.savez(file, **columns | {"shape": columns["shape"][::-1]})
    with pytest.raises(DatasetError, match=r"query\.npz has maps of 32 x 96 pixels, query/.*\.jpg has 96 x 32; render"):
        load_truth(ds, ds.query)


def test_truth_names_a_foreign_image(sidewalk_tiny):
    with pytest.raises(DatasetError, match="empty"):
        load_truth(sidewalk_tiny, sidewalk_tiny.train.iloc[:0])
    with pytest.raises(DatasetError, match="elsewhere"):
        load_truth(sidewalk_tiny, sidewalk_tiny.train.assign(path="/elsewhere/a.jpg"))
    with pytest.raises(DatasetError, match=r"9999_c1s1_000000_01\.jpg is not an image"):
        load_truth(sidewalk_tiny, sidewalk_tiny.train.assign(path=str(sidewalk_tiny.root / "9999_c1s1_000000_01.jpg")))


def test_same_bytes_whatever_the_number_of_workers(tmp_path):
    folders = [render_sidewalk(tmp_path / str(n), "tiny", seed=1, workers=n, progress=False) for n in (1, 2)]
    one, two = map(digest, folders)
    assert folders[0].name == "sidewalk-tiny-seed1" and len(one) > 1800
    assert one == two


def test_another_seed_gives_another_world(micro, tmp_path):
    a, b = (digest(render_sidewalk(tmp_path, micro, seed, progress=False)) for seed in (0, 1))
    assert not set(a.values()) & {v for k, v in b.items() if k.endswith(".jpg")}


def test_an_interrupted_rendering_goes_on(micro, tmp_path, monkeypatch):
    whole = digest(render_sidewalk(tmp_path / "whole", micro, progress=False))
    real, calls = writer.render_chunk, []

    def dies_at_the_third(*args):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(args[2])
        return real(*args)

    monkeypatch.setattr(writer, "render_chunk", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        render_sidewalk(tmp_path / "cut", micro, progress=False)
    assert not (tmp_path / "cut" / "sidewalk-micro" / "sidewalk.json").exists()
    calls.clear()
    monkeypatch.setattr(writer, "render_chunk", lambda *args: calls.append(args[2]) or real(*args))
    folder = render_sidewalk(tmp_path / "cut", micro, progress=False)
    assert len(calls) == len(plan(Settings(micro))) - 2  # the finished chunks were kept
    assert digest(folder) == whole


def test_deleted_files_are_rendered_again(micro, tmp_path, monkeypatch):
    folder = render_sidewalk(tmp_path, micro, progress=False)
    whole = digest(folder)
    next((folder / "query").iterdir()).unlink()
    next((folder / "parsing" / "query").iterdir()).unlink()
    (folder / "truth" / "query_strong.npz").unlink()
    (folder / "query" / "Thumbs.db").write_text("stray")
    real, calls = writer.render_chunk, []
    monkeypatch.setattr(writer, "render_chunk", lambda *args: calls.append(args[2]) or real(*args))
    ds = load_sidewalk(tmp_path, micro, progress=False)
    assert {plan(Settings(micro))[i][0].folder for i in calls} == {"query", "query_strong"}
    (folder / "query" / "Thumbs.db").unlink()
    assert digest(folder) == whole and len(ds.query) == len(list((folder / "query").iterdir()))
    calls.clear()
    load_sidewalk(tmp_path, micro, progress=False)
    assert calls == []  # complete: nothing is rendered


def test_what_a_power_cut_left_empty_is_rendered_again(micro, tmp_path):
    folder = render_sidewalk(tmp_path, micro, progress=False)
    whole = digest(folder)
    (folder / "sidewalk.json").unlink()  # it is written last: it was not there yet
    for victim in (next((folder / "query").iterdir()), folder / "truth" / "query_shift.npz"):
        victim.write_bytes(b"")
    assert digest(render_sidewalk(tmp_path, micro, progress=False)) == whole


def test_the_disk_has_all_files_before_the_manifest(micro, tmp_path, monkeypatch):
    folder, seen = tmp_path / "sidewalk-micro", []
    monkeypatch.setattr(writer, "bring_to_disk", lambda: seen.append({p.name for p in folder.iterdir()}))
    render_sidewalk(tmp_path, micro, progress=False)
    assert len(seen) == 1 and "meta.csv" in seen[0] and "sidewalk.json" not in seen[0]


def test_parts_that_a_kill_left_behind_a_finished_rendering_go(micro, tmp_path):
    folder = render_sidewalk(tmp_path, micro, progress=False)
    (folder / "truth" / "parts" / "00003.npz").write_bytes(b"part")
    render_sidewalk(tmp_path, micro, progress=False)
    assert not list((folder / "truth" / "parts").iterdir())


def test_killed_and_rival_processes_do_no_harm(micro, tmp_path):
    code, folder = (
        f"""
from reidkit.data.sidewalk import render_sidewalk
from reidkit.data.sidewalk.plan import SIZES, Size
SIZES["micro"] = {MICRO!r}
render_sidewalk({str(tmp_path / "shared")!r}, "micro", workers=1, progress=False)
""",
        tmp_path / "shared" / "sidewalk-micro",
    )
    run_until_killed(code, at="*.npz", count=3, cwd=tmp_path)
    assert len(list((folder / "truth" / "parts").glob("*.npz"))) == 2 and not (folder / "sidewalk.json").exists()
    rivals = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [rival.wait() for rival in rivals] == [0, 0]
    assert not list(folder.glob(".tmp-*"))  # nor of the victim
    reference = digest(render_sidewalk(tmp_path / "alone", micro, progress=False))
    assert digest(folder) == reference


def test_other_parameters_need_another_folder(micro, tmp_path):
    folder = render_sidewalk(tmp_path, micro, progress=False)
    with pytest.raises(DatasetError, match=r"tool_rates.*delete the folder"):
        render_sidewalk(tmp_path, micro, progress=False, rates=ToolRates(bleed=0.5))
    manifest = json.loads((folder / "sidewalk.json").read_text())
    (folder / "sidewalk.json").write_text(json.dumps({**manifest, "version": 0}))
    with pytest.raises(DatasetError, match="version=0"):
        render_sidewalk(tmp_path, micro, progress=False)
    (folder / "sidewalk.json").write_text("{")
    with pytest.raises(DatasetError, match=r"cannot read .*sidewalk\.json"):
        render_sidewalk(tmp_path, micro, progress=False)


def test_foreign_files_are_left_alone(micro, tmp_path):
    (tmp_path / "sidewalk-micro").mkdir()
    (tmp_path / "sidewalk-micro" / "thesis.txt").write_text("precious")
    with pytest.raises(DatasetError, match="not a sidewalk rendering"):
        render_sidewalk(tmp_path, micro, progress=False)
    assert os.listdir(tmp_path / "sidewalk-micro") == ["thesis.txt"]


def test_no_room_and_no_folder_are_clear(micro, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="file"):
        render_sidewalk(tmp_path / "file", micro, progress=False)
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
        with pytest.raises(DatasetError, match="make room"):
            render_sidewalk(tmp_path, micro, progress=False)

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(DatasetError, match=r"No space left.*call again"):
            render_sidewalk(tmp_path / "late", micro, progress=False)
    assert len(load_sidewalk(tmp_path / "late", micro, progress=False).train) > 0


def test_unknown_sizes_are_named(tmp_path):
    with pytest.raises(UnknownNameError, match="'small'"):
        load_sidewalk(tmp_path, "smal")


def test_damaged_facts_and_maps_are_named(micro, tmp_path):
    folder = render_sidewalk(tmp_path, "micro", progress=False, workers=1)
    ds = load_sidewalk(tmp_path, "micro", progress=False)
    meta, manifest, truth = folder / "meta.csv", folder / "sidewalk.json", folder / "truth" / "query.npz"
    whole = json.loads(manifest.read_text())
    lines = meta.read_text().splitlines()
    for file, wrong in (
        (manifest, b"[1]"),
        (manifest, json.dumps({**whole, "counts": {"query": "x"}}).encode()),
        (meta, b"a,b\n1,2\n"),
        (meta, "\n".join(line for line in lines if ",query," not in line).encode()),
        (truth, truth.read_bytes()[:200]),
    ):
        good = file.read_bytes()
        file.write_bytes(wrong)
        with pytest.raises(
            DatasetError, match=r"(cannot read|cannot be read|is not what|is damaged|is not whole).* render"
        ):
            load_truth(ds, ds.query) if file == truth else load_sidewalk(tmp_path, "micro", progress=False)
        file.write_bytes(good)
    assert len(load_truth(ds, ds.query).codes) == len(ds.query)
