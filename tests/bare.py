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
        new = {canonicalize_name(r.name) for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})} - found
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
    return {package for package, owners in packages_distributions().items()
            if not present & {canonicalize_name(owner) for owner in owners}}  # fmt: skip


class Absent:
    """An import hook: these packages are not here."""

    def __init__(self, packages: set[str]):
        self.packages = packages

    def find_spec(self, name: str, path=None, target=None):
        if name.partition(".")[0] in self.packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def pytest_configure(config) -> None:
    """Nothing imported so far may be of use either."""
    packages = absent_packages()
    for name in [n for n in sys.modules if n.partition(".")[0] in packages]:
        del sys.modules[name]
    sys.meta_path.insert(0, Absent(packages))
