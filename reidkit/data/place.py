"""Where data sets live when nobody says where: in one place, whatever the working directory."""

from __future__ import annotations

import os
from pathlib import Path

KIT = Path(__file__).resolve().parents[2]  # the repository, where the kit was not installed without it
VARIABLE = "REIDKIT_DATA"


def data_root() -> Path:
    """The folder that data sets lie below, an absolute path. It need not exist yet.

    The environment variable REIDKIT_DATA, where it is set; else `data/` of the repository that this package lies in;
    else, for a kit that was installed without its repository, `data/` in the working directory. So a notebook, a
    terminal and a script find the same images wherever they were started, and Sidewalk is rendered once.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser().absolute()
    return (KIT if (KIT / "pyproject.toml").is_file() else Path.cwd()) / "data"


def shown_root() -> Path:
    """`data_root()`, as short as it can be typed here: in the repository `data`, and printed commands say so."""
    root = data_root()
    try:
        return root.relative_to(Path.cwd())
    except (ValueError, FileNotFoundError):  # it lies elsewhere; the working directory is gone
        return root
