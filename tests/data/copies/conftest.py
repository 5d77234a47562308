"""A small copy of Market-1501."""

import layouts
import pytest

from reidkit.data import load_dataset


@pytest.fixture
def market(tmp_path):
    layouts.write_market(tmp_path / "market1501")
    return load_dataset("market1501", root=tmp_path)
