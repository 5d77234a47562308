"""Packages and programs that a machine may lack. There a test is skipped; in continuous integration it fails.

A test file that needs more than the kit's own dependencies says so before it imports them:

    from needs import need

    need("ipywidgets")
"""

import os
from importlib import import_module
from types import ModuleType

import pytest


def in_ci() -> bool:
    """Whether this is continuous integration (CI=true), where everything has to be there."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def need(package: str) -> ModuleType:
    """Import a package. Without it the file (or the test) that asks is skipped, or fails in continuous integration."""
    if in_ci():
        return import_module(package)
    return pytest.importorskip(package)


def missing(what: str) -> None:
    """Something other than a package is not here: skip the test, or fail it in continuous integration."""
    (pytest.fail if in_ci() else pytest.skip)(what)
