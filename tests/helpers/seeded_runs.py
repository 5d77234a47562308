"""Small trained networks for the tests of panels, in about a second of CPU time each."""

from dataclasses import replace

from reidkit.reporting import report
from reidkit.training import recipe_for, train

PLAN = {
    "mpn-s0": ("mpn", 0, {}),
    "baseline-s0": ("baseline", 0, {}),
    "cgpn-s0": ("cgpn", 0, {}),
    "ide-s0": ("ide", 0, {}),
    "mpn-s1": ("mpn", 1, {}),
    "baseline-s1": ("baseline", 1, {}),
    "mpn-1-s0": ("mpn", 0, {"model.num_parts": 1}),
    "mpn-3-s0": ("mpn", 0, {"model.num_parts": 3}),
}


def train_runs(dataset, folder, names=tuple(PLAN)):
    """Train the named runs into `folder` / name; 16 channels a part, one epoch of three batches, one test level."""
    dataset = replace(dataset, levels={})
    for name in names:
        variant, seed, changes = PLAN[name]
        width = {"model.reduced_dim" if variant == "cgpn" else "model.part_dim": 16}
        recipe = recipe_for(variant, "smoke", {"ide_init": False, "epochs": 1, **width, **changes})
        train(variant, dataset, recipe, folder / name, seed=seed, device="cpu", preset="smoke", progress=False)
    return folder


def suite_names(folder):
    """What `collect_results` says of these runs, with the systems called as the suite mpn-fig7 calls them."""
    table, kept = report.collect_results(folder), {*(v for v, _, _ in PLAN.values()), "model.num_parts"}
    return table.assign(system=[" ".join(w for w in s.split() if w.split("=")[0] in kept) for s in table.system])
