"""constraints.txt: the versions that were measured are versions that the kit accepts."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from paths import REPO

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
GROUPS = {"dependencies": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
WANTED = [Requirement(text) for name, group in GROUPS.items() if name != "all" for text in group]


@pytest.mark.parametrize("requirement", WANTED, ids=lambda r: r.name)
def test_every_direct_dependency_is_pinned_within_its_range(requirement):
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (REPO / "constraints.txt").read_text(), flags=re.M))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    pinned = pins.get(canonicalize_name(requirement.name), "no version")
    assert pinned != "no version" and requirement.specifier.contains(pinned, prereleases=True), pinned
