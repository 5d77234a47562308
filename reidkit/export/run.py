"""From a finished run to a checked file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from reidkit.data import ReIDDataset
from reidkit.errors import ReIDKitError, unknown_name
from reidkit.export import check, formats
from reidkit.export.formats import Format, Precision
from reidkit.export.network import EmbeddingNetwork
from reidkit.export.report import ExportReport
from reidkit.files import replacing, write_json
from reidkit.models import ReIDModel
from reidkit.provenance import provenance
from reidkit.training.recipes import Recipe
from reidkit.training.runs import RunFolder, find_run, load_run

TOLERANCE = 1e-4  # of fp32: see `check.compare`


def check_request(
    run: str | Path,
    out: str | Path | None = None,
    *,
    to: Format = "onnx",
    precision: Precision = "fp32",
    with_dataset: bool = False,
) -> tuple[RunFolder, Path]:
    """The run's folder and the file to write, once all is refused that can be before an image is read.

    Raises UnknownNameError for a format or precision; ReIDKitError for a combination that is not offered, a missing
    package, a network that needs a prior, or a file that cannot be written; CheckpointError for a run that is
    missing, unfinished or damaged.
    """
    if to not in formats.SUFFIXES:
        raise unknown_name("export format", to, formats.SUFFIXES)
    if precision not in formats.PRECISIONS:
        raise unknown_name("precision", precision, formats.PRECISIONS)
    if precision == "int8" and to != "onnx":
        raise ReIDKitError(f"int8 is made by ONNX Runtime's quantisation: use --to onnx, or another precision for {to}")
    if precision == "int8" and not with_dataset:
        raise ReIDKitError(
            "int8 takes the ranges of its activations from training images: name the folder of the "
            "run's data set (--root FOLDER, in Python dataset=load_dataset(...))"
        )
    folder = find_run(run)
    folder.read_result()  # only finished runs have one
    EmbeddingNetwork(load_run(folder.path), folder.recipe().test_flip)
    if to == "onnx":
        formats.require_packages()
    return folder, _target(out or f"{folder.path.resolve().name}-{precision}{formats.SUFFIXES[to]}", to)


def export_run(
    run: str | Path,
    out: str | Path | None = None,
    *,
    to: Format = "onnx",
    precision: Precision = "fp32",
    dataset: ReIDDataset | None = None,
    progress: bool = True,
) -> ExportReport:
    """Write the test-time network of a run to `out`, check it against PyTorch, and describe it in `out`.json.

    The file takes uint8 RGB images [B, 3, H, W] at the recipe's size, any B, and gives float32 [B, D]: what
    `extract_features` gives with the recipe's `test_flip`.

    run: a finished run folder, or the name of a shipped network such as "mpn-no-ca".
    out: *.onnx for to="onnx", *.pt2 for to="torch-export"; default <run>-<precision> in the current folder. A file of
        that name is replaced, at the end and at once.
    precision: "fp32"; "fp16", weights and feature maps in half precision; "int8" (ONNX only), 8-bit weights and
        activations, the ranges of which come from at most 128 images of `dataset.train`.
    dataset: the data set of the run; with it mAP and Rank-1 of the file and of PyTorch are measured on its test images.

    Raises what `check_request` raises; ReIDKitError when an fp32 file differs from PyTorch by more than 1e-4 (see
    `check.compare`), gives NaN, or cannot be written. Then there is no new file.
    """
    folder, out = check_request(run, out, to=to, precision=precision, with_dataset=dataset is not None)
    recipe, model = folder.recipe(), load_run(folder.path)
    network = EmbeddingNetwork(model, recipe.test_flip, half=precision == "fp16")
    images = check.calibration_batches(dataset, recipe.size) if dataset is not None and precision == "int8" else []
    try:
        with replacing(out) as file:
            _write(network, recipe.size, file, to, images)
            report = ExportReport(
                run=str(run),
                variant=model.name,
                file=str(out),
                sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
                bytes=file.stat().st_size,
                to=to,
                precision=precision,
                flip=recipe.test_flip,
                input={
                    "name": formats.INPUT,
                    "shape": ["batch", 3, *recipe.size],
                    "dtype": "uint8",
                    "channels": "RGB",
                    "resize": "bilinear",
                },
                calibration_images=sum(map(len, images)),
                provenance=provenance("cpu", **_versions(to)),
                **_measured(file, model, recipe, to, precision, dataset, progress),
            )
            write_json(report_file(out), report.as_dict())
    except OSError as error:
        raise ReIDKitError(f"cannot write {out} ({error}); choose another file") from error
    return report


def report_file(out: Path) -> Path:
    """The JSON beside an exported file: mpn.onnx.json."""
    return out.with_name(out.name + ".json")


def _target(out: str | Path, to: Format) -> Path:
    """`out` as a path that can be written."""
    out = Path(out)
    if out.suffix != formats.SUFFIXES[to] or out.is_dir():
        raise ReIDKitError(f"{out}: expected the name of a file that ends in {formats.SUFFIXES[to]} for {to}")
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise ReIDKitError(f"cannot write {out}: {folder} is not a folder that can be written to; choose another file")
    return out


def _write(network: EmbeddingNetwork, size: tuple[int, int], file: Path, to: Format, images: Sequence[Tensor]) -> None:
    """One file of the format; with calibration images in int8."""
    if to == "torch-export":
        formats.write_torch_export(network, size, file)
    elif images:
        formats.write_int8(network, size, file, images)
    else:
        formats.write_onnx(network, size, file)


def _measured(
    file: Path,
    model: ReIDModel,
    recipe: Recipe,
    to: Format,
    precision: Precision,
    dataset: ReIDDataset | None,
    progress: bool,
) -> dict[str, Any]:
    """The measured fields of the report. Raises ReIDKitError for an fp32 file that is not the network."""
    exported = formats.open_onnx(file) if to == "onnx" else formats.open_torch_export(file)
    runners = {"pytorch": check.pytorch(model, recipe.test_flip), "exported": exported}
    slow = to == "torch-export" and precision == "fp16"  # most CPUs have no fast float16 convolution
    images = check.sidewalk_images(3 if slow else 16, recipe.size)
    difference, dimension = check.compare(exported, runners["pytorch"], images)
    if precision == "fp32" and difference > TOLERANCE:
        raise ReIDKitError(
            f"the exported {model.name} differs from PyTorch by {difference:.1e} of the largest entry, "
            f"more than {TOLERANCE:.0e}, so nothing was written; try the other format"
        )
    return {
        "max_difference": difference,
        "output": {"name": formats.OUTPUT, "shape": ["batch", dimension], "dtype": "float32"},
        "scores": None if dataset is None else check.scores(runners, dataset, recipe, progress),
        "latency": check.latency(runners, images),
    }


def _versions(to: Format) -> dict[str, str]:
    return {name: import_module(name).__version__ for name in formats.PACKAGES} if to == "onnx" else {}
