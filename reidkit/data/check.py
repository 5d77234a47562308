"""`reidkit data check NAME`: is the copy on this disk the data set that the papers used, and can all be read?

    report = check_dataset(load_dataset("market1501", root="data"))
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
from reidkit.data.dataset import ReIDDataset
from reidkit.data.imagefile import ImageFacts, inspect_image
from reidkit.data.published import compare_counts
from reidkit.data.quarantine import FOLDER, quarantine_files

SPLITS = ("train", "query", "gallery")
HEIGHT_BIN = 32  # pixels, of the printed histogram


@dataclass(frozen=True)
class CheckReport:
    """What `check_dataset` found. `problems` decide the exit code; notes do not.

    counts: split, quantity, found, published, ok.          cameras: split, camid, images, ids.
    broken: path, split, problem.                           odd: path, split, note (usable files).
    duplicates: digest, path, split, pid, kind: "train/test" (a problem), "two people", "copy".
    labels: check, count, examples, is_problem.             sizes: height, width, images.
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
    quarantined: int = 0

    @property
    def problems(self) -> list[str]:
        """One line a problem; empty for a sound copy."""
        lines = [
            f"{row.split}: {row.found:,} {row.quantity}, published are {row.published:,}"
            for row in self.counts[~self.counts.ok].itertuples()
        ]
        if len(self.broken):
            first = self.broken.iloc[0]
            moved = f", {self.quarantined} moved to quarantine" if self.quarantined else ""
            lines.append(f"{len(self.broken)} unusable images{moved} (first: {first.path}: {first.problem})")
        leaks = self.duplicates[self.duplicates.kind == "train/test"]
        if len(leaks):
            lines.append(f"{leaks.digest.nunique()} pictures are in train and in test (first: {leaks.path.iloc[0]})")
        lines += [f"{r.check}: {r.count:,} ({r.examples})" for r in self.labels[self.labels.is_problem].itertuples()]
        return lines

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
        notes = [f"{r.check}: {r.count:,} ({r.examples})" for r in self.labels[~self.labels.is_problem].itertuples()]
        notes += [f"{kind}: {n:,} images" for kind, n in self.odd.note.value_counts().items()]
        copies = self.duplicates[self.duplicates.kind != "train/test"].groupby("kind").digest.nunique()
        names = {"copy": "identical files within train or within test", "two people": "one picture, two identities"}
        notes += [f"{names[kind]}: {n:,}" for kind, n in copies.items()]
        cameras = self.cameras.pivot(index="camid", columns="split", values="images").fillna(0).astype(int)
        text = "\n\n".join(
            [
                f"{self.dataset} in {self.root}\n{seen}",
                self.counts.to_string(index=False, na_rep="-"),
                f"images per camera\n{cameras[[s for s in SPLITS if s in cameras]].to_string()}",
                f"image heights\n{_histogram(self.sizes)}",
                "notes\n" + ("\n".join(f"  {n}" for n in notes) or "  none"),
                "problems\n" + ("\n".join(f"  {p}" for p in self.problems) or "  none: the copy is sound"),
            ]
        )
        return text.encode("utf-8", "backslashreplace").decode()  # names need not be UTF-8

    def save(self, folder: str | Path) -> Path:
        """Write report.txt, one CSV a table, and contact_sheet.png into `folder`; return it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.txt").write_text(f"{self}\n", encoding="utf-8")
        for name in ("counts", "cameras", "broken", "odd", "duplicates", "labels", "sizes"):
            getattr(self, name).to_csv(folder / f"{name}.csv", index=False, errors="surrogateescape")
        self.sheet.save(folder / "contact_sheet.png")
        return folder


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
        (`reidkit.data.quarantine.restore_quarantine` moves them back); None leaves them where they are.
    """
    start = time.perf_counter()
    table = _all_rows(ds)
    facts = _inspect(table.path.unique().tolist(), decode, workers, progress)
    table = table.merge(facts, on="path", how="left")
    broken = table.loc[table.problem != "", ["path", "split", "problem"]].reset_index(drop=True)
    seconds = time.perf_counter() - start
    sound = table[table.problem == ""]
    moved = 0
    sheet_rows = table[table.split == "train"] if len(ds.train) else table
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
        odd=table.loc[(table.problem == "") & (table.note != ""), ["path", "split", "note"]].reset_index(drop=True),
        duplicates=find_duplicates(table[table.digest != ""]),
        labels=check_labels(ds),
        sizes=sound.groupby(["height", "width"]).size().rename("images").reset_index(),
        sheet=sheet,
        quarantined=moved,
    )


def _all_rows(ds: ReIDDataset) -> pd.DataFrame:
    """path, pid, camid, split of every image, with further test levels and the boxes of multi-query tests."""
    tables = {split: getattr(ds, split) for split in SPLITS}
    for level, (query, gallery) in ds.levels.items():
        tables |= {f"query, {level}": query, f"gallery, {level}": gallery}
    if isinstance(ds.info.get("gt_bbox"), pd.DataFrame):
        tables["gt_bbox"] = ds.info["gt_bbox"]
    rows = [t[["path", "pid", "camid"]].assign(split=split) for split, t in tables.items()]
    return pd.concat(rows, ignore_index=True)


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
    picture carries two identities, "copy" otherwise. `gt_bbox` counts as test.
    """
    same = table[table.duplicated("digest", keep=False)].copy()
    same = same[same.groupby("digest").path.transform("nunique") > 1]
    columns = ["digest", "path", "split", "pid", "kind"]
    if same.empty:
        return pd.DataFrame(columns=columns)
    sides = (same.split == "train").groupby(same.digest).transform("nunique")
    people = same.groupby("digest").pid.transform("nunique")
    same["kind"] = np.select([sides > 1, people > 1], ["train/test", "two people"], "copy")
    return same.sort_values(["digest", "split", "path"])[columns].reset_index(drop=True)


def check_labels(ds: ReIDDataset) -> pd.DataFrame:
    """Gaps and clashes of identities and cameras: check, count, examples, is_problem. Only rows with a count."""
    people = {s: set(getattr(ds, s).pid) - {0, *ds.junk_pids} for s in SPLITS}
    test = people["query"] | people["gallery"]
    seen = ds.gallery.groupby("pid").camid.agg(set)
    alone = [r.pid for r in ds.query.itertuples() if not (seen.get(r.pid, set()) - {r.camid})]
    cameras = set(ds.train.camid) | set(ds.query.camid) | set(ds.gallery.camid)
    per_person = ds.train.groupby("pid").camid.nunique()
    used = people["train"] | test
    rows = [
        ("identities in train and in test", people["train"] & test, True),
        ("camera numbers below 1", {c for c in cameras if c < 1}, True),
        ("queries without a match in another camera", alone, False),
        ("unused camera numbers", set(range(1, max(cameras, default=0))) - cameras, False),
        ("training identities seen by one camera only", per_person.index[per_person == 1], False),
        ("unused identity numbers", set(range(1, max(used, default=0))) - used, False),
    ]
    found = [(check, len(ids), _examples(ids), is_problem) for check, ids, is_problem in rows if len(ids)]
    return pd.DataFrame(found, columns=["check", "count", "examples", "is_problem"]).astype({"is_problem": bool})


def _examples(values, limit: int = 5) -> str:
    values = sorted({int(v) for v in values})
    return ", ".join(map(str, values[:limit])) + (" ..." if len(values) > limit else "")


def _histogram(sizes: pd.DataFrame, width: int = 40) -> str:
    """Text bars of image heights, `HEIGHT_BIN` pixels a bar."""
    if sizes.empty:
        return "  no readable images"
    bins = sizes.groupby(sizes.height // HEIGHT_BIN * HEIGHT_BIN).images.sum()
    bars = {low: "#" * max(1, round(width * n / bins.max())) for low, n in bins.items()}
    return "\n".join(f"  {low:4d}-{low + HEIGHT_BIN - 1:<4d} {bins[low]:7,d} {bar}" for low, bar in bars.items())


def check_command(
    name: str,
    root: str | Path = "data",
    *,
    decode: bool = True,
    workers: int | None = None,
    quarantine: bool = False,
    out: str | Path | None = None,
    **options,
) -> int:
    """All of `reidkit data check NAME`: load, check, print, save to `out` (default `<root>/checks/<name>`).

    quarantine: move unusable images to `<root of the data set>/quarantine`, where its parser knows of them.
    options: of the set's loader (`size`, `seed` of Sidewalk). Returns the exit code: 0 sound, 1 problems.
    Raises DatasetError when the data set cannot even be listed.
    """
    from reidkit.data import load_dataset

    ds = load_dataset(name, root=root, **options)
    report = check_dataset(ds, decode, workers, ds.root / FOLDER if quarantine else None)
    folder = report.save(Path(out) if out else Path(root) / "checks" / name)
    print(report)
    print(f"\ntables and contact sheet: {folder}")
    return report.exit_code
