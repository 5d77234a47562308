"""The numbers of two runs side by side, on every level of a data set: what the variant comparator shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch

from reidkit.attention import attention_from_maps
from reidkit.data import ReIDDataset
from reidkit.data.transforms import normalize
from reidkit.errors import ReIDKitError
from reidkit.evaluation import RankingResult, evaluate_ranking, top_k
from reidkit.panels.kit.interval import Seeds, read_results, run_row, seed_differences
from reidkit.panels.kit.runs import PanelRun, Recent, open_runs
from reidkit.priors import PriorTable


class Pair:
    """Mixed into a panel with the traits a and b (names of runs), level and metric; a state holds their values."""

    a: Any
    b: Any
    level: Any
    metric: Any

    def open(
        self,
        runs: Mapping[str, str | Path | PanelRun] | Sequence[str | Path | PanelRun],
        dataset: ReIDDataset,
        results: pd.DataFrame | str | Path | None,
        priors: PriorTable | None,
    ) -> None:
        """Open the runs and find their rows in the results. Raises ReIDKitError for fewer than two runs."""
        self.runs, self.dataset = open_runs(runs, dataset, priors), dataset
        if len(self.runs) < 2:
            raise ReIDKitError(f"a comparison needs two runs, got {list(self.runs)}: train another variant")
        folders = {name: run.weights.parent for name, run in self.runs.items() if run.weights is not None}
        self.results = read_results(results, list(folders.values()))
        self.rows = {name: run_row(self.results, folder.name) for name, folder in folders.items()}
        self.tests = levels_of(dataset)
        self._recent, self._maps = Recent(512), Recent(48)

    def _clearest(self) -> str:
        """The level on which A is furthest ahead of B by the results; the data set's own where they do not say."""
        found = self._by_level(SimpleNamespace(a=self.a, b=self.b, metric=self.metric))
        known = {level: found[level] for level in self.tests if level in found}
        return max(known, key=lambda level: known[level]) if known else self.dataset.level

    def ranking(self, name: str, level: str | None = None) -> RankingResult:
        """All queries of one run against the gallery of a level (default: the chosen one)."""
        run, level = self.runs[name], level or str(self.level)
        q, g = self.tests[level]
        ids = (q.pid, g.pid, q.camid, g.camid)

        def make() -> RankingResult:
            qf, gf = (run.features(table).flatten(1) for table in (q, g))  # [Q, D], [G, D]
            return evaluate_ranking(qf, gf, *ids, junk_pids=self.dataset.junk_pids)

        return self._recent(("ranking", name, level), make)

    def _valid(self) -> int:
        """How many queries have a true match (the same for every run)."""
        level = self.level if self.level in self.tests else self.dataset.level
        return int((self.ranking(next(iter(self.runs)), level).per_query.matches > 0).sum())

    def differences(self, state) -> pd.Series:
        """A - B for every query that has a match, the largest gain first; the index is the row of the query."""

        def value(name: str) -> pd.Series:
            return self.ranking(name, state.level).of_queries(state.metric)

        def make() -> pd.Series:
            if state.a == state.b:
                raise ReIDKitError(f"A and B are both {state.a!r}: choose two different runs")
            return (value(state.a) - value(state.b)).sort_values(ascending=False, kind="stable")

        return self._recent(("differences", state.a, state.b, state.level, state.metric), make)

    def seeds(self, state) -> Seeds:
        """The same difference over seeds, from the results."""
        return self._recent(
            ("seeds", state.a, state.b, state.level, state.metric),
            lambda: seed_differences(
                self.results, self.rows.get(state.a), self.rows.get(state.b), state.metric, state.level
            ),
        )

    def _by_level(self, state) -> dict[str, float]:
        """{level of the results: A - B on its whole test set, in points, the mean over seeds}."""
        a, b = self.rows.get(state.a), self.rows.get(state.b)
        known = [] if a is None or b is None else dict.fromkeys(self.results.loc[self.results.run == a.run, "level"])
        found = {level: seed_differences(self.results, a, b, state.metric, level).difference for level in known}
        return {level: 100 * d.mean for level, d in found.items() if d}

    def levels(self, state) -> str:
        """On which levels A is ahead of B, and on which it is not, with the differences in points."""
        found = self._by_level(state)
        ahead, behind = (
            ", ".join(f"{level} {d:+.1f}" for level, d in found.items() if (d > 0) == sign) for sign in (True, False)
        )
        words = [f"ahead on {ahead}" if ahead else "", f"not ahead on {behind}" if behind else ""]
        return "A is " + "; ".join(filter(None, words)) if found else "not known"

    def ranked_list(self, name: str, query: int, length: int, level: str | None = None) -> pd.DataFrame:
        """The first gallery images of one query."""
        run, level = self.runs[name], level or str(self.level)
        table, g = self.tests[level]
        q = table.iloc[query]
        feature = run.features(table)[query].flatten()  # [D]
        ids = {"q_pid": q.pid, "q_camid": q.camid, "g_pids": g.pid, "g_camids": g.camid}

        def make() -> pd.DataFrame:
            return top_k(feature, run.features(g).flatten(1), 8, **ids, junk_pids=self.dataset.junk_pids)

        return self._recent(("list", name, level, query), make)[:length]

    def part_maps(self, name: str, path: str) -> torch.Tensor:
        """[K, H, W] in [0, 1]: where the K part classifiers look on an image."""
        run = self.runs[name]
        return self._maps(
            (name, path),
            lambda: attention_from_maps(
                run.model, run.maps(path), normalize(run.image(path)[None]), prior=run.prior(path)
            )[0],
        )

    def part_matches(self, name: str, query: int, level: str | None = None) -> torch.Tensor:
        """[K] cosine similarity of the query's part features and those of the first image of its list."""
        run, level = self.runs[name], level or str(self.level)
        queries, gallery = self.tests[level]
        first = self.ranked_list(name, query, 1, level).gallery_index.iloc[0]
        pair = run.features(queries)[query], run.features(gallery)[first]  # [K, d] each
        return torch.nn.functional.cosine_similarity(*pair, dim=1)


def levels_of(dataset: ReIDDataset) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """{level: (query, gallery)} of a data set, without those that show one person several times (`shift`)."""
    levels = {dataset.level: (dataset.query, dataset.gallery), **dataset.levels}
    return {level: (query, gallery) for level, (query, gallery) in levels.items() if "shift" not in query}
