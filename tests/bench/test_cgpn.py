"""`reidkit bench cgpn`: its counts against counts by hand, its stages against the forward pass."""

import json

import pytest
import torch
from typer.testing import CliRunner

from reidkit.bench import cgpn as bench
from reidkit.bench import run_bench
from reidkit.cli import app
from reidkit.errors import ReIDKitError
from reidkit.models import create_model


def test_bench_table_against_hand_counts():
    cgpn, mgn, dsa = bench.table(("cgpn", "mgn", "dsa"), backbone="small", size=(192, 64), reduced_dim=8)
    c, area, d = 128, 24 * 8, 8
    convs, reductions, classifiers = 6 * c * c * area, (3 * 2 * c + 9 * c) * d, 12 * d * 751
    assert cgpn["flops"]["heads"] == 2 * (convs + reductions + classifiers)  # a multiply-add is two
    layer4 = (96 * c * 9 + c * c * 9 + 96 * c) * area  # two 3x3 convs and the shortcut
    assert cgpn["flops"]["tails"] == 2 * 3 * layer4
    assert mgn["flops"]["tails"] == 2 * (2 * layer4 + layer4 // 4)  # the global branch has a quarter of the cells
    assert cgpn["flops"]["shared"] == mgn["flops"]["shared"]
    for row in (cgpn, mgn, dsa):
        model = create_model(row["model"], 751, backbone="small", reduced_dim=8)
        assert min(row["parameters"].values()) > 0  # the stream of DSA that guides the training is in no stage
        assert row["parameters"]["total"] == model.count_parameters()
        assert sum(row["parameters"][stage] for stage in ("shared", "tails", "heads")) == row["parameters"]["total"]


def test_bench_stages_are_the_forward_pass():
    for name in ("cgpn", "mgn", "pyramid"):
        model, x = create_model(name, 5, backbone="small").eval(), torch.randn(2, 3, 96, 32)
        expected = model(x).embedding
        for stage in bench.stages(model).values():
            x = stage(x)
        assert torch.equal(x.embedding, expected)


def test_bench_times_every_switch():
    report = bench.run(
        ["cgpn-b1"], backbone="small", size=(64, 32), batch=4, steps=1, device="cpu", switches=["plain", "bf16"]
    )
    assert [row["switch"] for row in report["milliseconds_an_image"]] == ["plain", "bf16"]
    for row in report["milliseconds_an_image"]:
        assert row["forward"] == pytest.approx(row["shared"] + row["tails"] + row["heads"], abs=0.01)
        assert row["train_step"] > 0


def test_a_network_that_needs_priors_is_refused_before_anything_is_counted(monkeypatch):
    monkeypatch.setattr(bench, "table", lambda *_: pytest.fail("counted"))
    with pytest.raises(ReIDKitError, match="need priors in training: mpn, dsa"):
        bench.run(["cgpn-b1", "mpn", "dsa"], backbone="small", device="cpu")


def test_the_command_takes_the_options_of_a_bench():
    result = CliRunner().invoke(app, ["bench", "cgpn", "--set", "table_only=true", "--set", "names=cgpn-b1"])
    assert result.exit_code == 0, result.exception
    report = json.loads(result.stdout)
    assert [row["model"] for row in report["table"]] == ["cgpn-b1"] and report["provenance"]["commit"]
    with pytest.raises(ReIDKitError, match="table_only"):
        run_bench("cgpn", {"table-only": "true"})
