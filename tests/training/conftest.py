"""A trained run, for tests of what it remembers and of what is refused."""

import pytest
from market_runs import start


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("market")
    root, result = start(path)
    assert result.exit_code == 0, result.exception
    return root, path / "r"
