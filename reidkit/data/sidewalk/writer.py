"""Renders a whole data set to disk: in parallel, atomically, and on from where it stopped.

Each chunk of the plan writes its images and maps, then a part file with its truth; a part file says "this chunk is
complete". When all chunks are, parts are joined to one truth file a folder, and `sidewalk.json` is written last:
a folder with that manifest is a finished data set. Every file is written under another name and then renamed, and
what it holds depends on the plan only, so that several processes may render the same folder without harm. The disk
holds all files before it holds the manifest.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import types
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from reidkit.data.sidewalk.plan import FOLDERS, Settings, Shot, plan, take
from reidkit.data.sidewalk.tools import ToolRates
from reidkit.data.sidewalk.truth import join_truth, pack_truth, write_meta
from reidkit.errors import DatasetError
from reidkit.files import MACHINE, bring_to_disk, has_content, runs_here
from reidkit.lifetime import end_with_pool

MANIFEST, MARKER = "sidewalk.json", ".rendering.json"
MAPS = ("parsing", "segmentation")
JPEG_QUALITY = 92
ONE_PROCESS_BELOW = 1500  # images; starting processes takes longer than rendering so few


def render_sidewalk(
    root: str | Path,
    size: str = "small",
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    rates: ToolRates | None = None,
) -> Path:
    """Render the Sidewalk data set under `root` unless it is there already; -> its folder.

    size: "tiny" (tests), "small" (notebooks), "medium" (small at 192x64), "many" (small with 750 training identities),
    "siblings" (small with groups of five who differ in one part), "unhidden" (small with training images in which
    hardly anything stands before anybody) or "full" (384x128, for GPUs).
    seed: another seed, another world.
    workers: processes; None = one a CPU core (one in all for a tiny set). The pixels do not depend on it.
    rates: how often the parsing and segmentation tools fail; None = the defaults of `ToolRates`.
    Raises UnknownNameError for an unknown size, DatasetError when the folder cannot be written, the disk is full, or
    the folder holds something else (another version, other rates, foreign files).
    """
    settings = Settings(size, seed, rates or ToolRates())
    chunks = plan(settings)
    folder = Path(root).expanduser().resolve() / settings.folder_name
    if is_complete(folder, settings):
        _remove_leftovers(folder)
        _remove_parts(folder)
        return folder
    scratch = folder / f".tmp-~{MACHINE}~{os.getpid()}~{uuid.uuid4().hex[:8]}"
    try:
        _prepare(folder, settings, scratch)
        todo = [i for i, chunk in enumerate(chunks) if not _chunk_done(folder, i, chunk)]
        _check_space(folder, settings, sum(len(chunks[i]) for i in todo))
        _render_chunks(folder, settings, todo, workers, progress, scratch)
        _finish(folder, settings, scratch)
    except OSError as error:
        raise DatasetError(
            f"cannot render sidewalk into {folder}: {error}. Check that the folder is writable and the disk has room; "
            "what is rendered so far is kept, call again to go on"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def is_complete(folder: Path, settings: Settings) -> bool:
    """Whether a folder holds the finished rendering of these settings, no image or map missing.

    Raises DatasetError when it holds another one, or files that are no rendering at all.
    """
    manifest = _read_json(folder / MANIFEST) or _read_json(folder / MARKER)
    if manifest is None:
        if folder.is_dir() and any(not p.name.startswith(".tmp-") for p in folder.iterdir()):
            raise DatasetError(
                f"{folder} is not empty and not a sidewalk rendering: move it away or choose another root"
            )
        return False
    for key, wanted in settings.as_dict().items():
        if manifest.get(key) != wanted:
            raise DatasetError(
                f"{folder} was rendered with {key}={manifest.get(key)!r}, but {key}={wanted!r} is wanted: "
                "delete the folder to render it anew, or choose another root"
            )
    counts = manifest.get("counts")
    needed = [folder / "meta.csv", *(folder / "truth" / f"{name}.npz" for name in FOLDERS)]
    return (
        counts is not None
        and all(path.exists() for path in needed)
        and all(_count(folder / name) >= count for name, count in counts.items())
    )


def _count(folder: Path) -> int:
    """Images and maps in a folder; stray files do not count."""
    return sum(name.endswith((".jpg", ".png")) for name in os.listdir(folder)) if folder.is_dir() else 0


def _read_json(path: Path) -> dict | None:
    try:
        found = json.loads(path.read_text())
        counts = found.get("counts") or {} if isinstance(found, dict) else None
        if not isinstance(counts, dict) or not all(isinstance(n, int) for n in counts.values()):
            raise ValueError("it is not what the renderer writes")
        return found
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        raise DatasetError(f"cannot read {path}: {error}. Delete it to render the set anew") from error


def _prepare(folder: Path, settings: Settings, scratch: Path) -> None:
    """Make the folders. First the marker: it says which settings an unfinished rendering belongs to."""
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    scratch.mkdir()
    _write(folder / MARKER, scratch, lambda path: path.write_text(json.dumps(settings.as_dict())))
    (folder / MANIFEST).unlink(missing_ok=True)
    for name in FOLDERS:
        for parent in ("", *MAPS):
            (folder / parent / name).mkdir(parents=True, exist_ok=True)
    (folder / "truth" / "parts").mkdir(parents=True, exist_ok=True)


def _remove_leftovers(folder: Path) -> None:
    """Remove the scratch folders of renderings of this machine that were killed."""
    for old in folder.glob(".tmp-*"):
        _, machine, pid, _ = [*old.name.split("~"), "", "", ""][:4]
        if machine == MACHINE and pid.isdecimal() and not runs_here(int(pid)):
            shutil.rmtree(old, ignore_errors=True)


def _remove_parts(folder: Path) -> None:
    for part in (folder / "truth" / "parts").glob("*.npz"):
        with suppress(OSError):  # another process was quicker, or the folder is read-only now
            part.unlink()


def _check_space(folder: Path, settings: Settings, images: int) -> None:
    """Raise DatasetError before the work when the disk cannot hold it."""
    needed = images * (12_000 + 0.7 * settings.spec.height * settings.spec.width)  # bytes, on the safe side
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DatasetError(
            f"rendering {images:,} images into {folder} needs about {needed / 1e6:,.0f} MB, the disk has "
            f"{free / 1e6:,.0f} MB: make room, or choose another root or a smaller size"
        )


def _write(target: Path, scratch: Path, save: Callable[[Path], object]) -> None:
    """Write a file so that it is either complete or absent."""
    temporary = scratch / f"{os.getpid()}-{target.name}"
    save(temporary)
    os.replace(temporary, target)


def _write_image(target: Path, scratch: Path, array, **options) -> None:
    _write(target, scratch, lambda path: Image.fromarray(array).save(path, **options))


def _outputs(folder: Path, shot: Shot) -> tuple[Path, Path, Path]:
    parsing, segmentation = ((folder / m / shot.path).with_suffix(".png") for m in MAPS)
    return folder / shot.path, parsing, segmentation


def _part(folder: Path, index: int) -> Path:
    return folder / "truth" / "parts" / f"{index:05d}.npz"


def _chunk_done(folder: Path, index: int, chunk: tuple[Shot, ...]) -> bool:
    truth = folder / "truth" / f"{chunk[0].folder}.npz"
    if not has_content(truth) and not has_content(_part(folder, index)):
        return False
    return all(has_content(path) for shot in chunk for path in _outputs(folder, shot))


def render_chunk(folder: Path, settings: Settings, index: int, scratch: Path) -> int:
    """Render one chunk of the plan to disk; -> how many images. Runs in a worker process."""
    facts, maps, chunk = [], [], plan(settings)[index]
    for shot in chunk:
        picture, parsing, segmentation, faults = take(settings, shot)
        image, first, second = _outputs(folder, shot)
        _write_image(image, scratch, picture.image, quality=JPEG_QUALITY, subsampling=0)
        _write_image(first, scratch, parsing, compress_level=1)
        _write_image(second, scratch, 255 * segmentation.astype("uint8"), compress_level=1)
        maps.append(picture.codes)
        facts.append(_facts(shot, picture, faults))
    _write(_part(folder, index), scratch, lambda path: pack_truth(path, facts, maps))
    return len(chunk)


def _facts(shot: Shot, picture, faults: list[str]) -> dict[str, object]:
    """One row of meta.csv."""
    person = shot.person
    return {
        "path": shot.path,
        "pid": shot.pid,
        "camid": shot.camid,
        "folder": shot.folder,
        "group": -1 if person is None or shot.pid <= 0 else person.group,
        "differs": "-" if person is None or shot.pid <= 0 else person.differs,
        "detector": picture.detector,
        "occluder": picture.occluder,
        "yaw": round(picture.yaw, 4),
        "shift": shot.shift,
        "top": round(picture.top, 5),
        "bottom": round(picture.bottom, 5),
        "quality": round(picture.quality, 2),
        "tool_faults": "+".join(faults) or "-",
        "visibility": [round(float(v), 4) for v in picture.visibility],
    }


def _render_chunks(folder, settings, todo: list[int], workers: int | None, progress: bool, scratch: Path) -> None:
    chunks = plan(settings)
    total = sum(len(chunks[i]) for i in todo)
    if workers is None:
        workers = 1 if total < ONE_PROCESS_BELOW else os.cpu_count() or 1
    with tqdm(total=total, desc=f"rendering {folder.name}", unit="image", disable=not progress) as bar:
        for count in _run(folder, settings, todo, min(workers, len(todo)), scratch):
            bar.update(count)


def _run(folder, settings, todo: list[int], workers: int, scratch: Path) -> Iterator[int]:
    if workers <= 1:
        yield from (render_chunk(folder, settings, i, scratch) for i in todo)
        return
    context = multiprocessing.get_context("spawn")  # fork is unsafe beside the threads of torch and Jupyter
    with ProcessPoolExecutor(workers, context, end_with_pool, (os.getpid(),)) as pool:
        try:
            with _without_main():
                jobs = [pool.submit(render_chunk, folder, settings, i, scratch) for i in todo]
            for job in as_completed(jobs):
                yield job.result()
        except BrokenProcessPool as error:
            raise DatasetError(
                f"a rendering process died ({error}): out of memory, or killed? What is rendered is kept; call again "
                "to go on, with workers=1 if it happens again"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _without_main():
    """Spawned processes import the caller's script; ours do not need it, and a notebook or stdin has none."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _finish(folder: Path, settings: Settings, scratch: Path) -> None:
    """Join the parts, write meta.csv, then the manifest; clear away what only the rendering needed."""
    try:
        _join(folder, settings, scratch)
    except FileNotFoundError:
        if not is_complete(folder, settings):  # else another process was faster and cleared the parts away
            raise
    _remove_parts(folder)


def _join(folder: Path, settings: Settings, scratch: Path) -> None:
    chunks, truth = plan(settings), folder / "truth"
    for name in FOLDERS:
        if not has_content(truth / f"{name}.npz"):
            parts = [_part(folder, i) for i, chunk in enumerate(chunks) if chunk[0].folder == name]
            _write(truth / f"{name}.npz", scratch, lambda path, parts=parts: join_truth(path, parts))
    _write(
        folder / "meta.csv",
        scratch,
        lambda path: write_meta(path, [truth / f"{name}.npz" for name in FOLDERS]),
    )
    images = {name: sum(len(chunk) for chunk in chunks if chunk[0].folder == name) for name in FOLDERS}
    counts = {f"{parent}{name}": n for name, n in images.items() for parent in ("", *(f"{m}/" for m in MAPS))}
    manifest = json.dumps({**settings.as_dict(), "counts": counts}, indent=1)
    bring_to_disk()
    _write(folder / MANIFEST, scratch, lambda path: path.write_text(manifest))
