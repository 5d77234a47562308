"""The two networks as map source: the real loading code on tiny, randomly initialised weights saved to disk."""

import shutil
import urllib.error
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from needs import need
from PIL import Image
from torchvision import models
from typer.testing import CliRunner

from reidkit.cli import app
from reidkit.data.dataset import ReIDDataset
from reidkit.errors import PriorError, ReIDKitError
from reidkit.priors import PriorTable, build_priors, open_source
from reidkit.priors.labels import ATR_LABELS, LIP_LABELS, label_table
from reidkit.priors.networks import PersonSegmenter, largest_person, load_parser, load_segmenter

transformers = need("transformers")
SEGMENTER = "lraspp_mobilenet_v3_large"


def save_segformer(folder: Path, names=ATR_LABELS, mean=(0.5, 0.5, 0.5)) -> Path:
    """A SegFormer of 20 thousand weights, with the label names of the usual clothes checkpoints."""
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 8, 8],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8,
        mlp_ratios=[1, 1, 1, 1],
    )
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    transformers.SegformerImageProcessor(image_mean=list(mean)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, Path]:
    """Both checkpoints on disk."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = models.get_model(SEGMENTER, weights=None, weights_backbone=None, num_classes=21)
    torch.save(network.state_dict(), folder / "lraspp.pth")
    return {"segmentation_weights": folder / "lraspp.pth", "parsing_model": save_segformer(folder / "segformer")}


@pytest.fixture
def ds(tmp_path) -> ReIDDataset:
    """Five images of two sizes."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"bounding_box_train/{i:04d}_c1s1_000001_01.jpg" for i in range(5)]
    paths[0].parent.mkdir()
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 255, (64 + 6 * (i % 2), 32, 3), np.uint8)).save(path)
    table = pd.DataFrame({"path": [str(p) for p in paths], "pid": 1, "camid": 1})
    return ReIDDataset("made", tmp_path, table, table[:0], table[:0])


KEYS = {"segmentation_model": SEGMENTER, "device": "cpu", "batch_size": 2}


def test_build_resume_and_cache(ds, weights, monkeypatch):
    keys = {"grid": (8, 4), "progress": False, **KEYS, **weights}
    first = Path(ds.train.path[3])
    whole = first.read_bytes()
    first.write_bytes(whole[:200])
    with pytest.raises(PriorError, match=rf"{first.name}.*does not decode"):
        build_priors(ds, "torchvision+segformer", **keys)
    first.write_bytes(whole)
    table = build_priors(ds, "torchvision+segformer", **keys)
    assert len(table) == 5 and table.masks.shape == (5, 8, 4)
    manifest = table.manifest
    assert {"torch", "torchvision", "transformers"} <= set(manifest["versions"])
    assert manifest["segmentation_model"] == SEGMENTER and "lraspp.pth#" in manifest["segmentation_weights"]
    monkeypatch.setattr("reidkit.priors.networks.load_parser", lambda *_: pytest.fail("a cached row was computed"))
    again = build_priors(ds, "torchvision+segformer", **keys)
    assert np.array_equal(again.masks, table.masks)


def test_maps_have_the_size_of_their_image_and_do_not_depend_on_the_batch(ds, weights):
    source = open_source(ds, "torchvision+segformer", **KEYS, **weights)
    paths = [f"bounding_box_train/{Path(p).name}" for p in ds.train.path]
    batched = source.maps(paths)
    for path, (parsing, segmentation) in zip(paths, batched):
        alone = source.maps([path])[0]
        with Image.open(ds.root / path) as image:
            assert parsing.shape == segmentation.shape == (image.height, image.width)
        assert parsing.dtype == np.uint8 and parsing.max() <= 19
        assert segmentation.min() >= 0 and segmentation.max() <= 1
        assert np.allclose(alone[1], segmentation, atol=1e-5)
        assert (alone[0] == parsing).mean() > 0.99


def test_parser_uses_the_checkpoints_names_and_normalisation(tmp_path):
    spelt = [name.replace("-", " ").title() for name in ATR_LABELS]
    parser = load_parser(save_segformer(tmp_path / "atr", spelt, (0.1, 0.2, 0.3)))
    assert parser.to_lip.tolist() == label_table("atr").tolist()
    assert parser.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    images = torch.rand(1, 3, 64, 32)
    expected = parser.network(pixel_values=(images - parser.mean) / parser.std).logits
    assert torch.equal(parser(images), expected) and expected.shape == (1, 18, 16, 8)
    lip = load_parser(save_segformer(tmp_path / "lip", LIP_LABELS))
    assert lip.to_lip.tolist() == list(range(20))
    with pytest.raises(PriorError, match=r"LABEL_0.*expected names"):
        load_parser(save_segformer(tmp_path / "unnamed", [f"LABEL_{i}" for i in range(18)]))


def test_segmenter_reads_the_persons_channel(weights):
    segmenter = load_segmenter(SEGMENTER, weights["segmentation_weights"])
    network = models.get_model(SEGMENTER, weights=None, weights_backbone=None, num_classes=21).eval()
    network.load_state_dict(torch.load(weights["segmentation_weights"], weights_only=True))
    images = torch.rand(2, 3, 64, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        normalised = ((images.movedim(1, -1) - mean) / std).movedim(-1, 1)
        expected = network(normalised)["out"].softmax(1)[:, 15]  # 15 is "person" in Pascal VOC
        assert torch.allclose(segmenter(images), expected, atol=1e-6)


def test_published_weights_carry_an_auxiliary_head(tmp_path):
    network = models.get_model(
        "deeplabv3_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    )
    torch.save({"model": network.state_dict()}, tmp_path / "deeplab.pth")  # wrapped, as torchvision's script saves
    segmenter = load_segmenter("deeplabv3_mobilenet_v3_large", tmp_path / "deeplab.pth")
    with torch.no_grad():
        assert segmenter(torch.rand(1, 3, 64, 32)).shape == (1, 64, 32)


def test_largest_confident_person():
    masks = torch.zeros(4, 1, 6, 4)
    masks[0, 0, :2] = masks[1, 0, :5] = masks[2, 0] = masks[3, 0] = 0.9
    found = {"masks": masks, "labels": torch.tensor([1, 1, 3, 1]), "scores": torch.tensor([0.9, 0.8, 0.99, 0.2])}
    assert torch.equal(largest_person(found, (6, 4)), masks[1, 0])  # 2 is no person, 3 is not trusted
    found["scores"][:2] = 0.1
    assert torch.equal(largest_person(found, (6, 4)), torch.zeros(6, 4))


class TwoPersons(torch.nn.Module):
    """Answers as torchvision's Mask R-CNN does: one dict an image, masks at the image's size."""

    def forward(self, images):
        masks = torch.zeros(2, 1, *images[0].shape[1:])
        masks[0, 0, :, :4], masks[1, 0, :, :9] = 0.8, 0.6
        return [{"masks": masks, "labels": torch.tensor([1, 1]), "scores": torch.tensor([0.9, 0.9])} for _ in images]


def test_instance_networks():
    out = PersonSegmenter(TwoPersons(), person=1, instances=True)(torch.rand(2, 3, 16, 12))
    assert out.shape == (2, 16, 12) and out[:, :, :9].unique().tolist() == [pytest.approx(0.6)]


@pytest.mark.slow
def test_mask_rcnn_loads_from_a_file(tmp_path):
    network = models.get_model("maskrcnn_resnet50_fpn", weights=None, weights_backbone=None)
    torch.save(network.state_dict(), tmp_path / "maskrcnn.pth")
    segmenter = load_segmenter("maskrcnn_resnet50_fpn", tmp_path / "maskrcnn.pth")
    with torch.no_grad():
        assert segmenter(torch.rand(1, 3, 64, 32)).shape == (1, 64, 32)


def test_downloads_that_fail_say_what_to_do(monkeypatch, weights):
    def refuse(*args, **keys):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(PriorError, match=r"lraspp.*https://.*no route to host.*segmentation_weights=PATH"):
        load_segmenter(SEGMENTER)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PriorError, match=r"somebody/clothes.*parsing_model=PATH"):
        load_parser("somebody/clothes")


def test_bad_weights(tmp_path, weights):
    with pytest.raises(PriorError, match=r"nowhere\.pth: no such file"):
        load_segmenter(SEGMENTER, tmp_path / "nowhere.pth")
    with pytest.raises(PriorError, match="nowhere: no such folder"):
        load_parser(tmp_path / "nowhere")
    with pytest.raises(ReIDKitError, match="COCO_WITH_VOC_LABELS_V1"):
        load_segmenter(SEGMENTER, "COCO_V9")
    (tmp_path / "cut.pth").write_bytes(weights["segmentation_weights"].read_bytes()[:1000])
    with pytest.raises(PriorError, match=r"cut\.pth does not load"):
        load_segmenter(SEGMENTER, tmp_path / "cut.pth")
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(PriorError, match="no segmentation head"):
        load_segmenter(SEGMENTER, tmp_path / "other.pth")
    torch.save({"classifier.low_classifier.weight": torch.zeros(21, 4, 1, 1)}, tmp_path / "part.pth")
    with pytest.raises(PriorError, match=rf"part\.pth holds no weights of {SEGMENTER}"):
        load_segmenter(SEGMENTER, tmp_path / "part.pth")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PriorError, match="could not load the parsing model"):
        load_parser(tmp_path / "empty")
    config = transformers.SegformerConfig.from_pretrained(weights["parsing_model"])
    transformers.SegformerModel(config).save_pretrained(tmp_path / "encoder")  # no segmentation head
    transformers.SegformerImageProcessor().save_pretrained(tmp_path / "encoder")
    with pytest.raises(PriorError, match=r"encoder lacks weights \(decode_head"):
        load_parser(tmp_path / "encoder")
    with pytest.raises(ReIDKitError, match="lraspp"):
        open_source(without_images(tmp_path), "torchvision+segformer", segmentation_model="lraspp")


def without_images(root: Path) -> ReIDDataset:
    """A data set without images."""
    table = pd.DataFrame({"path": [], "pid": [], "camid": []})
    return ReIDDataset("none", root, table, table, table)


def test_the_command_builds_from_networks_on_disk(weights, sidewalk_tiny, tmp_path):
    """`reidkit priors build` on a folder in Market-1501's layout: weights by path, priors and a sheet beside them."""
    root = tmp_path / "Market-1501-v15.09.15"
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (root / name).mkdir(parents=True)
        for image in sorted((sidewalk_tiny.root / name).glob("[0-9]*.jpg"))[:6]:
            shutil.copy(image, root / name)
    answer = CliRunner().invoke(
        app,
        [
            "priors",
            "build",
            "market1501",
            "--root",
            str(tmp_path),
            "--tool",
            "torchvision+segformer",
            "--grid",
            "8x4",
            "--segmentation-model",
            SEGMENTER,
            "--segmentation-weights",
            str(weights["segmentation_weights"]),
            "--parsing-model",
            str(weights["parsing_model"]),
            "--device",
            "cpu",
            "--no-progress",
        ],
    )
    assert answer.exit_code == 0, answer.output
    assert "6 priors" in answer.output
    made = root / "priors" / "torchvision+segformer-8x4.npz"
    assert len(PriorTable.load(made)) == 6
    with Image.open(made.with_suffix(".png")) as sheet:
        assert sheet.width > 300
