"""Do part maps follow clothes? MPN Sec. 5.2.5 on arms, measured where the truth is known.

The paper says that MPN attends to upper arms, whose channels the second part selects; that it ignores lower arms where
people wear short sleeves, since bare skin tells nobody apart; and that it attends to them where sleeves are long.

    relative energy   the share of a map's sum on a region / the region's share of the image; 1 = no preference
    lower arms        its mean over the K maps of an image; people with long sleeves, with short ones, their difference
    upper arms        how often map k is the one with the largest share of its sum there; chance: 1 / K

People, not images, are drawn: images are averaged within a person first, and the 95 % intervals are of a bootstrap over
the people. Arms are those of `reidkit.data.sidewalk.dense`; a lower arm ends at the wrist, hands are bare on everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm.auto import tqdm

from reidkit.attention.cam import Method
from reidkit.attention.maps import part_attention
from reidkit.attention.measures import area, large_enough, part_energy, resized
from reidkit.attention.score_table import about, about_run, added, written
from reidkit.data.dataset import ReIDDataset
from reidkit.data.loaders import test_batches
from reidkit.data.sidewalk.dense import dense_maps, people_of
from reidkit.data.sidewalk.identity import Identity
from reidkit.data.texture import CHARTS
from reidkit.data.transforms import TestTransform
from reidkit.errors import PriorError, ReIDKitError
from reidkit.files import check_writable
from reidkit.models import ReIDModel
from reidkit.priors import PriorBatch, PriorTable

ARMS = ("lower", "upper")
SECOND = 2  # the part in which most upper arms lie, counted from 1 (MPN Fig. 5b)
DRAWS = 2000
SUMMARY = {"measure": str, "value": float, "low": float, "high": float, "people": int}  # columns of a summary


def sleeve_of(person: Identity | None) -> str:
    """ "long" or "short", as it is seen: a coat has long sleeves; "" for nobody."""
    return "" if person is None else "long" if person.outer == "coat" else person.sleeve


def arm_regions(ds: ReIDDataset, table: pd.DataFrame, size: Sequence[int]) -> dict[str, np.ndarray]:
    """{"lower": [N, H, W] bool, "upper": the same}: where the arms of the people on some images of Sidewalk are seen.

    size: (H, W). Empty where too little is seen to measure on (`MIN_AREA`). Raises DatasetError for photographs.
    """
    charts = np.stack([iuv[0] for iuv in dense_maps(ds, table)]).astype(int)
    names = np.array(["", *CHARTS])
    kinds = {arm: [i for i, name in enumerate(names) if f"{arm} arm" in name] for arm in ARMS}
    return {arm: large_enough(resized(np.isin(charts, kind), size)) for arm, kind in kinds.items()}


def arm_energy(maps: np.ndarray | Tensor, regions: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{arm: [N, K]} relative energy of K maps [N, K, H, W] on each arm's region [N, H, W].

    NaN for a blank map, and where the arm is not in the picture. Raises ReIDKitError for shapes that do not fit.
    """
    found = {}
    for arm, region in regions.items():
        one = region[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            found[arm] = part_energy(maps, one) / area(one)
    return found


def sleeve_table(
    model: ReIDModel,
    ds: ReIDDataset,
    table: pd.DataFrame,
    *,
    size: tuple[int, int],
    method: Method = "gradcam",
    priors: PriorTable | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> pd.DataFrame:
    """One row an image: pid, sleeve, lower_1 .. lower_K, upper_1 .. upper_K, the relative energy of map k on each arm.

    table: rows of Sidewalk `ds`; images of the empty street have no row. size: of the network's input, (height, width).
    Maps explain the predicted classes. priors: for a network that needs them at test time (else PriorError).
    """
    if model.needs_prior_at_test and priors is None:
        raise PriorError(f"{model.name} needs the priors of its test images: pass priors=")
    sleeves = [sleeve_of(person) for person in people_of(ds, table)]
    table = table.assign(sleeve=sleeves).loc[[bool(s) for s in sleeves]].reset_index(drop=True)
    regions, rows = arm_regions(ds, table, size), []
    shown = priors if model.needs_prior_at_test else None
    batches = test_batches(table, size=size, batch_size=batch_size, root=ds.root, priors=shown)
    for batch in tqdm(batches, desc=f"arms of {model.name}", unit="batch", disable=not progress):
        batch, at = TestTransform()(batch), batch.index.numpy()
        maps = part_attention(model, batch.images, method, cast("PriorBatch | None", batch.prior))
        energy = arm_energy(maps, {arm: region[at] for arm, region in regions.items()})
        named = {f"{arm}_{k + 1}": values[:, k] for arm, values in energy.items() for k in range(values.shape[1])}
        rows.append(table.loc[at, ["pid", "sleeve"]].assign(**named))
    return pd.concat(rows, ignore_index=True)


def sleeve_summary(images: pd.DataFrame, *, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """The numbers of the head of this file from a `sleeve_table`, one a row: measure, value, low, high, people.

    measure: lower_long, lower_short, lower_difference (long - short); upper_part_1 .. upper_part_K (share of images),
    upper_lead (the share of part 2 minus the largest of the others'). low, high: a 95 % interval.
    Raises ReIDKitError where nobody has long sleeves, or nobody short ones.
    """
    parts = sum(name.startswith("upper_") for name in images)
    lower, upper = (images.loc[:, [f"{arm}_{k + 1}" for k in range(parts)]] for arm in ARMS)
    means = images.assign(lower=lower.mean(axis=1)).groupby(["sleeve", "pid"]).lower.mean().dropna()
    known = {sleeve: means[means.index.get_level_values("sleeve") == sleeve].to_numpy() for sleeve in ("long", "short")}
    if missing := [sleeve for sleeve, people in known.items() if not len(people)]:
        raise ReIDKitError(f"nobody whose lower arms are seen has {' or '.join(missing)} sleeves: take more images")
    answered = upper.max(axis=1) > 0  # the arm is seen, and some map has evidence there
    best = np.eye(parts)[upper.loc[answered].fillna(-1).to_numpy().argmax(1)]  # [images, K]: 1 at the map with the most
    pids = np.asarray(images.loc[answered, "pid"])
    shares = np.asarray(pd.DataFrame(best).groupby(pids).mean())  # [people, K]
    rng, rows = np.random.default_rng(seed), []

    def add(measure: str, people: list[np.ndarray], statistic: Callable[..., float]) -> None:
        drawn = [statistic(*(p[rng.integers(len(p), size=len(p))] for p in people)) for _ in range(draws)]
        rows.append([measure, statistic(*people), *np.quantile(drawn, (0.025, 0.975)), sum(map(len, people))])

    for sleeve, people in known.items():
        add(f"lower_{sleeve}", [people], np.mean)
    add("lower_difference", [known["long"], known["short"]], lambda long, short: long.mean() - short.mean())
    for k in range(parts):
        add(f"upper_part_{k + 1}", [shares[:, k]], np.mean)
    if parts >= SECOND:
        add("upper_lead", [shares], _lead)
    return pd.DataFrame(rows, columns=["measure", "value", "low", "high", "people"])


def _lead(shares: np.ndarray) -> float:
    """How far part 2 is ahead of the best other part, of shares [people, K]; negative where it is behind."""
    means = shares.mean(0)
    return float(means[SECOND - 1] - np.delete(means, SECOND - 1).max())


def score_sleeves(
    run_dirs: Sequence[str | Path],
    ds: ReIDDataset,
    *,
    level: str = "strong",
    images: int = 200,
    method: Method = "gradcam",
    seed: int = 0,
    device: str = "cpu",
    out: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """`sleeve_summary` of finished runs on `images` queries of a test level of Sidewalk, drawn with `seed`.

    Columns: run, variant, seed, `weights` (the first digits of their SHA-256), level, method, images, data, `draw`
    (`seed`), those of the summary, `trained` (the commit that trained the run), commit, device and command. out: a CSV
    to which each run is added when it is done; runs that it holds with the same weights and settings are not computed
    again; its other rows stay, and are not returned. Raises CheckpointError for a folder that is no finished run,
    ReIDKitError for a CSV that is damaged or cannot be written.
    """
    from reidkit.provenance import provenance
    from reidkit.training.preflight import priors_for
    from reidkit.training.runs import RunFolder, load_run

    if out:
        check_writable(out)  # now, not after the first network
    query = ds.at_level(level).query
    table = query.sample(min(images, len(query)), random_state=seed).sort_index().reset_index(drop=True)
    out = Path(out) if out else None
    rows = written(out, SUMMARY)
    same = {"level": level, "method": method, "images": len(table), "data": ds.root.name, "draw": seed}
    asked = [(run, about_run(run, same)) for run in map(RunFolder, map(Path, run_dirs))]
    source = {key: value for key, value in provenance(device).items() if key in ("commit", "device", "command")}
    for run, this in asked:
        if about(rows, this):
            continue
        settings, recipe, model = run.read_settings(), run.recipe(), load_run(run.path).to(device)
        priors = None
        if model.needs_prior_at_test:
            priors = priors_for(model, ds.at_level(level), recipe, settings["prior_tool"], progress)
        how = {"size": recipe.size, "method": method, "priors": priors, "progress": progress}
        found = sleeve_summary(sleeve_table(model, ds, table, **how), seed=seed)
        trained = run.read_result().get("provenance", {}).get("commit")
        head = {"run": run.path.name, "variant": settings["variant"], "seed": settings["seed"], **this}
        found = pd.concat([pd.DataFrame([head] * len(found)), found], axis=1).assign(trained=trained, **source)
        new = found.to_dict("records")
        rows = added(out, new, this, SUMMARY) if out else [*rows, *new]
    return pd.DataFrame([row for _, this in asked for row in about(rows, this)])
