"""The eight panels on small trained networks, made once for all files of this folder."""

import pytest
from needs import need
from seeded_runs import suite_names, train_runs

import reidkit.panels


@pytest.fixture(scope="session")
def runs(sidewalk_tiny, tmp_path_factory):
    """Folder of small runs: two variants with two seeds each, MPN with 1 and 3 parts, CGPN, and IDE."""
    return train_runs(sidewalk_tiny, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def results(runs):
    """What the runs scored, one row a run, metric and test level."""
    return suite_names(runs)


@pytest.fixture(scope="session")
def networks(runs):
    """{name: run folder} of parts that look anywhere, fixed stripe groups in branches, and a single part."""
    return {name: runs / f"{name}-s0" for name in ("mpn", "cgpn", "ide")}


class Panels(dict):
    """{class name: the panel}, each made when it is asked for."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def __missing__(self, kind):
        self[kind] = self.make[kind](getattr(reidkit.panels, kind))
        return self[kind]


@pytest.fixture(scope="session")
def panels(runs, networks, results, sidewalk_tiny):
    """One panel of each kind; tests put back what they move."""
    from reidkit.priors import build_priors

    for package in ("ipywidgets", "anywidget", "pytorch_grad_cam"):
        need(package)
    ds = sidewalk_tiny
    three = [runs / f"{name}-s0" for name in ("mpn", "baseline", "cgpn")]
    return Panels(
        {
            "PriorStepper": lambda kind: kind.from_dataset(ds, grid=(12, 4), count=6),
            "AttentionPanel": lambda kind: kind(networks, ds, count=8),
            "RankedList": lambda kind: kind(networks, ds, checks=4),
            "MisalignmentSandbox": lambda kind: kind(networks, ds, count=6),
            "VariantComparator": lambda kind: kind(three, ds, results, level=ds.level),
            "KSweep": lambda kind: kind(
                networks["ide"], ds, results, priors=build_priors(ds, grid=(12, 4), splits="all", progress=False)
            ),
            "CGPNExplorer": lambda kind: kind(networks["cgpn"], ds),
            "LossPlayground": lambda kind: kind(),
        }
    )
