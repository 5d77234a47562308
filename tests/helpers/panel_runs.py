"""Tiny trained networks for the tests of panels: seconds to train, one of each kind."""

from pathlib import Path

# parts that look anywhere, fixed stripe groups in branches, a single part
SETTINGS = {
    "mpn-no-ca": {"model.part_dim": 16, "ide_init": False},
    "cgpn": {"model.reduced_dim": 16, "ide_init": False},
    "ide": {"model.part_dim": 16},
}


def tiny_runs(dataset, folder: Path) -> dict[str, Path]:
    """Train them under `folder`: {variant: run folder}."""
    from reidkit.training import recipe_for, train

    for name, changes in SETTINGS.items():
        recipe = recipe_for(name, "smoke", {**changes, "epochs": 1})
        train(name, dataset, recipe, folder / name, seed=0, device="cpu", preset="smoke", progress=False)
    return {name: folder / name for name in SETTINGS}
