"""Two networks, two variants or two sets of runs, level by level: A, B, their difference, and how sure it is.

    compare_runs      two trained networks on the same queries; the interval is over the people who are looked for
    compare_systems   two variants on the seeds that both have; the interval is over seeds (`report.paired_difference`)
    compare_results   two tables of results, row by row, likewise over seeds

The two intervals answer two questions. Over people: would *these two networks* stand the same way on other people?
Over seeds: would two *trainings* of these variants? Only the second one compares methods.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd

from reidkit.data import ReIDDataset
from reidkit.errors import ReIDKitError, one_of, unknown_name
from reidkit.evaluation.features import Flip
from reidkit.evaluation.forms import TestForm
from reidkit.evaluation.ranking import QUERY_METRICS
from reidkit.priors.source import Tool
from reidkit.provenance import command, device_name, git_commit
from reidkit.reporting.report import ordering
from reidkit.reporting.results import precision_of
from reidkit.reporting.verdicts import scales_of, with_settings
from reidkit.training.device import choose_device
from reidkit.training.evaluate import form_on, levels_of, rank_runs
from reidkit.training.record import trained_elsewhere
from reidkit.training.runs import RunFolder, find_run

WORDS = {"appears": "A better", "reversed": "B better"}  # of a verdict; the others stay as they are
LEVELS = ["row", "scale", "level", "a", "b", "difference", "low", "high", "n", "people", "verdict"]
QUERIES = ["level", "file", "pid", "ap_a", "ap_b", "difference", "first_a", "first_b", "matches"]
DRAWS = 2000
OVER_SEEDS = "means over the seeds that both have; A - B with a 95 % paired t interval over seeds"
FEW = 20  # people, of whom a bootstrap makes too short intervals


@dataclass(frozen=True)
class Comparison:
    """What `compare_runs`, `compare_systems` and `compare_results` return.

    a, b: what was compared, by name. metric: "mAP", ... about: how, in one sentence.
    levels: one row a level (and row of a table, and scale), columns `LEVELS`: a, b, difference (A - B), low, high (its
        95 % interval) in points (percent); n: queries or seeds; people: among them (0 over seeds); verdict: "A better"
        or "B better" where the interval leaves out zero, else "undecided", or why there is no interval.
    queries: of two runs one row a query that has a match, columns `QUERIES`: AP (fractions) and the rank of the first
        match, in A and in B; empty otherwise.
    notes: what makes the two less comparable than they look.
    device: where networks were tested; "" where numbers of a table were compared.
    """

    a: str
    b: str
    metric: str
    about: str
    levels: pd.DataFrame
    queries: pd.DataFrame
    notes: tuple[str, ...] = ()
    device: str = ""

    def changed(self, level: str, top: int = 5) -> pd.DataFrame:
        """The `top` queries of a level whose AP differs most, either way, the largest difference first."""
        part = self.queries.loc[(self.queries.level == level) & (self.queries.difference != 0)]
        return part.loc[part.difference.abs().sort_values(ascending=False, kind="stable").index].head(top)

    def saved(self) -> pd.DataFrame:
        """What `reidkit compare --save` writes: the queries of two runs, else the levels; with what they are of."""
        table = self.queries if len(self.queries) else self.levels
        source = {"commit": git_commit(), "device": self.device, "command": command()}
        return table.assign(name_a=self.a, name_b=self.b, metric=self.metric, about=self.about, **source)


def paired_interval(
    differences: np.ndarray, groups: np.ndarray, *, confidence: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of the mean of paired differences [Q], drawing groups [Q] (people), not single queries.

    Queries of one person are looked for among the same matches and succeed or fail together: drawn one by one they
    would make the interval too short. Each draw takes as many people as there are, with repetition and with all their
    queries; low and high are percentiles of the draws' means. NaN for one person. Of few people (some 20) it is short.
    """
    _, person = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(person, weights=differences), np.bincount(person)  # [P] each
    people = len(counts)
    if people < 2:
        return nan, nan
    drawn = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=draws)  # [draws, P]
    low, high = np.quantile((drawn @ sums) / (drawn @ counts), ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


def compare_runs(
    a: str | Path,
    b: str | Path,
    dataset: ReIDDataset,
    metric: str = "mAP",
    *,
    levels: Sequence[str] | None = None,
    flip: Flip | None = None,
    camera_rule: bool | None = None,
    prior_tool: Tool | None = None,
    device: str = "auto",
    cache: bool = True,
    workers: int = 0,
    progress: bool = True,
) -> Comparison:
    """Test two trained networks on the same queries; the interval is over people (`paired_interval`).

    a, b: run folders, or names of shipped networks (`find_run`). levels: of the data set, default all.
    metric: "mAP", "mINP" or "rank1". flip, camera_rule: None as the two recipes say (`form_on`).
    Raises ReIDKitError where A and B are one run, or would be tested in two forms; UnknownNameError for a level or
    metric that does not exist; the errors of `evaluate_run`.
    """
    metric = one_of("metric of a query", metric, QUERY_METRICS)
    runs = find_run(a), find_run(b)
    if runs[0].path.resolve() == runs[1].path.resolve():
        raise ReIDKitError(f"A and B are the same run, {runs[0].path}: every difference is zero; name two")
    chosen = [one_of(f"test level of {dataset.label}", level, levels_of(dataset)) for level in levels or ()]
    form = _one_form(runs, [form_on(run, dataset, flip=flip, camera_rule=camera_rule) for run in runs])
    how = {"levels": chosen or None, "device": device, "prior_tool": prior_tool}
    how |= {"cache": cache, "workers": workers, "progress": progress}
    found = rank_runs([run.path for run in runs], dataset, form, **how)
    rows, queries = [], []
    for level in found[0]:
        ds = dataset.at_level(level)
        pair = [ranked[level].per_query for ranked in found]
        kept = pair[0].matches > 0  # the same for both: queries and gallery are
        one, two = (ranked[level].of_queries(metric).to_numpy() for ranked in found)
        pids = ds.query.loc[kept.to_numpy(), "pid"].to_numpy()
        low, high = paired_interval(one - two, pids)
        numbers = [100 * v for v in (one.mean(), two.mean(), (one - two).mean(), low, high)]
        rows.append(["", dataset.label, level, *numbers, len(one), len(set(pids)), _word(low, high, "one person")])
        queries.append(_query_rows(ds, pair, kept.to_numpy()))
    return Comparison(
        a=_named(runs[0]),
        b=_named(runs[1]),
        metric=metric,
        about=f"{dataset.label}, {form}; A - B with a 95 % interval over people, {DRAWS:,} draws",
        levels=pd.DataFrame(rows, columns=LEVELS),
        queries=pd.concat(queries, ignore_index=True),
        notes=tuple(_notes(runs, dataset, min(row[-2] for row in rows))),
        device=device_name(choose_device(device)),
    )


def _named(run: RunFolder) -> str:
    """The run's folder, and what was trained there."""
    settings = run.read_settings()
    system = " ".join([settings["variant"], *(f"{k}={v}" for k, v in sorted((settings["changes"] or {}).items()))])
    return f"{run.path.name} ({system}, preset {settings['preset']}, seed {settings['seed']})"


def _one_form(runs: Sequence[RunFolder], forms: Sequence[TestForm]) -> TestForm:
    if forms[0] != forms[1]:
        told = " and ".join(f"{run.path.name} is tested with {form}" for run, form in zip(runs, forms))
        same = replace(forms[0], flip=forms[1].flip) == forms[1]
        way = "--flip or --no-flip" if same else "--no-camera-rule (and --flip or --no-flip)"
        raise ReIDKitError(f"{told}: numbers of two forms have no difference; test both in one with {way}")
    return forms[0]


def _query_rows(ds: ReIDDataset, pair: Sequence[pd.DataFrame], kept: np.ndarray) -> pd.DataFrame:
    """`QUERIES` of one level; files as paths below the data set's folder."""
    a, b = (table.loc[kept] for table in pair)
    q = ds.query.loc[kept]
    files = [Path(path).relative_to(ds.root).as_posix() for path in q.path]
    first = [table.first_hit_rank.astype(int).to_numpy() for table in (a, b)]
    columns = [ds.level, files, q.pid.to_numpy(), a.ap.to_numpy(), b.ap.to_numpy(), (a.ap - b.ap).to_numpy()]
    return pd.DataFrame(dict(zip(QUERIES, [*columns, *first, a.matches.to_numpy()])), columns=QUERIES)


def _word(low: float, high: float, without: str) -> str:
    if np.isnan(low):
        return without
    return "A better" if low > 0 else "B better" if high < 0 else "undecided"


def _notes(runs: Sequence[RunFolder], dataset: ReIDDataset, people: int) -> Iterator[str]:
    """What a reader must know of two runs before believing their difference."""
    settings = [run.read_settings() for run in runs]
    for key, why in {
        "preset": "recipe and length of training differ too, not the variant alone",
        "seed": "initial weights and batches differ too; two seeds of one variant differ as well",
    }.items():
        if settings[0][key] != settings[1][key]:
            yield f"A is of {key} {settings[0][key]}, B of {key} {settings[1][key]}: {why}"
    for name, setting in zip("AB", settings):
        if other := trained_elsewhere(setting, dataset):
            yield f"{name} was trained on {other}, both are tested on {dataset.label}"
    trained = [precision_of(setting) for setting in settings]
    if all(trained) and trained[0] != trained[1]:
        yield f"A was trained in {trained[0]}, B in {trained[1]}: every step was rounded differently, too"
    if runs[0].weights.read_bytes() == runs[1].weights.read_bytes():
        yield "A and B hold the same weights: one is a copy of the other"
    if people < FEW:
        yield f"{people} people are few: an interval of so few is shorter than it should be"


def compare_systems(results: pd.DataFrame, a: str, b: str, metric: str = "mAP") -> Comparison:
    """Two systems ("mpn", "mpn model.num_parts=4") on every data set, preset and level where both were run.

    results: a table of `report.collect_results`. Paired by seed; settings that both share on top of their names
    (another backbone, say) make a scale of their own. Raises UnknownNameError for a system without runs, ReIDKitError
    where A and B are one, or were nowhere run alike.
    """
    a, b = (with_settings(name, ()) for name in (a, b))
    if a == b:
        raise ReIDKitError(f"A and B are the same variant, {a}: every difference is zero; name two")
    t = _asked(results, metric)
    scales = [scales_of(t, system) for system in (a, b)]
    for system, found in zip((a, b), scales):
        if not found:
            raise unknown_name("variant with runs in the results", system, set(t["system"]))
    rows, notes = [], {}
    for dataset, preset, more in (s for s in scales[0] if s in scales[1]):
        names = [with_settings(system, more) for system in (a, b)]
        part = t.loc[(t.dataset == dataset) & (t.preset == preset) & t["system"].isin(names)]
        for level in dict.fromkeys(part.level):
            at = part.loc[part.level == level]
            pair = [at.loc[at["system"] == name] for name in names]
            if all(map(len, pair)):
                rows.append(["", " ".join([dataset, preset, *more]), level, *_over_seeds(pair, metric)])
                notes |= dict.fromkeys(_other_form(pair))
    if not rows:
        told = [", ".join(sorted({" ".join([d, p, *more]) for d, p, more in found})) for found in scales]
        raise ReIDKitError(f"{a} was run on {told[0]}, {b} on {told[1]}: there is no common ground to compare them on")
    return Comparison(a, b, metric, OVER_SEEDS, pd.DataFrame(rows, columns=LEVELS), _no_queries(), tuple(notes))


def compare_results(
    a: pd.DataFrame, b: pd.DataFrame, metric: str = "mAP", *, names: tuple[str, str] = ("A", "B")
) -> Comparison:
    """Two tables of `report.collect_results`, row by row: the same system, data set, preset and level in both.

    `results.collect_pair` reads them so that a data set's name means the same images in both. Paired by seed.
    names: what the two are called. Notes say which rows one table has alone. ReIDKitError where no row is in both.
    """
    keys = ["system", "dataset", "preset", "level"]
    groups = [
        {tuple(part[keys].iloc[0]): part for _, part in _asked(table, metric).groupby(keys, sort=False)}
        for table in (a, b)
    ]
    rows, notes = [], {}
    for system, dataset, preset, level in (key for key in groups[0] if key in groups[1]):
        pair = [found[system, dataset, preset, level] for found in groups]
        rows.append([system, f"{dataset} {preset}", level, *_over_seeds(pair, metric)])
        notes |= dict.fromkeys(_other_form(pair))
    alone = [dict.fromkeys(f"{k[0]} on {k[1]} {k[2]}" for k in groups[i] if k not in groups[1 - i]) for i in (0, 1)]
    if not rows:
        raise ReIDKitError(f"{names[0]} and {names[1]} have no row in common: {_few(alone[0])}; {_few(alone[1])}")
    notes |= {f"only in {name}: {_few(found)}": None for name, found in zip("AB", alone) if found}
    levels = pd.DataFrame(rows, columns=LEVELS)
    if (levels.difference == 0).all():
        notes["every number of A is the same in B"] = None
    return Comparison(*names, metric, OVER_SEEDS, levels, _no_queries(), tuple(notes))


def _few(names: Collection[str], most: int = 6) -> str:
    """The first names of many, and how many more there are."""
    return ", ".join([*list(names)[:most], *([f"and {len(names) - most} more"] if len(names) > most else [])])


def _other_form(pair: Sequence[pd.DataFrame]) -> Iterator[str]:
    """A note on two systems that were tested in two forms."""
    forms = [", ".join(sorted(set(table.form))) for table in pair]
    if forms[0] != forms[1]:
        yield f"tested differently, A with {forms[0]}, B with {forms[1]}: numbers of two forms have no difference"


def _asked(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of one metric, tested by the runs' own recipes, single shifts left out."""
    metric = one_of("metric", metric, dict.fromkeys(results["metric"]))
    return results.loc[(results.test == "ours") & (results.metric == metric) & results["shift"].isna()]


def _over_seeds(pair: Sequence[pd.DataFrame], metric: str) -> list:
    """From `a` on the entries of `LEVELS`, for two systems at one level; A and B are means over the common seeds."""
    common = set(pair[0].seed) & set(pair[1].seed)
    if not common:
        return [nan, nan, nan, nan, nan, 0, 0, "no common seed"]
    a, b = (table.loc[table.seed.isin(common)] for table in pair)
    both = pd.concat([a.assign(system="A"), b.assign(system="B")])
    found = ordering(both.assign(dataset="", preset="", level=""), [("A", "B")], metric).iloc[0]
    numbers = [100 * a.value.mean(), 100 * b.value.mean(), *found[["difference", "low", "high"]]]
    return [*numbers, len(common), 0, WORDS.get(found["verdict"], found["verdict"])]


def _no_queries() -> pd.DataFrame:
    return pd.DataFrame(columns=QUERIES)
