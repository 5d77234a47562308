"""`reidkit data check NAME`: is the copy on this disk the data set that the papers used, and can all be read?

report = check_dataset(load_dataset("market1501", root="/disk/reid"))
print(report); report.save("data/checks/market1501"); report.exit_code
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from reidkit.data.contact_sheet import contact_sheet
from reidkit.data.copies.imagefile import ImageFacts, inspect_image
from reidkit.data.copies.jpeg_damage import hears_complaints
from reidkit.data.copies.label_check import SPLITS, check_files, check_labels
from reidkit.data.copies.quarantine import quarantine_files
from reidkit.data.dataset import ReIDDataset
from reidkit.data.sets.folders import QUARANTINE
from reidkit.data.sets.published import compare_counts
from reidkit.errors import DatasetError, ReIDKitError
from reidkit.files import check_writable, replacing, write_text

HEIGHT_BIN = 32  # pixels, of the printed histogram
REPORT = "report.txt"


@dataclass(frozen=True)
class CheckReport:
    """What `check_dataset` found. `problems` decide the exit code; notes do not.

    counts: split, quantity, found, published, ok.          cameras: split, camid, images, ids.
    broken: path, split, problem.
    odd: path, split, note (usable files; parts joined by "; "), transparent (pixels that are not opaque).
    duplicates: digest, path, split, pid, kind: "train/test" (a problem), "two people", "copy".
    labels: check, count, examples, is_problem.             sizes: height, width, images.
    unseen: one sentence about the damage that this check cannot see.
    """

    dataset: str
    root: Path
    decoded: bool
    seconds: float
    counts: pd.DataFrame
    cameras: pd.DataFrame
    broken: pd.DataFrame
    odd: pd.DataFrame
    duplicates: pd.DataFrame
    labels: pd.DataFrame
    sizes: pd.DataFrame
    sheet: Image.Image
    unseen: str
    quarantined: int = 0

    @property
    def problems(self) -> list[str]:
        """One line a problem; empty for a sound copy."""
        lines = [
            f"{row['split']}: {row['found']:,} {row['quantity']}, published are {row['published']:,}"
            for row in self.counts.loc[~self.counts.ok].to_dict("records")
        ]
        if len(self.broken):
            first = self.broken.iloc[0]
            moved = f", {self.quarantined} moved to quarantine" if self.quarantined else ""
            lines.append(f"{len(self.broken)} unusable images{moved} (first: {first.path}: {first.problem})")
        leaks = self.duplicates[self.duplicates.kind == "train/test"]
        if len(leaks):
            lines.append(f"{leaks.digest.nunique()} pictures are in train and in test (first: {leaks.path.iloc[0]})")
        return lines + _label_lines(self.labels.loc[self.labels.is_problem])

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """0 for a sound copy, 1 otherwise."""
        return 0 if self.ok else 1

    def __str__(self) -> str:
        images = int(self.sizes.images.sum()) + len(self.broken)
        how = "decoded" if self.decoded else "headers read"
        seen = f"{images:,} images {how} in {self.seconds:.1f} s ({images / max(self.seconds, 1e-9):,.0f} a second)"
        notes = _label_lines(self.labels.loc[~self.labels.is_problem])
        notes += [f"{kind}: {n:,} images" for kind, n in self.odd.note.str.split("; ").explode().value_counts().items()]
        if self.odd.transparent.sum():
            notes.append(f"transparent pixels in all: {self.odd.transparent.sum():,}")
        copies = self.duplicates[self.duplicates.kind != "train/test"].groupby("kind").digest.nunique()
        names = {"copy": "identical files within train or within test", "two people": "one picture, two identities"}
        notes += [f"{names[kind]}: {n:,}" for kind, n in copies.items()]
        cameras = self.cameras.pivot(index="camid", columns="split", values="images").fillna(0).astype(int)
        hint = " (-1: not known)" if -1 in cameras.index else ""
        text = "\n\n".join(
            [
                f"{self.dataset} in {self.root}\n{seen}",
                self.unseen,
                self.counts.to_string(index=False, na_rep="-"),
                f"images per camera{hint}\n{cameras[[s for s in SPLITS if s in cameras]].to_string()}",
                f"image heights\n{_histogram(self.sizes)}",
                "notes\n" + ("\n".join(f"  {n}" for n in notes) or "  none"),
                "problems\n" + ("\n".join(f"  {p}" for p in self.problems) or "  none: the copy is sound"),
            ]
        )
        return text.encode("utf-8", "backslashreplace").decode()  # names need not be UTF-8

    def save(self, folder: str | Path) -> Path:
        """Write report.txt, one CSV a table, and contact_sheet.png into `folder`; return it.

        Raises ReIDKitError where the disk does not take one of them; an older one then stays as it was.
        """
        folder = Path(folder)
        write_text(folder / REPORT, f"{self}\n")
        for name in ("counts", "cameras", "broken", "odd", "duplicates", "labels", "sizes"):
            with replacing(folder / f"{name}.csv") as file:
                getattr(self, name).to_csv(file, index=False, errors="surrogateescape")
        with replacing(folder / "contact_sheet.png") as file:
            self.sheet.save(file, "PNG")
        return folder


def _label_lines(labels: pd.DataFrame) -> list[str]:
    return [f"{check}: {n:,} ({some})" for check, n, some in zip(labels["check"], labels["count"], labels["examples"])]


def check_dataset(
    ds: ReIDDataset,
    decode: bool = True,
    workers: int | None = None,
    quarantine: str | Path | None = None,
    *,
    progress: bool = True,
) -> CheckReport:
    """Look at every file of a data set.

    decode: decode every pixel; False parses headers only (several thousand images a second).
    workers: threads; None takes one a core. quarantine: a folder to which unusable images are moved
        (`reidkit.data.copies.quarantine.restore_quarantine` moves them back); None leaves them where they are.
    """
    unseen = _unseen(decode)  # loads the second decoder, before the clock starts
    start = time.perf_counter()
    table = _all_rows(ds)
    facts = _inspect(table.path.unique().tolist(), decode, workers, progress)
    table = table.merge(facts, on="path", how="left")
    broken = table.loc[table.problem != "", ["path", "split", "problem"]].reset_index(drop=True)
    seconds = time.perf_counter() - start
    sound = table[table.problem == ""]
    moved = 0
    sheet_rows = table.loc[table.split == "train"] if len(ds.train) else table
    sheet = contact_sheet(sheet_rows, title=f"{ds.name}: training images by camera")
    if quarantine is not None:
        moved = quarantine_files(zip(broken.path, broken.problem), ds.root, quarantine)
    return CheckReport(
        dataset=ds.name,
        root=ds.root,
        decoded=decode,
        seconds=seconds,
        counts=compare_counts(ds),
        cameras=table.groupby(["split", "camid"]).agg(images=("path", "size"), ids=("pid", "nunique")).reset_index(),
        broken=broken,
        odd=sound.loc[sound.note != "", ["path", "split", "note", "transparent"]].reset_index(drop=True),
        duplicates=find_duplicates(table.loc[table.digest != ""]),
        labels=pd.concat([check_labels(ds), check_files(ds)], ignore_index=True),
        sizes=sound.groupby(["height", "width"]).agg(images=("path", "size")).reset_index(),
        sheet=sheet,
        unseen=unseen,
        quarantined=moved,
    )


def _all_rows(ds: ReIDDataset) -> pd.DataFrame:
    """path, pid, camid (-1: not known), split of every image, with further test levels and multi-query boxes."""
    tables = {split: getattr(ds, split) for split in SPLITS}
    for level, (query, gallery) in ds.levels.items():
        tables |= {f"query, {level}": query, f"gallery, {level}": gallery}
    if isinstance(ds.info.get("gt_bbox"), pd.DataFrame):
        tables["gt_bbox"] = ds.info["gt_bbox"]
    rows = [t[["path", "pid", "camid"]].assign(split=split) for split, t in tables.items()]
    table = pd.concat(rows, ignore_index=True)
    return table if ds.cameras_known else table.assign(camid=-1)


def _inspect(paths: list[str], decode: bool, workers: int | None, progress: bool) -> pd.DataFrame:
    """One row of `ImageFacts` a path. Threads suffice: reading, hashing and decoding release Python's lock."""
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        chunks = [paths[i : i + 64] for i in range(0, len(paths), 64)]
        results = pool.map(lambda chunk: [inspect_image(p, decode) for p in chunk], chunks)
        facts: list[ImageFacts] = []
        with tqdm(total=len(paths), unit="img", desc="decode" if decode else "headers", disable=not progress) as bar:
            for chunk in results:
                facts += chunk
                bar.update(len(chunk))
    return pd.DataFrame(facts, columns=ImageFacts._fields)


def find_duplicates(table: pd.DataFrame) -> pd.DataFrame:
    """Files with the same bytes: digest, path, split, pid, kind, sorted by digest.

    kind: "train/test" when a training image is also a query or gallery image (a leak), "two people" when one
    picture carries two identities, "copy" otherwise. `gt_bbox` counts as test, but its boxes are drawn in the frames
    of the other pictures: one that is also another picture of its person is no news.
    """
    person = ["digest", "pid"]
    others = table.loc[table.split != "gt_bbox", person].drop_duplicates()
    is_twin = table[person].merge(others, how="left", indicator="found").found.to_numpy() == "both"
    table = table.loc[~(is_twin & (table.split == "gt_bbox").to_numpy())]
    same = table.loc[table.duplicated("digest", keep=False)].copy()
    same = same.loc[same.groupby("digest").path.transform("nunique") > 1]
    columns = ["digest", "path", "split", "pid", "kind"]
    if same.empty:
        return pd.DataFrame(columns=columns)
    sides = (same.split == "train").groupby(same.digest).transform("nunique")
    people = same.groupby("digest").pid.transform("nunique")
    same["kind"] = np.select([sides > 1, people > 1], ["train/test", "two people"], "copy")
    return same.sort_values(["digest", "split", "path"])[columns].reset_index(drop=True)


def _histogram(sizes: pd.DataFrame, width: int = 40) -> str:
    """Text bars of image heights, `HEIGHT_BIN` pixels a bar."""
    if sizes.empty:
        return "  no readable images"
    bins = sizes.groupby(sizes.height // HEIGHT_BIN * HEIGHT_BIN).images.sum()
    bars = {low: "#" * max(1, round(width * n / bins.max())) for low, n in bins.items()}
    return "\n".join(f"  {low:4d}-{low + HEIGHT_BIN - 1:<4d} {bins[low]:7,d} {bar}" for low, bar in bars.items())


def _unseen(decoded: bool) -> str:
    """What damage stays unseen."""
    if not decoded:
        return "not looked for: damage inside of an image, as headers and ends of files were read only"
    if not hears_complaints():
        return "cannot be seen: damage inside of a JPEG, as this torchvision has no decoder that warns of it"
    return (
        "cannot be seen: damage after which an image still decodes without a warning, such as one changed bit in a "
        "JPEG (of the kinds read, only PNG has checksums)"
    )


def _cannot_write(folder: Path) -> str:
    """Why no file can be written to `folder`, which is made where it is missing; "" where one can."""
    try:
        check_writable(folder / REPORT)
        return ""
    except ReIDKitError as error:
        return str(error)


def check_command(
    name: str,
    root: str | Path,
    *,
    decode: bool = True,
    workers: int | None = None,
    quarantine: bool = False,
    out: str | Path | None = None,
    cache_dir: str | Path | None = None,
    **options,
) -> int:
    """All of `reidkit data check NAME`: load, check, print, save the tables.

    quarantine: move unusable images to `<root of the data set>/quarantine`, where its parser knows of them.
    out: folder of the tables; default `<root>/checks/<name>`, or with a cache_dir `ds.derived("checks")`. Where it
        cannot be written to, the report is printed all the same.
    options: of the set's loader (`size`, `seed` of Sidewalk). Returns the exit code: 0 sound, 1 problems.
    Raises DatasetError when the data set cannot even be listed, or images are to be moved on a disk that cannot be
    written to.
    """
    from reidkit.data import load_dataset

    ds = load_dataset(name, root=root, cache_dir=cache_dir, **options)
    place = Path(root) if Path(root).is_dir() else ds.root  # a CSV is no folder
    default = ds.derived("checks") if cache_dir else place / "checks" / name
    folder = Path(out) if out else default
    refusal = _cannot_write(folder)  # before minutes of decoding
    if quarantine and not os.access(ds.root, os.W_OK):
        raise DatasetError(f"{ds.root} cannot be written to, so no image can be moved to quarantine; check without it")
    report = check_dataset(ds, decode, workers, ds.root / QUARANTINE if quarantine else None)
    print(report)
    if not refusal:
        try:
            report.save(folder)
        except ReIDKitError as error:  # a full disk
            refusal = str(error)
    print(
        f"\ntables and contact sheet: {folder}"
        if not refusal
        else f"\ntables and contact sheet were not saved: {refusal}; name another folder: --out DIR or --cache-dir DIR"
    )
    return report.exit_code
