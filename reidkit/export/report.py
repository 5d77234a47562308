"""What an export did: the JSON beside the file, and the lines that the command prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from reidkit.evaluation.features import Flip
from reidkit.export.formats import Format, Precision


@dataclass(frozen=True)
class ExportReport:
    """One exported file.

    run, variant:   the run folder, and the variant that was trained there.
    file, sha256, bytes: the file; `to` ("onnx", "torch-export") and `precision` ("fp32", "fp16", "int8") say its kind.
    input, output:  name, shape (a word is a free dimension), dtype; for the input also channel order and resize.
    flip:           whether the mirror image is added inside: "none", "sum", "mean".
    max_difference: to PyTorch on Sidewalk images, relative to the largest entry of the embedding.
    calibration_images: training images that set the ranges of int8; 0 for other precisions.
    scores:         None where no data set was at hand, else dataset, level and {"pytorch", "exported", "change"}, each
                    with mAP and rank1 (fractions in [0, 1]; change = exported - pytorch).
    latency:        rows {"batch", "pytorch", "exported"}: median milliseconds a batch on the CPU.
    provenance:     command, commit, versions, device, threads.
    """

    run: str
    variant: str
    file: str
    sha256: str
    bytes: int
    to: Format
    precision: Precision
    input: dict[str, Any]
    output: dict[str, Any]
    flip: Flip
    max_difference: float
    calibration_images: int
    scores: dict[str, Any] | None
    latency: list[dict[str, Any]]
    provenance: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON keeps them."""
        return asdict(self)

    def __str__(self) -> str:
        height, width = self.input["shape"][2:]
        lines = [
            f"{self.file}: {self.variant}, {self.precision}, {self.bytes / 2**20:.2f} MB",
            f"  input  {self.input['name']} [B, 3, {height}, {width}] uint8 RGB; normalisation inside, "
            f"mirror image: {self.flip}",
            f"  output {self.output['name']} [B, {self.output['shape'][1]}] float32; compare by cosine",
            f"  largest difference to PyTorch: {self.max_difference:.1e} of the largest entry",
            self._score_line(),
            f"  median ms a batch, CPU, {self.provenance['threads']} thread(s)",
            f"    {'batch':>5s} {'PyTorch':>10s} {self._runtime:>14s}",
        ]
        lines += [f"    {row['batch']:5d} {row['pytorch']:10.2f} {row['exported']:14.2f}" for row in self.latency]
        return "\n".join(lines)

    @property
    def _runtime(self) -> str:
        return "ONNX Runtime" if self.to == "onnx" else "torch.export"

    def _score_line(self) -> str:
        if self.scores is None:
            return "  mAP and Rank-1: not measured; --root FOLDER (the run's data set) measures them"
        old, new, change = (self.scores[k] for k in ("pytorch", "exported", "change"))
        parts = [
            f"{label} {100 * old[k]:.2f} -> {100 * new[k]:.2f} ({100 * change[k]:+.2f})"
            for label, k in (("mAP", "mAP"), ("Rank-1", "rank1"))
        ]
        return f"  {', '.join(parts)} on {self.scores['dataset']}, {self.scores['level']}"
