"""Where a data set lies below the folder that the reader names, and what was moved out of it."""

from __future__ import annotations

import csv
import os
from pathlib import Path

MANIFEST = "quarantine.csv"
QUARANTINE = "quarantine"  # below the data set's root; the parsers of list files look there


def quarantined(root: str | Path) -> set[str]:
    """Absolute paths that were moved to `<root>/quarantine`; list files still name them."""
    manifest = Path(root) / QUARANTINE / MANIFEST
    if not manifest.is_file():
        return set()
    with manifest.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return {row["original"] for row in csv.DictReader(file) if os.path.lexists(row["moved_to"])}
