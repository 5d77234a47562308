"""The commands for Market-1501 that the README, the guide and notebook 04 print run as printed (preset smoke)."""

import re
import shlex

import numpy as np
import pytest
from market_folder import make_market_folder
from paths import REPO
from PIL import Image
from typer.testing import CliRunner

from reidkit.cli import app

TEXTS = ("README.md", "docs/guide.md", "notebooks/04_train_and_evaluate_mpn.py")
FOLDER = "Market-1501-v15.09.15"


def printed(text: str) -> list[str]:
    """Command lines about Market-1501, without the comments behind them; `...` stands in no command."""
    whole = re.sub(r"\\\n#?", "", (REPO / text).read_text())  # lines that end in a backslash go on
    lines = [re.split(r"\s+#", line.lstrip("# "))[0].strip() for line in whole.splitlines()]
    lines = [line for line in lines if re.match(r"reidkit \w+ .*market1501", line)]
    return [line for line in lines if "DIR" not in line]


def at_smoke(line: str) -> list[str]:
    """The same command small enough for a test: preset, grid of its images, one seed, no GPU, the copy's own label."""
    for pattern, new in (
        (r"--preset paper", "--preset smoke --device cpu --no-progress"),
        (r"--grid 24x8", "--grid 12x4"),
        (r"--seeds 3", "--seeds 1 --only baseline,baseline-ub,mpn --jobs 1"),
        (r"--workers 8", "--workers 0"),
        (r"runs/mpn-market1501-paper-s0", f"runs/mpn-{FOLDER}-other-smoke-s0 --no-progress"),
    ):
        line = re.sub(pattern, new, line)
    return shlex.split(line)[1:]


def write_maps(root, maps):
    """Parsing maps with head, body and legs, and masks, mirrored on the images."""
    for image in root.rglob("*.jpg"):
        width, height = Image.open(image).size
        labels = np.zeros((height, width), np.uint8)
        for first, last, label in ((0.05, 0.2, 13), (0.2, 0.55, 5), (0.55, 0.9, 9), (0.9, 0.97, 18)):
            labels[int(first * height) : int(last * height), width // 5 : -width // 5] = label
        for kind, values in (("parsing", labels), ("segmentation", (labels > 0).astype(np.uint8) * 255)):
            file = maps / kind / image.relative_to(root).with_suffix(".png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(file)


@pytest.mark.slow
@pytest.mark.parametrize("text", TEXTS)
def test_commands_run_as_printed(text, tmp_path, monkeypatch):
    commands = printed(text)
    if text != "docs/guide.md":
        assert len(commands) >= 5, "the text prints the way from a folder to the table"
    monkeypatch.chdir(tmp_path)
    root = make_market_folder(tmp_path / "data" / FOLDER)
    write_maps(root, tmp_path / "maps")
    for line in commands:
        result = CliRunner().invoke(app, at_smoke(line))
        own_counts = "data check" in line  # this folder is not the published one, and the check says so
        assert result.exit_code == (1 if own_counts else 0), f"{line}: {result.output} {result.exception}"
