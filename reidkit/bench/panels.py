"""How long a panel takes to answer: process time from the moment a control has moved to the new picture.

The eight panels stand on random networks (weights change no time) and some test identities of Sidewalk. Every control
is moved to a few of its values and back. The first visit of a value may need the backbone; going back needs none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from reidkit.bench.clock import measure, using_threads
from reidkit.data import ReIDDataset, load_dataset
from reidkit.errors import ReIDKitError, unknown_name
from reidkit.models import create_model
from reidkit.priors import build_priors
from reidkit.training.recipes import recipe_for

if TYPE_CHECKING:
    from reidkit.panels.kit.base import Panel
    from reidkit.panels.kit.controls import Control

TARGET_MS = 200.0  # of process time an interaction: what is slower is felt as waiting
VARIANTS = ("mpn", "baseline", "cgpn", "ide")


def run(
    kinds: Sequence[str] | None = None,
    *,
    preset: str = "quick",
    root: str | None = None,
    size: str = "small",
    identities: int = 12,
    values: int = 3,
    progress: bool = True,
) -> dict[str, Any]:
    """Milliseconds of process time, on one thread, for each control of each panel.

    kinds: class names of panels, default all eight. preset: whose networks ("paper": ResNet-50). root, size: where the
    Sidewalk set lies (None: `data_root()`), and which. identities: of the test set. values: how many other values a
    control is moved to.
    Returns the target and rows {"panel", "control", "moves", "ms", "back_ms"}: the slowest of the moves, and of going
    back. Raises UnknownNameError for a panel that is none, ReIDKitError without ipywidgets or when a move fails.
    """
    try:
        import ipywidgets  # noqa: F401
    except ImportError as error:
        raise ReIDKitError("panels need ipywidgets: pip install ipywidgets") from error
    import reidkit.panels

    if values < 1:
        raise ReIDKitError(f"values={values}: move each control at least once")
    kinds = tuple(kinds or reidkit.panels.__all__)
    for kind in kinds:
        if kind not in reidkit.panels.__all__:
            raise unknown_name("panel", kind, reidkit.panels.__all__)
    dataset = load_dataset("sidewalk", root=root, size=size)
    rows = []
    with using_threads(1):
        panels = make_panels(kinds, dataset, preset, identities)
        for panel in tqdm(panels, total=len(kinds), desc="panels", disable=not progress):
            rows += [
                {"panel": type(panel).__name__, "control": name, **time_control(panel, name, values)}
                for name in panel.controls()
                if name not in panel.hidden()
            ]
    return {"target_ms": TARGET_MS, "preset": preset, "size": size, "threads": 1, "rows": rows}


def make_panels(kinds: Sequence[str], dataset: ReIDDataset, preset: str, identities: int) -> Iterator[Panel]:
    """The panels of these names, one after the other."""
    from reidkit import panels
    from reidkit.panels.kit.runs import PanelRun
    from reidkit.panels.kit.subset import subset

    torch.manual_seed(0)
    few, networks = subset(dataset, identities), {}
    for name in VARIANTS:
        recipe = recipe_for(name, preset, {"pretrained": False})
        model = create_model(name, dataset.num_train_ids, backbone=recipe.backbone, **recipe.model)
        networks[name] = PanelRun(name, model, recipe, few)
    grid = tuple(side // networks["mpn"].model.stride for side in networks["mpn"].size)
    pair, three = ({name: networks[name] for name in VARIANTS[:count]} for count in (2, 3))

    def k_sweep() -> Panel:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "priors.npz"
            priors = build_priors(few, grid=grid, splits=("query",), out=out, progress=False)
        return panels.KSweep(networks["ide"], few, priors=priors)

    make = {
        "PriorStepper": lambda: panels.PriorStepper.from_dataset(dataset, grid=grid),
        "AttentionPanel": lambda: panels.AttentionPanel(networks, few),
        "RankedList": lambda: panels.RankedList(pair, few),
        "MisalignmentSandbox": lambda: panels.MisalignmentSandbox(pair, few),
        "VariantComparator": lambda: panels.VariantComparator(three, few),
        "KSweep": k_sweep,
        "CGPNExplorer": lambda: panels.CGPNExplorer(networks["cgpn"], few),
        "LossPlayground": lambda: panels.LossPlayground(),
    }
    return (make[kind]() for kind in kinds)


def time_control(panel: Panel, name: str, values: int) -> dict[str, float]:
    """{"moves", "ms", "back_ms"} of one control, whose widget is shown: each value is visited once, from the start.

    A state that the panel refuses with a sentence (A and B are the same run) is no answer, and is left out.
    """
    assert panel.widget is not None  # the PNG file for the browser is part of the answer
    there, back, said = [], [], "no other value"
    for value in other_values(panel.controls()[name], getattr(panel, name), values):
        first = measure(lambda value=value: setattr(panel, name, value)).cpu
        said = panel.error
        returned = measure(panel.reset).cpu
        if said == "" and len(there) < values:
            there.append(first)
            back.append(returned)
    if not there:
        raise ReIDKitError(f"{type(panel).__name__}: {name} cannot be moved from its first value ({said})")
    return {"moves": len(there), "ms": round(1000 * max(there), 1), "back_ms": round(1000 * max(back), 1)}


def other_values(control: Control, value: Any, count: int) -> list[Any]:
    """Values of a control other than `value`: the ends of a slider and places between, `count` steps; every option."""
    from reidkit.panels.kit.controls import Choice, Slider

    if isinstance(control, Slider):
        places = round((control.high - control.low) / control.step)
        at = {round(i * places / count) for i in range(count + 1)}  # each place once
        found = [control.low + i * control.step for i in sorted(at)]
    elif isinstance(control, Choice):
        found = [option for _, option in control.options]
    else:
        found = [not value]
    return [v for v in found if v != value]
