"""A trained network as one file that runs without the kit: ONNX (fp32, fp16, int8) or a torch.export program.

    report = export_run("mpn-no-ca", "mpn.onnx")               # a run folder, or the name of a shipped network
    report = export_run("runs/NAME", "mpn.onnx", precision="int8", dataset=ds)

The file takes uint8 RGB images [B, 3, H, W], any B, and gives the embedding [B, D] that `extract_features` gives.
It is compared with PyTorch before it gets its name. `docs/export.md` says what works and how to use the file.
"""

from reidkit.export.network import EmbeddingNetwork
from reidkit.export.report import ExportReport
from reidkit.export.run import check_request, export_run, report_file
from reidkit.training.runs import find_run

__all__ = ["EmbeddingNetwork", "ExportReport", "check_request", "export_run", "find_run", "report_file"]
