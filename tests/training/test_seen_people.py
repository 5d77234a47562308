"""A test on people whom the run was trained on is told from one on strangers, however the data set was opened."""

import shutil
import warnings

import pytest
from market_folder import make_market_folder
from market_runs import FAST, SMOKE, call
from own_pictures import person_folders

from reidkit.data import load_dataset
from reidkit.training import RunFolder, evaluate_run, recipe_for, train
from reidkit.training.seen import training_images

LIGHT = [*SMOKE, "--set", "precision=no", "--set", "num_ids=3", "--set", "epochs=1", "--set", "batches_per_epoch=1"]
pytestmark = pytest.mark.filterwarnings("ignore:.*nobody knows which camera")


@pytest.fixture(scope="module")
def two_splits(tmp_path_factory):
    """(folder of people, run of its split by seed 0, run of its split by seed 1)."""
    place = tmp_path_factory.mktemp("seen")
    people = person_folders(place / "people", 12)
    for seed in (0, 1):
        order = ["train", "ide", "--dataset", "folder", "--root", people, "--data", f"seed={seed}", *LIGHT]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert call(*order, "--run", place / f"folk{seed}").exit_code == 0
    return people, place / "folk0", place / "folk1"


def shared(people, **options) -> tuple[int, int]:
    """(people of the training by seed 0 that another division tests on, all that it tests on), counted by name."""
    trained = set(load_dataset("folder", root=people, seed=0).train.person)
    tested = set(load_dataset("folder", root=people, **options).gallery.person)
    return len(trained & tested), len(tested)


@pytest.mark.parametrize("options", [{"seed": 1}, {"train_fraction": 0}])
def test_another_split_warns_and_counts(two_splits, options):
    people, run, _ = two_splits
    seen, tested = shared(people, **options)
    assert seen
    typed = [word for key, value in options.items() for word in ("--data", f"{key}={value}")]
    message = rf"{4 * seen} of {4 * tested} test images of people show people .*: {seen} of {tested} people.*run folk0"
    with pytest.warns(UserWarning, match=message):
        said = call("evaluate", run, *typed, "--device", "cpu", "--no-progress").output
    assert "trained on another split of people" in said
    with pytest.warns(UserWarning, match=message):
        result = evaluate_run(run, load_dataset("folder", root=people, **options), device="cpu", progress=False)
    assert result["seen_in_training"] == 4 * seen


def test_compare_names_the_run_that_knows_the_people(two_splits):
    people, folk, other = two_splits
    order = ["compare", folk, other, "--dataset", "folder", "--root", people, "--device", "cpu", "--no-progress"]
    with pytest.warns(UserWarning, match="run folk1") as said:
        assert call(*order).exit_code == 0
    assert not any("run folk0" in str(warning.message) for warning in said)


def test_a_copy_of_the_folder_and_a_moved_one_are_known_too(two_splits, tmp_path):
    people, run, _ = two_splits
    copy = shutil.copytree(people, tmp_path / "copied")
    with pytest.warns(UserWarning, match="people this run was trained on"):
        evaluate_run(run, load_dataset("folder", root=copy, seed=1), device="cpu", progress=False)


def test_the_people_of_a_validation_run_held_out_are_strangers(tmp_path):
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "a", train_ids=10))
    held, recipe = ds.validation_split(), recipe_for("ide", "smoke", FAST)
    how = {"device": "cpu", "preset": "smoke", "progress": False}
    train("ide", ds, recipe, tmp_path / "whole", **how)
    train("ide", held, recipe, tmp_path / "rest", **how)
    with pytest.warns(UserWarning, match="people this run was trained on"):
        evaluate_run(tmp_path / "whole", held, device="cpu", progress=False)
    assert training_images(RunFolder(tmp_path / "rest").read_settings(), ds) == held.train.path.tolist()
    assert evaluate_run(tmp_path / "rest", ds, device="cpu", progress=False)["seen_in_training"] == 0


def test_an_ordinary_test_lists_nothing_again(two_splits, monkeypatch, recwarn):
    people, run, _ = two_splits
    monkeypatch.setattr("reidkit.training.seen.load_dataset", lambda *a, **k: pytest.fail("listed again"))
    result = evaluate_run(run, load_dataset("folder", root=people, seed=0), device="cpu", progress=False)
    assert result["seen_in_training"] == 0 and not any("trained on" in str(w.message) for w in recwarn)


def test_nothing_is_rendered_to_be_compared(two_splits, tmp_path):
    people, _, _ = two_splits
    ds = load_dataset("folder", root=people)
    settings = {"source": {"name": "sidewalk", "options": {"size": "tiny"}}, "root": str(tmp_path), "level": "mild"}
    assert training_images(settings, ds) is None and not list(tmp_path.iterdir())
