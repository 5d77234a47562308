"""`net.extract`: pictures of your own, whatever they are, become the features that the run's evaluation computes."""

import copy
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from own_pictures import person_image, save_person
from PIL import Image

from reidkit.data import list_images, open_image
from reidkit.data import pictures as pictures_module
from reidkit.data.images import decode
from reidkit.errors import CheckpointError, DatasetError, PriorError, ReIDKitError
from reidkit.evaluation import Extraction, extract_features, rank
from reidkit.models import create_model
from reidkit.training import load_run
from reidkit.training.runs import find_run

SIZE = (48, 16)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = create_model("ide", 3, backbone="small").eval()
    net.extraction = Extraction(SIZE)
    return net


@pytest.fixture
def files(tmp_path):
    return [save_person(tmp_path / "crops" / f"{i}.png", i) for i in range(4)]


def plain(net, paths):
    return extract_features(net, [str(p) for p in paths], size=SIZE, progress=False)


def test_every_form_of_a_picture_has_the_same_features(net, files):
    wanted, image = plain(net, files[:1]), Image.open(files[0])
    array = np.array(image)
    forms = [
        files[0],
        str(files[0]),
        image,
        array,
        array[:, :, ::-1].copy()[:, :, ::-1],  # negative strides
        np.dstack([array, np.full(array.shape[:2], 255, np.uint8)]),
        array / 255,
        (array / 255).astype(np.float32),
        array.astype(np.int64),
        array.astype(np.uint16) * 256,
        torch.from_numpy(array).permute(2, 0, 1),
        (torch.from_numpy(array).permute(2, 0, 1) / 255).requires_grad_(),
    ]
    for form in forms:
        assert torch.equal(net.extract(form), wanted), type(form)
    together = net.extract(forms, batch_size=5)
    assert together.shape == (len(forms), wanted.shape[1]) and together.dtype == torch.float32
    torch.testing.assert_close(together, wanted.expand_as(together))
    assert not together.requires_grad


def test_rows_keep_the_order_and_folders_are_sorted(net, files, tmp_path):
    save_person(tmp_path / "crops" / "deeper" / "9.JPG", 9)
    save_person(tmp_path / "crops" / ".hidden.png", 7)
    save_person(tmp_path / "crops" / ".trash" / "x.png", 7)
    save_person(tmp_path / "crops" / "cache" / "x.png", 7)  # the kit's own
    save_person(tmp_path / "crops" / "deeper" / "priors" / "x.png", 6)  # a person's, for all we know
    (tmp_path / "crops" / "notes.txt").write_text("no picture")
    inputs = [files[3], person_image(5), tmp_path / "crops", str(files[0])]
    images = list_images(inputs)
    below = [*files, tmp_path / "crops/deeper/9.JPG", tmp_path / "crops/deeper/priors/x.png"]
    assert images[2:8] == [str(p) for p in below]
    assert images[0] == str(files[3]) and images[1] is inputs[1] and images[8] == str(files[0])
    features = net.extract(inputs)
    assert len(features) == len(images)
    torch.testing.assert_close(features, torch.cat([net.extract(image) for image in images]))
    assert torch.equal(net.extract(images), features)
    assert rank(features[0], features[1:])[0] == images[1:].index(str(files[3]))


def test_containers(net, files):
    wanted, paths = plain(net, files), [str(p) for p in files]
    arrays = np.stack([np.array(Image.open(p)) for p in paths])
    table = pd.DataFrame({"path": paths, "pid": "anna"}, index=[9, 8, 7, 6])
    for images in (
        tuple(paths),
        iter(paths),
        table,
        [table],
        table.path,
        np.array(paths),
        table.path.to_numpy(),
        arrays,
        torch.from_numpy(arrays).permute(0, 3, 1, 2),
        [arrays[:1], *paths[1:]],
    ):
        torch.testing.assert_close(net.extract(images), wanted)


def test_labels_are_optional_everywhere(net, files):
    """Three lines and no label; the same pixels through `extract_features`."""
    features = net.extract(files, normalize=True)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(features, extract_features(net, files, size=SIZE, normalize=True, progress=False))


@pytest.mark.parametrize(
    "make",
    {
        "grey": lambda: person_image(1).convert("L"),
        "grey with alpha": lambda: person_image(1).convert("LA"),
        "one bit": lambda: person_image(1).convert("1"),
        "palette": lambda: person_image(1).quantize(16),
        "RGBA": lambda: Image.merge("RGBA", (*person_image(1).split(), person_image(2).convert("L"))),
        "CMYK": lambda: person_image(1).convert("CMYK"),
        "YCbCr": lambda: person_image(1).convert("YCbCr"),
        "16 bits": lambda: Image.fromarray(np.arange(512, dtype=np.uint16).reshape(32, 16) * 100),
        "tiny": lambda: Image.new("RGB", (1, 1), (9, 90, 200)),
    }.values(),
    ids=lambda make: "",
)
def test_modes_in_memory_are_read_as_from_a_file(net, tmp_path, make):
    image = make()
    before = image.tobytes()
    path = tmp_path / ("x.jpg" if image.mode in ("CMYK", "YCbCr") else "x.png")
    image.save(path)
    opened = Image.open(path)
    assert open_image(opened).mode == "RGB"
    assert np.array_equal(np.asarray(open_image(opened)), np.asarray(decode(path)))
    if path.suffix == ".png":
        assert np.array_equal(np.asarray(open_image(image)), np.asarray(decode(path)))
    torch.testing.assert_close(*net.extract([opened, path]))
    assert image.tobytes() == before and net.extract(image).isfinite().all()


def test_exif_turns_an_image_in_memory_too(net, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    person_image(1, size=(16, 32)).save(tmp_path / "x.jpg", exif=exif)
    with Image.open(tmp_path / "x.jpg") as opened:
        assert open_image(opened).size == (16, 32) and opened.size == (32, 16)
        assert torch.equal(net.extract(opened), net.extract(tmp_path / "x.jpg"))


@pytest.mark.parametrize("shape", [(3, 40, 20), (2, 40, 20, 5), (7,)])
def test_an_array_of_another_shape_is_no_picture(shape):
    with pytest.raises(ReIDKitError, match=r"expected \[H, W, 3\]"):
        open_image(np.zeros(shape, np.uint8))


GREY = np.zeros((4, 4), np.uint8)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ([], "the list is empty"),
        (iter(()), "the list is empty"),
        (None, "the picture is a NoneType; expected the path"),
        (["ok", 3], "picture 1 is a int; expected"),
        (["ok", ["ok"]], "picture 1 is a list; .*pass one flat list"),
        ({"ok"}, "the picture is a set"),
        ({"a": 1}, "the picture is a dict"),
        (b"\xff\xd8\xff", "the picture is a bytes; .*BytesIO"),
        (io.BytesIO(b"x"), "the picture is a BytesIO"),
        (["ok", "gone.jpg"], r"picture 1: there is no file or folder 'gone.jpg'"),
        ("", "the picture: there is no file or folder ''"),
        (["ok", "http://x.org/a.jpg"], "picture 1: there is no file"),
        (["ok", np.zeros((3, 8, 9), np.uint8)], r"picture 1 \(array \[3, 8, 9\] uint8\).*transpose\(1, 2, 0\)"),
        (torch.zeros(8, 9, 3), r"tensor \[8, 9, 3\] float32\).*permute\(2, 0, 1\)"),
        (["ok", np.zeros((8, 9, 5), np.uint8)], r"picture 1 .*with 1, 3 or 4 channels"),
        (np.zeros(8, np.uint8), r"\[8\] uint8\): expected \[H, W, 3\]"),
        (np.float32(3), "expected the path"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((0, 4, 4, 3), np.uint8), "holds no picture"),
        (Image.new("RGB", (0, 5)), r"PIL image of mode RGB\) cannot be used: no pixels: 0 x 5"),
        (["ok", GREY + 0.5, GREY - 1.0], r"picture 2 .* values from -1 to -1; expected fractions in \[0, 1\]"),
        (GREY + 200.0, "values from 200 to 200"),
        (GREY + np.nan, "values from nan"),
        (["ok", GREY.astype(int) + 300], "picture 1 .* values from 300 to 300; expected whole numbers"),
        (GREY.astype(complex), "expected numbers, got complex128"),
        ([pd.DataFrame({"file": ["x"]})], r"picture 0 is a table without a column 'path'; it has \['file'\]"),
        ([pd.DataFrame({"path": [None]})], "picture 0, row 0, is a NoneType"),
    ],
)
def test_what_is_no_picture_is_named(net, files, wrong, message):
    images = [files[0] if isinstance(x, str) and x == "ok" else x for x in wrong] if isinstance(wrong, list) else wrong
    with pytest.raises(ReIDKitError, match=message):
        net.extract(images)


def test_files_that_cannot_be_read_are_named(net, files, tmp_path):
    data = files[0].with_suffix(".jpg")
    person_image(0, size=(320, 160)).save(data)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(data.read_bytes()[:900])
    with pytest.raises(DatasetError, match=r"cut.jpg.*truncated"):
        net.extract([files[0], cut])
    with (
        Image.open(cut) as opened,
        pytest.raises(ReIDKitError, match=r"picture 1 \(a PIL image of mode RGB\).*truncated"),
    ):
        net.extract([files[0], opened])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("nowhere.jpg")
    for name, message in (("text", "not an image"), ("empty", "empty file")):
        with pytest.raises(DatasetError, match=f"{name}.jpg.*{message}"):
            net.extract([tmp_path / f"{name}.jpg"], workers=1)
    with pytest.raises(DatasetError, match=r"link\.jpg"):
        net.extract(tmp_path / "link.jpg")


def test_a_picture_too_large_is_refused_before_it_is_decoded(net, monkeypatch):
    monkeypatch.setattr(pictures_module, "MAX_PIXELS", 100)
    with pytest.raises(ReIDKitError, match="too large: 16 x 32 pixels; at most 100"):
        net.extract(person_image(0))


def test_folders_without_pictures(net, tmp_path):
    with pytest.raises(DatasetError, match=r"holds no image .*Name the folder"):
        net.extract(tmp_path)
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.warns(UserWarning, match="1 images are left out.*a.gif"), pytest.raises(DatasetError, match="no image"):
        net.extract(tmp_path)


def test_links_are_followed_once(tmp_path):
    one = save_person(tmp_path / "set" / "a" / "1.png", 1)
    save_person(tmp_path / "far" / "2.png", 2)
    os.symlink(tmp_path / "set", tmp_path / "set" / "a" / "round")
    os.symlink(tmp_path / "far", tmp_path / "set" / "b")
    assert list_images(tmp_path / "set") == [str(one), str(tmp_path / "set" / "b" / "2.png")]


def test_unicode_names(net, tmp_path):
    path = save_person(tmp_path / "Zoë 北" / "é à.png", 1)
    assert list_images(tmp_path) == [str(path)] and len(net.extract(tmp_path)) == 1


def test_the_run_decides_how_pictures_are_seen(net, files):
    flipped = copy.deepcopy(net)
    flipped.extraction = Extraction((96, 32), flip="mean", precision="bf16")
    wanted = extract_features(net, files, size=(96, 32), flip="mean", amp="bf16", progress=False)
    assert torch.equal(flipped.extract(files), wanted)
    assert not torch.equal(net.extract(files), wanted)
    assert not net.training and torch.equal(net.train().extract(files), net.eval().extract(files))


def test_workers_and_batches_change_nothing(net, files):
    wanted = net.extract(files)
    for options in ({"batch_size": 1}, {"batch_size": 3, "workers": 2}):
        torch.testing.assert_close(net.extract(files, **options), wanted)
    with pytest.raises(ReIDKitError, match="batch_size must be at least 1"):
        net.extract(files, batch_size=0)


def test_networks_that_cannot(files):
    with pytest.raises(ReIDKitError, match=r"this mpn does not know the size of its pictures.*load_run"):
        create_model("mpn", 3, backbone="small").extract(files)
    net = create_model("baseline-ub", 3, backbone="small")
    net.extraction = Extraction(SIZE)
    with pytest.raises(PriorError, match=r"baseline-ub cuts the body out.*such as mpn"):
        net.extract(files)


@pytest.mark.parametrize("name", ["mpn", "cgpn"])
def test_a_shipped_network(name, sidewalk_tiny):
    """The features of a run's own evaluation, in three lines."""
    net, recipe = load_run(name), find_run(name).recipe()
    assert net.extraction.size == recipe.size and net.extraction.flip == recipe.test_flip
    net.extraction = replace(net.extraction, precision="no")
    paths = sidewalk_tiny.query.path[:4].tolist()
    wanted = extract_features(net, paths, size=recipe.size, flip=recipe.test_flip, progress=False)
    torch.testing.assert_close(net.extract(paths), wanted)


def test_load_run_takes_a_device():
    assert next(load_run("ide", device="cpu").parameters()).device.type == "cpu"
    with pytest.raises(ReIDKitError, match="unknown device"):
        load_run("ide", device="gpu7")
    with pytest.raises(CheckpointError, match="shipped network"):
        load_run(Path("nowhere"))
