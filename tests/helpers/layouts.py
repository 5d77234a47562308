"""Miniature copies of the layouts of the real data sets, with synthetic pictures. Nothing here is a photo."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from needs import need
from PIL import Image

SIZE = (64, 32)  # height, width
MARKET_SPLITS = ("bounding_box_train", "query", "bounding_box_test")


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A small figure in two random colours on noise; other seeds give other bytes."""
    rng = np.random.default_rng(seed)
    height, width = size
    array = rng.integers(90, 130, (height, width, 3), dtype=np.uint8)
    array[height // 8 : height // 2, width // 4 : -width // 4] = rng.integers(0, 255, 3)
    array[height // 2 : -height // 8, width // 4 : -width // 4] = rng.integers(0, 255, 3)
    return Image.fromarray(array)


def encoded(seed: int = 0, kind: str = "JPEG", **options) -> bytes:
    """The bytes of `picture(seed)`."""
    data = io.BytesIO()
    picture(seed).save(data, kind, **options)
    return data.getvalue()


def write_images(folder: Path, names: Iterable[str], seed: int = 0) -> None:
    """Pictures under these names (sub-folders allowed), each with bytes of its own."""
    for offset, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed + offset).save(path)


def write_market(folder: Path, name: str = "{pid:04d}_c{cam}s1_{frame:06d}_01.jpg", cams: int = 2) -> Path:
    """Market-1501's layout: training people 2, 7, query and gallery people 1, 5; junk and a distractor; gt_bbox."""

    def names(pids: Iterable[int], frames: Iterable[int]) -> list[str]:
        return [name.format(pid=p, cam=c, frame=f) for p in pids for c in range(1, cams + 1) for f in frames]

    write_images(folder / "bounding_box_train", names((2, 7), (1, 2, 3)), 100)
    write_images(folder / "query", names((1, 5), (1,)), 200)
    junk = [name.replace("{pid:04d}", "-1").format(cam=1, frame=9), name.format(pid=0, cam=2, frame=9)]
    write_images(folder / "bounding_box_test", names((1, 5), (2, 3)) + junk, 300)
    write_images(folder / "gt_bbox", [name.format(pid=1, cam=1, frame=f) for f in (1, 2)], 400)
    (folder / "bounding_box_test" / "Thumbs.db").write_bytes(b"left by a file manager")
    return folder


def write_duke(folder: Path) -> Path:
    """DukeMTMC-reID's layout: 2 training people, 2 queried people, 1 distractor person with its own number."""
    name = "{:04d}_c{}_f{:07d}.jpg".format
    train = [name(p, c, f) for p in (1, 9) for c in (1, 8) for f in (10, 20)]
    write_images(folder / "bounding_box_train", train, 500)
    write_images(folder / "query", [name(p, c, 1) for p in (2, 4) for c in (1, 2)], 600)
    gallery = [name(p, c, f) for p in (2, 4) for c in (1, 2) for f in (2, 3)] + [name(7139, 5, 3)]
    write_images(folder / "bounding_box_test", gallery, 700)
    return folder


def write_occluded_lists(folder: Path) -> Path:
    """List files that move one gallery image of `write_duke` to the query split and drop a training image."""
    name = "{:04d}_c{}_f{:07d}.jpg".format
    folder.mkdir(parents=True, exist_ok=True)
    train = [name(p, c, f) for p in (1, 9) for c in (1, 8) for f in (10, 20)][:-1]
    gallery = [name(2, c, f) for c in (1, 2) for f in (2, 3)][1:] + [name(7139, 5, 3)]
    lists = {"train": train, "query": [name(2, 1, 2)], "gallery": gallery}
    for split, names in lists.items():
        (folder / f"{split}.list").write_text("\n".join(names) + "\n")
    return folder


def write_cuhk03_np(folder: Path) -> Path:
    """CUHK03-NP: detected/ and labeled/; detected has one gallery image more."""
    for seed, boxes in ((800, "detected"), (900, "labeled")):
        write_market(folder / boxes, name="{pid:04d}_c{cam}_{frame}.png")
        for stray in ("-1_c1_9.png", "0000_c2_9.png", "Thumbs.db"):
            (folder / boxes / "bounding_box_test" / stray).unlink()
        for extra in (folder / boxes / "gt_bbox").iterdir():
            extra.unlink()
        (folder / boxes / "gt_bbox").rmdir()
        picture(seed).save(folder / boxes / "bounding_box_train" / "0007_c2_30.png")
    picture(999).save(folder / "detected" / "bounding_box_test" / "0005_c1_31.png")
    return folder


def write_cuhk03_mat(folder: Path, persons: tuple[int, ...] = (2, 1)) -> dict[str, np.ndarray]:
    """`cuhk-03.mat` as MATLAB v7.3 stores it, and both protocol files. Returns {image name: [H, W, 3]}.

    persons: people of each camera pair. Person 1 of each pair misses its last image of view 2. All images of
    pair 1, person 1 train; of the others the first of each view is a query, the rest gallery.
    """
    h5py, savemat = need("h5py"), need("scipy.io").savemat

    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    with h5py.File(folder / "cuhk-03.mat", "w") as file:
        for offset, boxes in enumerate(("detected", "labeled")):
            pair_refs = np.empty((1, len(persons)), dtype=h5py.ref_dtype)
            for pair, count in enumerate(persons, 1):
                refs = np.empty((10, count), dtype=h5py.ref_dtype)
                for person in range(1, count + 1):
                    for index in range(1, 11):
                        key = f"{pair}_{person:03d}_{1 if index <= 5 else 2}_{index:02d}.png"
                        place = f"#refs#/{boxes}_{key}"
                        if index == 10 and person == 1:
                            file[place] = np.zeros(2, dtype=np.uint64)  # MATLAB's empty cell
                        else:
                            image = np.asarray(picture(10_000 * offset + 1000 * pair + 20 * person + index))
                            arrays[f"{boxes}/{key}"] = image
                            file[place] = image.T  # [H, W, 3] -> [3, W, H], columns first
                        refs[index - 1, person - 1] = file[place].ref
                file[f"#refs#/{boxes}_pair{pair}"] = refs
                pair_refs[0, pair - 1] = file[f"#refs#/{boxes}_pair{pair}"].ref
            file[boxes] = pair_refs
    for boxes in ("detected", "labeled"):
        names = sorted(n.split("/")[1] for n in arrays if n.startswith(boxes))
        people = sorted({n[:5] for n in names})
        labels = np.array([people.index(n[:5]) + 1 for n in names])
        is_train = labels == 1
        is_query = ~is_train & np.array([n.endswith(("_1_01.png", "_2_06.png")) for n in names])
        savemat(
            folder / f"cuhk03_new_protocol_config_{boxes}.mat",
            {
                "filelist": np.array([[n] for n in names], dtype=object),
                "labels": labels[:, None],
                "train_idx": np.flatnonzero(is_train)[:, None] + 1,
                "query_idx": np.flatnonzero(is_query)[:, None] + 1,
                "gallery_idx": np.flatnonzero(~is_train & ~is_query)[:, None] + 1,
            },
        )
    return arrays


def write_msmt17(folder: Path, version: str = "V1") -> Path:
    """MSMT17: training labels 0, 1 (label 1 also in list_val), test labels 0, 1, cameras 1 and 15."""
    train, test = ("train", "test") if version == "V1" else ("mask_train_v2", "mask_test_v2")
    end = ".jpg" if version == "V1" else "_ex.jpg"

    def line(label: int, index: int, camera: int) -> str:
        return f"{label:04d}/{label:04d}_{index:03d}_{camera:02d}_0303morning_{index:04d}_0{end} {label}"

    lists = {
        "list_train.txt": (train, [line(p, i, c) for p in (0, 1) for i, c in ((0, 1), (1, 15))]),
        "list_val.txt": (train, [line(1, 2, 15)]),
        "list_query.txt": (test, [line(p, 0, 1) for p in (0, 1)]),
        "list_gallery.txt": (test, [line(p, i, c) for p in (0, 1) for i, c in ((1, 15), (2, 1))]),
    }
    for seed, (name, (sub, lines)) in enumerate(lists.items()):
        write_images(folder / sub, [text.split()[0] for text in lines], 2000 + 100 * seed)
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def write_from(ds, folder: Path, layout: str) -> Path:
    """Copy a data set's images (Sidewalk renders) into a real set's layout, identities and cameras kept.

    layout: "market1501", "dukemtmc", "cuhk03-detected" or "msmt17" (whose labels count from 0 in each half).
    """
    splits = {"train": ds.train, "query": ds.query, "gallery": ds.gallery}
    if layout == "msmt17":
        return _msmt17_from(splits, folder)
    names = {
        "market1501": "{}_c{}s1_{:06d}_01.jpg",
        "dukemtmc": "{}_c{}_f{:07d}.jpg",
        "cuhk03-detected": "{}_c{}_{}.png",
    }
    inner = folder / "detected" if layout.startswith("cuhk03") else folder
    for sub, table in zip(MARKET_SPLITS, splits.values()):
        (inner / sub).mkdir(parents=True)
        for i, row in enumerate(table.itertuples()):
            target = inner / sub / names[layout].format(f"{row.pid:04d}" if row.pid >= 0 else row.pid, row.camid, i)
            with Image.open(row.path) as image:
                image.save(target)
    return folder


def _msmt17_from(splits, folder: Path) -> Path:
    lists = {"list_train.txt": "train", "list_query.txt": "query", "list_gallery.txt": "gallery"}
    test_people = sorted(set(splits["query"].pid) | set(splits["gallery"].pid))
    for name, split in lists.items():
        table = splits[split]
        people = sorted(set(table.pid)) if split == "train" else test_people
        lines = []
        for i, row in enumerate(table.itertuples()):
            label = people.index(row.pid)
            path = f"{label:04d}/{label:04d}_{i:03d}_{row.camid:02d}_0303morning_{i:04d}_0_{split}.jpg"
            target = folder / ("train" if split == "train" else "test") / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(row.path) as image:
                image.save(target)
            lines.append(f"{path} {label}\n")
        cut = len(lines) - 5 if split == "train" else len(lines)
        (folder / name).write_text("".join(lines[:cut]))
        if split == "train":
            (folder / "list_val.txt").write_text("".join(lines[cut:]))
    return folder
