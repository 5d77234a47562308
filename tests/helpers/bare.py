"""A machine with the kit's bare dependencies: no JupyterLab, no ipywidgets, no grad-cam, nothing to draw with.

As a pytest plugin (`-p bare`) it makes every other package of this machine impossible to import.
"""

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from paths import REPO

DRAWING = {"matplotlib"}  # a dependency, of figures alone: whoever only trains and evaluates does without


def needed(names: set[str]) -> set[str]:
    """These distributions and all that they need, by canonical name."""
    found, new = set(), {canonicalize_name(name) for name in names}
    while new:
        found |= new
        wanted = [Requirement(text) for name in new for text in _requires(name)]
        wanted = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
        new = {canonicalize_name(r.name) for r in wanted} - found
    return found


def _requires(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []


def absent_packages() -> set[str]:
    """Top-level packages that are installed here, and that neither the kit's dependencies nor pytest need."""
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    kit = {Requirement(text).name for text in project["dependencies"]} - DRAWING
    present = needed(kit | {"pytest"}) | {"reidkit", "setuptools", "pip"}
    return {
        package
        for package, owners in packages_distributions().items()
        if not present & {canonicalize_name(owner) for owner in owners}
    }


class Hiding:
    """An import finder that does not find these packages."""

    def __init__(self, finder, packages: set[str]):
        self.finder, self.packages = finder, packages

    def find_spec(self, name: str, path=None, target=None):
        return None if name.partition(".")[0] in self.packages else self.finder.find_spec(name, path, target)

    def __getattr__(self, name: str):
        return getattr(self.finder, name)


def hide(packages: set[str]) -> None:
    """Make packages impossible to import from now on, as if they were not installed."""
    for name in [n for n in sys.modules if n.partition(".")[0] in packages]:
        del sys.modules[name]
    sys.meta_path[:] = [Hiding(finder, packages) for finder in sys.meta_path]


def pytest_configure(config) -> None:
    hide(absent_packages())
