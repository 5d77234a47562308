"""`reidkit train ide` on a small folder in Market-1501's layout, as a user types it."""

from market_folder import make_market_folder
from typer.testing import CliRunner

from reidkit.cli import app

SMOKE = ["--preset", "smoke", "--no-progress", "--device", "cpu"]
FAST = {"precision": "no", "ide_init": False, "epochs": 1, "batches_per_epoch": 1, "num_ids": 3}


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def start(tmp_path, folder="a", run="r", *more, **make):
    """`reidkit train ide` on a small folder in Market-1501's layout."""
    root = make_market_folder(tmp_path / folder, **make)
    result = call(
        "train",
        "ide",
        "--dataset",
        "market-layout",
        "--root",
        root,
        *SMOKE,
        "--set",
        "precision=no",
        "--run",
        tmp_path / run,
        *more,
    )
    return root, result
