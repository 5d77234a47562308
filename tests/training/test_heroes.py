"""`data_scripts/heroes.py`: what it trains is shipped together with the IDE before it; a failure ships nothing."""

import importlib.util
from pathlib import Path

import pytest

from reidkit.errors import ReIDKitError
from reidkit.models import VARIANTS
from reidkit.training import RunFolder, load_run, run_name
from reidkit.training.ship import HEROES


@pytest.fixture
def script(repo):
    spec = importlib.util.spec_from_file_location("heroes", repo / "data_scripts" / "heroes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_trains_and_ships(script, sidewalk_tiny, tmp_path):
    root, runs, out = Path(sidewalk_tiny.root).parent, tmp_path / "runs", tmp_path / "out"
    shipped = script.build(["mt-only"], root, runs, out, size="tiny", preset="smoke")
    assert [f.name for f in shipped] == [run_name(v, sidewalk_tiny, "smoke", 0) for v in ("mt-only", "ide")]
    assert all(load_run(folder).name == RunFolder(folder).read_settings()["variant"] for folder in shipped)


def test_a_failure_ships_nothing(script, sidewalk_tiny, tmp_path):
    root, runs, out = Path(sidewalk_tiny.root).parent, tmp_path / "runs", tmp_path / "out"
    other = runs / run_name("ide", sidewalk_tiny, "smoke", 0)
    other.mkdir(parents=True)
    (other / "recipe.json").write_text("no JSON")
    with pytest.raises(ReIDKitError, match=rf"{other.name}: .*recipe\.json"):
        script.build(["ide"], root, runs, out, size="tiny", preset="smoke")
    assert not out.exists()


def test_the_heroes_are_variants(script):
    assert set(HEROES) <= set(VARIANTS) and (script.SIZE, script.PRESET, script.SEED) == ("medium", "hero", 0)
