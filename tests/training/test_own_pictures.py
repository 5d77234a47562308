"""Pictures of your own, from the command line: trained, tested, compared, used; and what is refused."""

import json
import shutil

import pandas as pd
import pytest
from market_runs import FAST, SMOKE, call
from own_pictures import person_folders, save_person

from reidkit.data import load_dataset
from reidkit.errors import DatasetError
from reidkit.evaluation import evaluate_ranking, rank
from reidkit.training import evaluate_run, load_run, obtain_run, recipe_for, train

LIGHT = [*SMOKE, "--set", "precision=no", "--set", "ide_init=false"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of `ide` on a folder a person, made from the command line."""
    place = tmp_path_factory.mktemp("own")
    people = person_folders(place / "people", 14)
    with pytest.warns(UserWarning, match="people: nobody knows which camera took which picture"):
        result = call(
            "train", "ide", "--dataset", "folder", "--root", people, "--data", "queries=2", *LIGHT, "--run", place / "r"
        )
    assert result.exit_code == 0, result.exception
    return people, place / "r", result.output


def test_the_run_says_what_it_was_made_of(trained):
    people, run, said = trained
    recipe, result = (json.loads((run / f"{name}.json").read_text()) for name in ("recipe", "result"))
    assert recipe["source"] == {"name": "folder", "options": {"queries": 2}} and recipe["dataset"] == "people"
    assert recipe["recipe"]["camera_rule"] is False and result["test"]["camera_rule"] is False
    assert result["metrics"]["test"]["queries"] == 14 and "no camera rule" in said
    assert recipe["fingerprint"] == load_dataset("folder", root=people, queries=2).fingerprint()


def test_the_run_is_tested_and_goes_on(trained):
    _, run, _ = trained
    again = call("evaluate", run, "--device", "cpu", "--no-progress")
    assert again.exit_code == 0 and "ide on people, step AP, no camera rule" in again.output
    assert "14 queries" in again.output
    other = call("evaluate", run, "--data", "queries=1", "--device", "cpu", "--no-progress")
    assert "7 queries" in other.output
    assert call("train", "--resume", run, "--device", "cpu", "--no-progress").exit_code == 0
    wrong = call("train", "--resume", run, "--data", "queries=3", "--device", "cpu", "--no-progress")
    assert "--data queries=3 (the run has 2)" in str(wrong.exception)


def test_the_network_is_used_in_three_lines(trained):
    people, run, _ = trained
    net = load_run(run)
    features = net.extract([people / "p00" / "000.png", people])
    assert len(features) == 1 + 14 * 4 and rank(features[0], features[1:])[0] == 0


def test_the_usual_evaluator_sees_a_match_for_every_query(trained):
    """What a notebook types, cameras unknown or not."""
    people, run, _ = trained
    ds, net = load_dataset("folder", root=people, queries=2), load_run(run)
    r = evaluate_ranking(
        net.extract(ds.query), net.extract(ds.gallery), ds.query.pid, ds.gallery.pid, ds.query.camid, ds.gallery.camid
    )
    assert r.excluded == 0
    assert evaluate_run(run, ds, device="cpu", progress=False)["metrics"]["test"]["mAP"] == pytest.approx(r.mAP)


def test_a_network_of_other_images_is_tested_on_them(trained, tmp_path):
    """Trained with cameras, tested on a set without, and the other way round."""
    people, run, _ = trained
    table = pd.DataFrame({"path": sorted(f"{p.parent.name}/{p.name}" for p in people.glob("p*/*.png"))})
    table = table.assign(pid=table.path.str[:3], camid=["in", "out"] * 28)
    table.to_csv(people / "list.csv", index=False)
    result = call("train", "ide", "--dataset", "csv", "--root", people / "list.csv", *LIGHT, "--run", tmp_path / "r")
    assert result.exit_code == 0 and "no camera rule" not in result.output
    there = call(
        "evaluate", tmp_path / "r", "--dataset", "folder", "--root", people, "--device", "cpu", "--no-progress"
    )
    assert there.exit_code == 0 and "no camera rule" in there.output
    here = call("evaluate", run, "--dataset", "csv", "--root", people / "list.csv", "--device", "cpu", "--no-progress")
    assert here.exit_code == 0 and "step AP" in here.output and "no camera rule" not in here.output
    (people / "list.csv").unlink()


def test_notebooks_obtain_a_run(trained, tmp_path, monkeypatch):
    """Trained once, found again: `obtain_run` with a data set without cameras."""
    people, _, _ = trained
    ds = load_dataset(root="nowhere", **{"name": "folder", "path": str(people)})
    monkeypatch.setattr("reidkit.training.obtain.recipe_for", lambda name, preset: recipe_for(name, "smoke", FAST))
    first = obtain_run("ide", ds, runs=tmp_path, device="cpu", progress=False)
    monkeypatch.setattr("reidkit.training.obtain.train", lambda *a, **k: pytest.fail("trained again"))
    assert obtain_run("ide", ds, runs=tmp_path, device="cpu", progress=False) == first


def test_an_ablation(trained, tmp_path):
    people, _, _ = trained
    options = ["--dataset", "folder", "--root", people, "--data", "seed=1", "--only", "ide", "--seeds", 1, "--jobs", 1]
    result = call("ablate", "cgpn-table1", *options, *LIGHT, "--runs", tmp_path)
    assert result.exit_code == 0, result.output
    assert "1 runs finished" in result.output
    recipe = json.loads(next(tmp_path.glob("ide-*/recipe.json")).read_text())
    assert recipe["source"]["options"] == {"seed": 1} and recipe["recipe"]["camera_rule"] is False
    assert "people" in call("report", tmp_path).output


def test_what_cannot_be_trained(trained, tmp_path):
    people, _, _ = trained
    for i in range(3):
        save_person(tmp_path / "crops" / f"{i}.png", i)
    for arguments, message in (
        (("ide", "--root", tmp_path / "crops"), "crops: its 3 pictures in .* have no identities"),
        (("ide", "--root", people, "--data", "train_fraction=0"), "people: there is no training image"),
        (("ide", "--root", people, "--data", "fraction=1"), "unknown option of folder 'fraction'"),
        (("ide", "--root", people, "--data", "seed=x"), "setting seed='x': expected a whole number"),
        (("ide", "--root", people, "--data", "seed"), "--data 'seed': expected key=value, for example --data seed=1"),
        (("mpn-no-ca", "--root", people), "no priors of people .*\n(.*\n)+.*reidkit priors build folder --root"),
    ):
        name, *rest = arguments
        result = call("train", name, "--dataset", "folder", *rest, *LIGHT, "--run", tmp_path / "r")
        assert result.exit_code != 0
        with pytest.raises(type(result.exception), match=message):
            raise result.exception
        assert not (tmp_path / "r").exists()


def test_what_cannot_be_tested(trained, tmp_path):
    _, run, _ = trained
    save_person(tmp_path / "crops" / "1.png", 1)
    with pytest.raises(DatasetError, match="have no identities"):
        evaluate_run(run, load_dataset("folder", root=tmp_path / "crops"), device="cpu", progress=False)


def test_a_list_without_a_test_is_refused_before_the_work(trained, tmp_path):
    people, _, _ = trained
    shutil.copytree(people, tmp_path / "p")
    paths = sorted(f"{p.parent.name}/{p.name}" for p in (tmp_path / "p").glob("p*/*.png"))
    pd.DataFrame({"path": paths, "pid": [p[:3] for p in paths], "split": "train"}).to_csv(tmp_path / "p" / "l.csv")
    ds = load_dataset("csv", root=tmp_path / "p")
    with pytest.raises(DatasetError, match="p: 0 query and 0 gallery images of level 'test'; it needs both"):
        train("ide", ds, recipe_for("ide", "smoke", FAST), tmp_path / "r", device="cpu", progress=False)
