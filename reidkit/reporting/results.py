"""Finished runs as one long table.

A result is one row: run, system (the variant and what was changed in its recipe), data set, preset, seed,
test level, test and form (how it was tested: "ours" by the run's own recipe, "released" as the released code of MPN
does, "multi-query" likewise with all views of a query; the form says it in words, see `evaluation.forms`), metric,
value (a fraction in [0, 1]), and where it comes from: commit, device (with the precision of the training) and command.
The table can also be kept as a CSV.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd

from reidkit.errors import CheckpointError, ReIDKitError
from reidkit.evaluation.forms import TestForm
from reidkit.readers import read_table
from reidkit.training.runs import RunFolder

PROVENANCE = ["commit", "device", "command"]
COLUMNS = [
    "run",
    "system",
    "variant",
    "dataset",
    "preset",
    "seed",
    "level",
    "test",
    "form",
    "shift",
    "metric",
    "value",
    *PROVENANCE,
]
GROUP = ["system", "variant", "dataset", "preset", "level", "test", "form", "shift", "metric"]  # all but the seed
TEXTS = ("run", "system", "variant", "dataset", "preset", "level", "metric")
SAVED: dict[str, type] = {**dict.fromkeys(TEXTS, str), "seed": int, "shift": float, "value": float}  # of a CSV
MORE_TESTS = ("released", "multi-query")  # entries of result.json beside the run's own test
RESULT = "result.json"
NO_RUN = " (no result.json); train one with `reidkit train`"
NO_METRICS = ("queries", "by_shift", "camera_rule")  # entries of a level's metrics that are none


def collect_results(path: str | Path, tests: Sequence[str] = ("ours",)) -> pd.DataFrame:
    """All finished runs under a folder (itself and its sub-folders), or a CSV that this table was saved to.

    tests: "ours", and of `MORE_TESTS` those wanted of runs of the preset `paper`.

    Returns a DataFrame with the columns of `COLUMNS`; `shift` is NaN except for the controlled-shift queries,
    `value` a fraction. Where runs of one data set's name had other images, the name is followed by the first digits of
    the images' fingerprint, so that no number stands beside one of another set.
    Raises ReIDKitError where there is no finished run, a file cannot be read, or two runs stand for the same system,
    data set, preset and seed (no mean over seeds could be trusted then).
    """
    path = Path(path)
    return _wanted(_apart(_read_all(path)), path, tests)


def collect_pair(a: str | Path, b: str | Path, tests: Sequence[str] = ("ours",)) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`collect_results` of two places, where a data set's name means the same images in both.

    A CSV does not say which images its runs had: its data sets are known by name alone.
    """
    paths = Path(a), Path(b)
    tables = [_read_all(path).assign(place=i) for i, path in enumerate(paths)]
    both = _apart(pd.concat(tables, ignore_index=True))
    one, two = (_wanted(both.loc[both["place"] == i], path, tests) for i, path in enumerate(paths))
    return one, two


def readable_results(path: str | Path, tests: Sequence[str] = ("ours",)) -> tuple[pd.DataFrame, dict[str, str]]:
    """`collect_results` of the runs that can be read, and {run: why it is left out} of the others.

    Left out are unfinished and damaged runs, and all of several runs that stand for one system, data set, preset and
    seed. Raises ReIDKitError where nothing can be read, with every reason. A CSV is read as a whole or not at all.
    """
    path = Path(path)
    if path.suffix == ".csv" and path.is_file():
        return collect_results(path, tests), {}
    rows, left_out = [], {}
    for folder in sorted({file.parent for name in ("recipe.json", RESULT) for file in _files(path, name)}):
        if not (folder / RESULT).is_file():
            left_out[folder.name] = f"not finished; go on: reidkit train --resume {folder}"
            continue
        try:
            found = _rows(folder / RESULT)
            _check_fractions(pd.DataFrame(found, columns=[*COLUMNS, "images"]), folder / RESULT)
            rows += found
        except ReIDKitError as error:
            left_out[folder.name] = str(error)
    table = _apart(pd.DataFrame(rows, columns=[*COLUMNS, "images"]))
    left_out |= _doubles(table)
    table = table.loc[~table.run.isin(set(left_out))]
    if table.empty:
        told = "".join(f"\n  {run}: {why}" for run, why in left_out.items())
        raise ReIDKitError(f"{path} holds no run that can be read{':' + told if told else NO_RUN}")
    return _wanted(table, path, tests), left_out


def _files(path: Path, name: str) -> list[Path]:
    """The files of this name in a folder and in its sub-folders; not what is nested deeper."""
    return sorted([*path.glob(name), *path.glob(f"*/{name}")])


def _read_all(path: Path) -> pd.DataFrame:
    """`COLUMNS`, and the fingerprint of the images (None: not recorded), of every finished run, however tested."""
    if path.suffix == ".csv" and path.is_file():
        table = read_table(path, SAVED, missing=f"{path} is gone", remedy="write it with `reidkit report --save`")
        for column in {"test", "form", *PROVENANCE} & {*table.columns}:
            table[column] = table[column].astype(str).where(table[column].notna(), "")
        if "test" not in table and "form" not in table:  # written by an older kit
            table = table.assign(test="ours", form="form of the test not recorded")
        return _checked(table, path).loc[:, COLUMNS].assign(images=None)
    if not (files := _files(path, RESULT)):
        raise ReIDKitError(f"{path} holds no finished run{NO_RUN}")
    return pd.DataFrame([row for file in files for row in _rows(file)], columns=[*COLUMNS, "images"])


def _wanted(table: pd.DataFrame, path: Path, tests: Sequence[str]) -> pd.DataFrame:
    """The checked table of these tests alone, without the images' fingerprints."""
    table = _checked(table.loc[:, COLUMNS], path)
    return table.loc[table["test"].isin(tests)].reset_index(drop=True)


def no_results() -> pd.DataFrame:
    """The table of `collect_results` without a row, for pages that are written before the first run ends."""
    return pd.DataFrame(columns=COLUMNS).astype({"seed": int, "shift": float, "value": float})


def _rows(file: Path) -> list[list]:
    """The rows of one result.json: `COLUMNS`, and the fingerprint of its images (None: not recorded)."""
    try:
        r = RunFolder(file.parent).read_result()
        head = [file.parent.name, _system(r), r["variant"], _dataset(r), r["preset"], int(r["seed"])]
        tail = [*_provenance(r.get("provenance", {})), r.get("fingerprint")]
        tests = {"ours": (_form(r), r["metrics"])}
        for name in set(MORE_TESTS) & set(r):
            tests[name] = TestForm.from_dict(r[name]["test"]), r[name]["metrics"]
        return [
            [*head, level, test, str(form), float(shift), metric, float(value), *tail]
            for test, (form, found) in tests.items()
            for level, metrics in found.items()
            for shift, values in {nan: metrics, **metrics.get("by_shift", {})}.items()
            for metric, value in values.items()
            if metric not in NO_METRICS
        ]
    except (CheckpointError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise ReIDKitError(
            f"{file} is not a result of `reidkit train` ({type(e).__name__}: {e}); delete it or train the run again"
        ) from e


def _provenance(stored: dict) -> list[str]:
    """The cells of `PROVENANCE`. A device is followed by the precision of the training, where a run wrote it down."""
    cells = {key: str(stored.get(key, "")) for key in PROVENANCE}
    if precision := precision_of(stored):
        cells["device"] += f" ({precision})"
    return list(cells.values())


def precision_of(stored: Mapping[str, Any]) -> str:
    """What a run was trained in ("": not recorded): "auto" is bf16 on one CPU and float32 on the next.

    stored: its settings, or the provenance of its result.
    """
    precision = str(stored.get("precision") or "")
    return "float32" if precision == "no" else precision


def _apart(table: pd.DataFrame) -> pd.DataFrame:
    """Tell data sets of one name apart where their images, which a level's runs were trained and tested on, differ."""
    different = table.groupby(["dataset", "level"]).images.transform("nunique") > 1
    name = [
        f"{d} ({i[:8] if isinstance(i, str) else 'images not recorded'})" for d, i in zip(table.dataset, table.images)
    ]
    return table.assign(dataset=table["dataset"].mask(different, name))


def _form(result: dict) -> TestForm:
    """How a result was tested. Older kits did not write it down, but had one form only: step AP, the recipe's flip."""
    recipe = result.get("recipe") or {}
    return TestForm.from_dict(result.get("test") or {"flip": recipe.get("test_flip", "none")})


def _dataset(result: dict) -> str:
    """`sidewalk-small` instead of `sidewalk`: a number means nothing without the size of the set."""
    name, size = result["dataset"], result.get("dataset_info", {}).get("size")
    return f"{name}-{size}" if size and str(size) not in name else name


def _system(result: dict) -> str:
    """The variant's name, followed by the settings that differ from its preset: "mpn model.num_parts=4".

    A run says itself what was changed. One of an older kit does not: its recipe is held against the preset.
    """
    from reidkit.training.ide import own_changes
    from reidkit.training.recipes import PRESETS, Recipe

    changes = result.get("changes")
    if changes is None and result.get("recipe") is not None:
        if result["preset"] not in PRESETS:
            return f"{result['variant']} (preset {result['preset']})"
        changes = own_changes(result["variant"], Recipe.from_dict(result["recipe"]), result["preset"])
        changes.pop("precision", None)  # older kits wrote what "auto" became
    if changes is not None and result["preset"] not in PRESETS:
        return f"{result['variant']} (preset {result['preset']})"
    return " ".join([result["variant"], *(f"{k}={v}" for k, v in sorted((changes or {}).items()))])


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    if missing := set(COLUMNS) - set(table.columns):
        raise ReIDKitError(f"{path} lacks the columns {sorted(missing)}; write it from `collect_results`")
    _check_fractions(table, path)
    for told in _doubles(table).values():
        raise ReIDKitError(f"{path}: {told}")
    return table


def _check_fractions(table: pd.DataFrame, path: Path) -> None:
    if len(wrong := table.loc[~((table["value"] >= 0) & (table["value"] <= 1))]):
        value = wrong[["run", "metric", "value"]].iloc[0].to_dict()
        raise ReIDKitError(f"{path}: {value} is no fraction from 0 to 1; write it from `collect_results`")


def _doubles(table: pd.DataFrame) -> dict[str, str]:
    """{run: what is wrong} of every run that is not the only one of its system, data set, preset and seed."""
    twice, found = table.loc[table.duplicated([*GROUP, "seed"], keep=False)], {}
    for (system, dataset, preset, seed), part in twice.groupby(["system", "dataset", "preset", "seed"], sort=False):
        runs = sorted(set(part.run))
        told = f"several runs of {system!r} on {dataset}, preset {preset}, seed {seed}: {', '.join(runs)}"
        found |= dict.fromkeys(runs, f"{told}. Keep one of them")
    return found


def mean_spread(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and sample standard deviation over seeds of every system, data set, preset, level and metric.

    Adds the columns `mean`, `sd` (NaN for one seed) and `n`, the number of seeds.
    """
    grouped = results.groupby(GROUP, dropna=False, sort=False)["value"]
    return grouped.agg(mean="mean", sd="std", n="count").reset_index()
