"""The two file formats: how each is written, and how it is run again.

Both start from `torch.export`, which records the network once with a batch of two images and leaves the number of
images open. int8 is made from the float32 ONNX file by ONNX Runtime's post-training static quantisation.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from reidkit.errors import ReIDKitError
from reidkit.export.network import EmbeddingNetwork

Format = Literal["onnx", "torch-export"]
Precision = Literal["fp32", "fp16", "int8"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch-export": ".pt2"}
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
INPUT, OUTPUT = "images", "embedding"
ANY_NUMBER = ({0: torch.export.Dim("batch", min=1)},)  # of images
PACKAGES = ("onnx", "onnxruntime", "onnxscript")

Runner = Callable[[Tensor], Tensor]  # uint8 [B, 3, H, W] -> float32 [B, D]


def require_packages() -> None:
    """Raise ReIDKitError that names the pip command where a package of the ONNX export is missing."""
    missing = [name for name in PACKAGES if not _importable(name)]
    if missing:
        raise ReIDKitError(
            f"export to ONNX needs {', '.join(missing)}: pip install {' '.join(missing)} "
            "(or reidkit[export]); `--to torch-export` needs torch alone"
        )


def _importable(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def record(network: EmbeddingNetwork, size: tuple[int, int]) -> torch.export.ExportedProgram:
    """The network as a graph for images of `size` = (height, width) and any number of them.

    Raises ReIDKitError for a network that torch.export cannot follow.
    """
    images = torch.zeros(2, 3, *size, dtype=torch.uint8)  # 2: torch.export takes 0 and 1 for constants
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(network, (images,), dynamic_shapes=ANY_NUMBER)
    except Exception as error:  # torch.export raises many kinds
        raise _cannot(network, "torch.export", error) from error


def write_torch_export(network: EmbeddingNetwork, size: tuple[int, int], file: Path) -> None:
    """Write a `torch.export` program (.pt2): `torch.export.load(file).module()(images)` runs it."""
    program = record(network, size)
    with open(file, "wb") as f:
        torch.export.save(program, f)


def write_onnx(network: EmbeddingNetwork, size: tuple[int, int], file: Path) -> None:
    """Write one ONNX file, weights inside; its input is called "images", its output "embedding"."""
    program = record(network, size)
    try:
        with _quiet(), torch.no_grad():
            onnx = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=ANY_NUMBER,
            )
    except Exception as error:
        raise _cannot(network, "torch.onnx.export", error) from error
    onnx.save(str(file), external_data=False)  # pyright: ignore[reportOptionalMemberAccess]  (dynamo gives one)


def write_int8(network: EmbeddingNetwork, size: tuple[int, int], file: Path, images: Iterable[Tensor]) -> None:
    """Write an ONNX file with 8-bit weights (a scale a channel) and activations.

    images: uint8 batches [B, 3, H, W] of the training split; the ranges of the activations are those seen on them.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Batches(CalibrationDataReader):
        def __init__(self):
            self.batches = iter(images)

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        whole, prepared = Path(folder) / "fp32.onnx", Path(folder) / "prepared.onnx"
        write_onnx(network, size, whole)
        try:
            with _quiet():
                quant_pre_process(str(whole), str(prepared), skip_symbolic_shape=True)
                quantize_static(
                    str(prepared),
                    str(file),
                    Batches(),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    weight_type=QuantType.QInt8,
                    activation_type=QuantType.QInt8,
                )
        except Exception as error:
            raise _cannot(network, "onnxruntime.quantization", error) from error


def open_onnx(file: Path) -> Runner:
    """Run an ONNX file in ONNX Runtime on the CPU, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


def open_torch_export(file: Path) -> Runner:
    """Run a saved `torch.export` program."""
    with open(file, "rb") as f:
        module = torch.export.load(f).module()
    return torch.no_grad()(module)


@contextmanager
def _quiet():
    """The exporters speak at length of matters that the check of the file decides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _cannot(network: EmbeddingNetwork, tool: str, error: Exception) -> ReIDKitError:
    first = (str(error).strip().splitlines() or [""])[0]
    return ReIDKitError(
        f"{tool} cannot follow {network.net.name} on this backbone ({type(error).__name__}: {first}); "
        "docs/export.md lists what is known to work"
    )
