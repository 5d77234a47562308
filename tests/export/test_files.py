"""Networks as files: the file is the network, says what it costs, and one that is not the network is refused."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from needs import need
from paths import REPO
from seeded_runs import train_runs
from typer.testing import CliRunner

from reidkit.cli import app
from reidkit.data.images import read_image
from reidkit.errors import CheckpointError, ReIDKitError, UnknownNameError
from reidkit.evaluation import TestForm, evaluate_ranking, extract_features
from reidkit.export import check, export_run, find_run, formats, report_file
from reidkit.models import VARIANTS, create_model
from reidkit.training import load_run, recipe_for, train

needs_onnx = pytest.mark.skipif(not all(map(formats._importable, formats.PACKAGES)), reason="no onnx")


@pytest.fixture(scope="module")
def runs(sidewalk_tiny, tmp_path_factory):
    """mpn-s0 and cgpn-s0 (whose recipe adds the mirror image), trained for an epoch."""
    return train_runs(sidewalk_tiny, tmp_path_factory.mktemp("runs"), ("mpn-s0", "cgpn-s0"))


@pytest.fixture(autouse=True)
def short_timing(monkeypatch):
    """Latency is printed, not tested."""
    plain = check._median_ms
    monkeypatch.setattr(check, "_median_ms", lambda run, images, seconds: plain(run, images, 0.0))


def run_onnx(file, images):
    """ONNX Runtime by hand."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["embedding"], {"images": images})[0])


def wanted_features(run, table):
    recipe = find_run(run).recipe()
    return extract_features(load_run(run), table, size=recipe.size, flip=recipe.test_flip, progress=False)


def pictures(run, table):
    return np.stack([read_image(p, find_run(run).recipe().size) for p in table.path])


@needs_onnx
@pytest.mark.parametrize("name", ["mpn-s0", "cgpn-s0"])
def test_onnx_file_is_the_network(runs, sidewalk_tiny, tmp_path, name):
    import onnx

    out = tmp_path / "new folder" / "net.onnx"
    report = export_run(runs / name, out, progress=False)
    table = sidewalk_tiny.query.head(7)
    images, wanted = pictures(runs / name, table), wanted_features(runs / name, table)
    for count in (1, 2, 7):
        torch.testing.assert_close(run_onnx(out, images[:count]), wanted[:count], rtol=1e-4, atol=1e-4)
    assert report.max_difference <= 1e-4 and report.scores is None
    assert report.flip == {"mpn-s0": "none", "cgpn-s0": "mean"}[name]
    graph = onnx.load(out).graph
    (images_in,), (embedding,) = graph.input, graph.output
    shape = [d.dim_param or d.dim_value for d in images_in.type.tensor_type.shape.dim]
    assert shape == report.input["shape"] == ["batch", 3, 96, 32]
    assert images_in.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert (images_in.name, embedding.name) == ("images", "embedding")
    assert report.output["shape"] == ["batch", wanted.shape[1]]
    assert not [i.name for i in graph.initializer if "classifier" in i.name or "aux" in i.name]
    assert {p.name for p in out.parent.iterdir()} == {"net.onnx", "net.onnx.json"}  # weights inside, nothing left over
    assert json.loads(report_file(out).read_text()) == json.loads(json.dumps(report.as_dict()))
    assert report.sha256 == hashlib.sha256(out.read_bytes()).hexdigest() and report.bytes == out.stat().st_size
    assert {"onnx", "onnxruntime", "torch", "commit"} <= set(report.provenance)
    assert [row["batch"] for row in report.latency] == [1, 16]
    assert all(word in str(report) for word in ("uint8", "not measured", "ONNX Runtime"))


@needs_onnx
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_files_say_what_they_cost(runs, sidewalk_tiny, tmp_path, precision):
    import onnx

    ds, run = replace(sidewalk_tiny, levels={}), runs / "mpn-s0"
    report = export_run(run, tmp_path / "small.onnx", precision=precision, dataset=ds, progress=False)
    graph = onnx.load(tmp_path / "small.onnx").graph
    kinds = {i.data_type for i in graph.initializer if "conv" in i.name and len(i.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.INT8}
    assert report.calibration_images == (min(len(ds.train), 128) if precision == "int8" else 0)
    assert 0 < report.max_difference < 0.5

    def rank(qf, gf):
        r = evaluate_ranking(qf, gf, ds.query.pid, ds.gallery.pid, ds.query.camid, ds.gallery.camid)
        return {"mAP": r.mAP, "rank1": r.cmc[0]}

    tables = ds.query, ds.gallery
    pytorch = rank(*(wanted_features(run, t) for t in tables))
    exported = rank(*(run_onnx(tmp_path / "small.onnx", pictures(run, t)) for t in tables))
    assert report.scores["pytorch"] == pytest.approx(pytorch, abs=0.003)
    assert report.scores["exported"] == pytest.approx(exported, abs=0.003)
    for key in ("mAP", "rank1"):
        change = report.scores["exported"][key] - report.scores["pytorch"][key]
        assert report.scores["change"][key] == pytest.approx(change)
    assert "mAP" in str(report) and ds.label in str(report)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_torch_export_program(runs, sidewalk_tiny, tmp_path, precision):
    out = tmp_path / "net.pt2"
    report = export_run(runs / "cgpn-s0", out, to="torch-export", precision=precision, progress=False)
    table = sidewalk_tiny.query.head(3)
    found = torch.export.load(out).module()(torch.from_numpy(pictures(runs / "cgpn-s0", table)))
    wanted = wanted_features(runs / "cgpn-s0", table)
    tolerance = 1e-4 if precision == "fp32" else 0.02 * float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=tolerance)
    assert report.to == "torch-export" and {p.name for p in tmp_path.iterdir()} == {"net.pt2", "net.pt2.json"}


@pytest.mark.parametrize(("to", "spoil"), [("onnx", "mean"), ("torch-export", "mean"), ("torch-export", "nan")])
def test_a_file_that_is_not_the_network_gets_no_name(runs, tmp_path, monkeypatch, to, spoil):
    if to == "onnx":
        need("onnxscript")
    function = {"onnx": "write_onnx", "torch-export": "write_torch_export"}[to]
    write = getattr(formats, function)

    def wrong(network, size, file):
        network.mean += 0.5 if spoil == "mean" else float("nan")
        write(network, size, file)

    monkeypatch.setattr(formats, function, wrong)
    out = tmp_path / f"net{formats.SUFFIXES[to]}"
    out.write_text("an earlier file")
    with pytest.raises(ReIDKitError, match="differs from PyTorch" if spoil == "mean" else "NaN"):
        export_run(runs / "mpn-s0", out, to=to, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == [out.name] and out.read_text() == "an earlier file"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"to": "tensorrt"}, UnknownNameError, "torch-export"),
        ({"precision": "int4"}, UnknownNameError, "int8"),
        ({"precision": "int8"}, ReIDKitError, "training images.*--root"),
        ({"precision": "int8", "to": "torch-export"}, ReIDKitError, "--to onnx"),
        ({"out": "net.pt2"}, ReIDKitError, r"ends in \.onnx"),
        ({"out": "taken/net.onnx"}, ReIDKitError, "not a folder that can be written"),
        ({"out": "folder.onnx"}, ReIDKitError, "name of a file"),
    ],
)
@needs_onnx
def test_refusals(runs, tmp_path, options, error, message):
    (tmp_path / "taken").write_text("a file, not a folder")
    (tmp_path / "folder.onnx").mkdir()
    out = tmp_path / options.pop("out", "net.onnx")
    with pytest.raises(error, match=message):
        export_run(runs / "mpn-s0", out, progress=False, **options)
    assert {p.name for p in tmp_path.iterdir()} == {"taken", "folder.onnx"}


def test_a_network_that_needs_a_prior_is_refused(sidewalk_tiny, tmp_path):
    recipe = recipe_for("baseline-ub", "smoke", {"ide_init": False, "epochs": 1, "model.part_dim": 8})
    run = tmp_path / "ub"
    train("baseline-ub", replace(sidewalk_tiny, levels={}), recipe, run, device="cpu", preset="smoke", progress=False)
    with pytest.raises(ReIDKitError, match=r"baseline-ub cannot be exported.*coarse priors"):
        export_run(run, tmp_path / "ub.onnx")
    assert not (tmp_path / "ub.onnx").exists()


def test_runs_that_are_none(runs, tmp_path):
    with pytest.raises(CheckpointError, match=r"neither a run folder .* mpn-no-ca-sidewalk"):
        export_run("mpn-nca", tmp_path / "net.onnx")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.json").write_text((runs / "mpn-s0" / "recipe.json").read_text())
    with pytest.raises(CheckpointError, match="not finished"):
        export_run(tmp_path / "begun", tmp_path / "net.onnx")


def test_shipped_networks_have_their_names():
    assert find_run("mpn-no-ca").path.name == "mpn-no-ca-sidewalk-medium-hero-s0"
    assert find_run("mpn-no-ca-sidewalk-medium-hero-s0").path == find_run("mpn-no-ca").path
    assert find_run("mpn-no-ca-sidewalk-small-quick-s0").path.name == "mpn-no-ca-sidewalk-small-quick-s0"
    assert find_run("psa").path.name == "psa-sidewalk-small-quick-s0"  # no hero has this name
    assert find_run("mpn").read_settings()["variant"] == "mpn"
    net, same = load_run("mpn-no-ca"), load_run(find_run("mpn-no-ca").path)
    assert net.name == "mpn-no-ca" and all(map(torch.equal, net.state_dict().values(), same.state_dict().values()))


def test_of_several_shipped_networks_the_hero_has_the_name(tmp_path, monkeypatch):
    source = find_run("ide-sidewalk-small-quick-s0").path
    monkeypatch.setattr("reidkit.training.runs.SHIPPED", tmp_path)

    def ship_as(name, preset):
        settings = json.loads((source / "recipe.json").read_text())
        shutil.copytree(source, tmp_path / name)
        (tmp_path / name / "recipe.json").write_text(json.dumps({**settings, "preset": preset}))

    ship_as("a", "quick")
    assert find_run("ide").path.name == "a"
    ship_as("b", "long")
    with pytest.raises(CheckpointError, match="nor the name of one shipped network: a, b"):
        find_run("ide")
    ship_as("c", "hero")
    assert [find_run(name).path.name for name in ("ide", "a", "b", "c")] == ["c", "a", "b", "c"]
    ship_as("d", "hero")
    with pytest.raises(CheckpointError, match="nor the name of one"):
        find_run("ide")


def test_neither_a_folder_nor_a_name(tmp_path):
    with pytest.raises(CheckpointError, match=r"'mpn-nca' is neither a run folder .* mpn-no-ca-sidewalk"):
        load_run("mpn-nca")
    for act in (find_run, load_run):  # a folder is there, but it is no run
        with pytest.raises(CheckpointError, match=r"no recipe\.json"):
            act(tmp_path)


def test_scores_follow_the_camera_rule_of_the_run(sidewalk_tiny):
    """One camera: with the rule no query can have a match, without it the numbers are those of the ranking."""
    query, gallery = (t.assign(camid=1) for t in (sidewalk_tiny.query, sidewalk_tiny.gallery))
    ds = replace(sidewalk_tiny, query=query, gallery=gallery)
    colour = lambda images: images.float().mean((2, 3))  # noqa: E731
    runners = {"pytorch": colour, "exported": colour}
    recipe = recipe_for("ide", "smoke", {"camera_rule": False})
    features = [
        torch.stack([colour(torch.from_numpy(read_image(p, recipe.size))[None])[0] for p in t.path])
        for t in (query, gallery)
    ]
    wanted = evaluate_ranking(*features, query.pid, gallery.pid, query.camid, gallery.camid, camera_rule=False)
    found = check.scores(runners, ds, recipe, progress=False)
    assert found["exported"] == pytest.approx({"mAP": wanted.mAP, "rank1": wanted.cmc[0]})
    with pytest.raises(ReIDKitError):
        check.scores(runners, ds, replace(recipe, camera_rule=True), progress=False)


def test_without_onnx(runs, tmp_path, monkeypatch):
    """One line with the pip command; torch.export needs none of it."""
    for name in formats.PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ReIDKitError, match="pip install onnx onnxruntime onnxscript") as caught:
        export_run(runs / "mpn-s0", tmp_path / "net.onnx")
    assert "\n" not in str(caught.value)
    export_run(runs / "mpn-s0", tmp_path / "net.pt2", to="torch-export")
    assert (tmp_path / "net.pt2").is_file()


@needs_onnx
def test_command_and_consumer(sidewalk_tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["export", "mpn-no-ca", "--no-progress"])
    assert done.exit_code == 0, done.output
    assert "largest difference to PyTorch" in done.output and "ms a batch" in done.output
    file = tmp_path / "mpn-no-ca-sidewalk-medium-hero-s0-fp32.onnx"

    table = sidewalk_tiny.query.iloc[[0, 5]]
    f = torch.nn.functional.normalize(wanted_features(find_run("mpn-no-ca").path, table))
    block = "import runpy, sys; sys.modules.update(torch=None, reidkit=None); runpy.run_path(sys.argv.pop(1))"
    script = [sys.executable, "-c", block, str(REPO / "docs" / "consume_onnx.py"), str(file), *table.path]
    said = subprocess.run(script, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    assert said.returncode == 0, said.stderr
    assert float(said.stdout) == pytest.approx(float(f[0] @ f[1]), abs=1e-4)


@needs_onnx
def test_command_measures_on_the_data_set_of_the_run(runs, data_root, tmp_path):
    out = tmp_path / "net.onnx"
    done = CliRunner().invoke(
        app,
        [
            "export",
            str(runs / "mpn-s0"),
            "--out",
            str(out),
            "--root",
            str(data_root),
            "--precision",
            "fp16",
            "--no-progress",
        ],
    )
    assert done.exit_code == 0, done.output
    assert "Rank-1" in done.output and json.loads(report_file(out).read_text())["scores"]["level"] == "mild"


def test_page_names_every_family():
    """docs/export.md: the only variant that it calls refused is the one that needs a prior."""
    rows = [line for line in (REPO / "docs" / "export.md").read_text().splitlines() if line.startswith("| `")]
    refused = [line for line in rows if "refused" in line]
    assert len(rows) == 4 and len(refused) == 1 and refused[0].startswith("| `baseline-ub`")
    assert [n for n in VARIANTS if create_model(n, 3, backbone="small").needs_prior_at_test] == ["baseline-ub"]
    assert TestForm().interpolation == "bilinear"  # as the page says
