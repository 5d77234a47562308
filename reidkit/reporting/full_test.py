"""What it takes to test a suite of rows on a paper's own photographs: the column *full test* of docs/claims.md."""

from __future__ import annotations

import numpy as np

from reidkit.data.sets.published import PUBLISHED
from reidkit.reporting.report import has_paper_table, paper_table
from reidkit.training.recipes import recipe_for
from reidkit.training.suites import SUITES

SEEDS = 3


def full_test(suite: str) -> str:
    """What a test of a suite on the paper's first set of photographs takes: the command, its runs and images."""
    printed = [name for name in paper_table(suite).dataset.unique() if name] if has_paper_table(suite) else []
    name, rows = (printed or ["market1501"])[0], SUITES[suite]
    recipes = [recipe_for(row.variant, "paper", row.settings) for row in rows]
    starts = [recipe_for("ide", "paper")] if any(r.ide_init for r in recipes) else []
    split = PUBLISHED[name]["train"]
    labels = np.arange(split.images) % split.ids
    seen = sum(r.batches(labels) * r.batch_size for r in [*recipes, *starts])
    text = f"`reidkit reproduce {suite} --dataset {name} --root DIR`: {len(rows) * SEEDS} runs"
    text += f" and {SEEDS} of the IDE they start from" if starts else ""
    text += f", {SEEDS * seen / 1e6:,.0f} million training images"
    others = ", ".join(printed[1:])
    return text + (f"; the same on {others}" if others else "")
