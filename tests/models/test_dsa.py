"""DSA-reID: two streams in training, one at test, and the numbers of MPN Table 9."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from reidkit.cli import app
from reidkit.data.texture import CHARTS, TextureBatch
from reidkit.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from reidkit.errors import PriorError
from reidkit.models import create_model
from reidkit.models.dsa import GROUPS, MOSAIC, charts_of, mosaic
from reidkit.priors import PriorBatch
from reidkit.reporting import table9
from reidkit.training import RunFolder, load_run


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model("dsa", 5, backbone="small")


def textures(count=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return TextureBatch(torch.randint(0, 256, (count, 24, 4, 32, 32), dtype=torch.uint8, generator=g))


IMAGES = torch.randn(4, 3, 96, 32, generator=torch.Generator().manual_seed(1))


def test_the_parameters_of_table_9():
    """23.51 M (ResNet-50) + 14.96 M (a second res_conv5) + batch norm; the guiding stream is as large."""
    main = table9.test_parameters("dsa")
    assert main == 23_508_032 + 14_964_736 + 2 * 5 * 2048 and round(main / 1e6, 1) == 38.5
    assert table9.training_parameters("dsa") == 2 * main


def test_the_test_network_is_the_main_stream_alone(model):
    model.eval()
    f = model.embed(IMAGES)
    for p in model.aux_guide.parameters():
        p.data.fill_(float("nan"))
    model.aux_classifier.weight.data.fill_(float("nan"))
    assert torch.equal(model.embed(IMAGES), f) and f.isfinite().all() and f.shape == (4, 5 * 128)
    assert model.count_parameters() == sum(
        p.numel() for n, p in model.named_parameters() if not n.startswith(("aux_", "classifier"))
    )
    assert not {id(p) for p in model.aux_guide.parameters()} & {
        id(p) for p in [*model.shared.parameters(), *model.tails.parameters()]
    }


def test_late_fusion_adds_the_streams(model):
    model.train()
    out = model(IMAGES, textures())
    fused = model.aux_classifier(out.part_features + out.aux.part_features)
    assert torch.equal(out.aux.logits, fused) and out.aux.embedding.shape == out.embedding.shape
    out.aux.logits.sum().backward()  # what the guide is taught reaches both streams, and no classifier of the main one
    assert model.shared.conv1.weight.grad.abs().sum() > 0 and model.aux_guide.shared.conv1.weight.grad.abs().sum() > 0
    assert model.classifier.weight.grad is None


def test_the_guide_reads_the_charts_of_its_group(model):
    names = [[CHARTS[i] for i in charts_of(words)] for _, words in GROUPS]
    assert sorted(name for group in names for name in group) == sorted(CHARTS)  # each chart in one group
    assert names[0] == ["right of the head", "left of the head"] and "left foot" in names[3] and "left hand" in names[1]


def test_mosaic_by_hand():
    batch = textures(2)
    picture = mosaic(batch)
    assert picture.shape == (2, 3, 6 * 32, 4 * 32) and MOSAIC == (6, 4)
    for chart, y, x in ((0, 5, 7), (6, 31, 0), (23, 0, 31)):
        row, column = divmod(chart, 4)
        found = picture[1, :, 32 * row + y, 32 * column + x]
        *colour, seen = batch.texture[1, chart, :, y, x].tolist()
        expected = (np.array(colour) / 255 - IMAGENET_MEAN) / IMAGENET_STD * (seen > 0)
        assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_training_without_textures_is_refused(model):
    coarse = PriorBatch(torch.ones(4, 12, 4).bool(), torch.zeros(4), torch.ones(4), torch.ones(4).bool())
    for prior in (None, coarse):
        with pytest.raises(PriorError, match="TextureBatch"):
            model.train()(IMAGES, prior)


def test_both_streams_start_from_the_same_weights(model):
    state = create_model("ide", 5, backbone="small").backbone.state_dict()
    model.load_backbone(state)
    for stream in (model, model.aux_guide):
        for tail in stream.tails:
            assert torch.equal(tail.layer4[0].conv1.weight, state["layer4.0.conv1.weight"])
        assert torch.equal(stream.shared.layer3[0].conv1.weight, state["layer3.0.conv1.weight"])


def test_trained_by_name_on_sidewalk(data_root, sidewalk_tiny, tmp_path):
    words = [
        "train",
        "dsa",
        "--root",
        data_root,
        "--size",
        "tiny",
        "--preset",
        "smoke",
        "--device",
        "cpu",
        "--no-progress",
    ]
    words += ["--cache-dir", tmp_path / "cache", "--run", tmp_path / "dsa", "--set", "precision=no"]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    assert "Rank-1" in result.output and list((tmp_path / "cache").glob("*/priors/dense-sidewalk-32.npy"))
    metrics = (tmp_path / "dsa" / "metrics.csv").read_text()
    assert "identity_aux" in metrics and "triplet" in metrics
    assert RunFolder(tmp_path / "dsa").finished and load_run(tmp_path / "dsa").name == "dsa"
