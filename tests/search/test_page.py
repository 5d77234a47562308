"""The page of a search: one file, every picture inside, every name as text; the two commands."""

import base64
import io
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from needs import need
from own_pictures import person_folders, person_image, save_person
from PIL import Image
from search_networks import small_network
from typer.testing import CliRunner

from reidkit.cli import app
from reidkit.errors import ReIDKitError
from reidkit.search import open_index, open_pictures, search, write_page

need("pytorch_grad_cam")
TINY = "mpn-no-ca-sidewalk-small-quick-s0"  # a shipped network by its whole name
EVIL = "<script>alert(1)</script>&\"'.png".replace("/", "")


class Page(HTMLParser):
    """Tags, their attributes and the text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(self.words)


@pytest.fixture
def gallery(tmp_path):
    root = person_folders(tmp_path / "g", persons=3, shots=2)
    person_image(0, 9).save(root / EVIL)
    (root / "<b>bad.jpg").write_bytes(b"x")
    (root / "notes.txt").write_text("x")
    return root


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"])


@pytest.mark.parametrize("name", ["mpn-no-ca", "cgpn", "ide"])
def test_one_file_with_everything_inside(gallery, tmp_path, name):
    network = small_network(name)
    queries = [save_person(tmp_path / f"q{i}.png", i, 99) for i in (0, 1)]
    found = search(network, open_index(network, gallery, progress=False), open_pictures(queries), top=4)
    write_page(tmp_path / "page.html", network, found)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    K = len(network.part_names)
    assert len(page.all("img")) == 2 * (1 + 4 * (1 + 2 * K)), "query, match, K maps on each of the two"
    for attributes in page.all("img"):
        kind, _, code = attributes["src"].partition(",")
        picture = Image.open(io.BytesIO(base64.b64decode(code)))
        assert kind == "data:image/jpeg;base64" and attributes["alt"]
        assert picture.size == (int(attributes["width"]), int(attributes["height"]))
    assert not page.all("script") and not page.all("link")
    assert not re.search(r"(src|href)=[\"']?https?:", text) and "@import" not in text
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    for hits in found.hits:
        for hit in hits:
            assert hit.name in page.text and f"{hit.score:.3f}" in page.text
            assert all(f"{value:.2f}" in page.text for value in hit.parts)
    assert "1 other files" in page.text and "<b>bad.jpg" in page.text and "not an image" in page.text
    assert len(text) < 2_000_000


def test_names_are_text_and_never_tags(gallery, tmp_path):
    network = small_network("ide")
    query = save_person(tmp_path / f"q{EVIL}", 0, 99)
    found = search(network, open_index(network, gallery, progress=False), open_pictures([query]), top=9)
    write_page(tmp_path / "page.html", network, found, method=None)
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert not page.all("script") and page.text.count(EVIL) >= 3, "title, heading, and the list"
    assert len(page.all("img")) == 1 + 7


def test_a_name_that_is_no_utf8(tmp_path):
    root = person_folders(tmp_path / "g", persons=1, shots=2)
    name = b"\xff\xfe\n.png".decode(errors="surrogateescape")
    try:
        person_image(1).save(root / name)
    except (OSError, UnicodeError):
        pytest.skip("this disk takes no such name")
    network = small_network("ide")
    for _ in range(2):  # written to the index, and read from it
        found = search(network, open_index(network, root, progress=False), open_pictures([root / name]), top=3)
        assert found.hits[0][0].name == name
    write_page(tmp_path / "page.html", network, found, method=None)
    assert "?? .png" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_maps_belong_to_the_pictures_beside_them():
    """On the match: regions of the match that make it like the query; on the query the other way round."""
    from reidkit.attention import similarity_attention
    from reidkit.search import page

    network = small_network("mpn-no-ca")
    query = person_image(1, 5)
    images = [person_image(1), person_image(2)]
    on_query, on_match = page._maps(network, query, images, "hirescam")
    x = network.normalised([query, *images])
    for i in (0, 1):
        one = similarity_attention(network.model, x[1 + i : 2 + i], x[:1], "hirescam")[0]
        other = similarity_attention(network.model, x[:1], x[1 + i : 2 + i], "hirescam")[0]
        np.testing.assert_allclose(on_match[i], one, atol=0.03)  # batches of another size differ a little
        np.testing.assert_allclose(on_query[i], other, atol=0.03)
        assert np.abs(on_match[i].numpy() - other.numpy()).max() > 0.2, "the two are not the same"


def test_the_command(gallery, tmp_path):
    queries = [save_person(tmp_path / f"q{i}.png", i, 99) for i in (0, 2)]
    out = tmp_path / "deep" / "page.html"
    options = ("--gallery", gallery, "--top", 3, "--out", out, "--no-progress")
    done = run("search", TINY, *queries, *options)
    assert done.exit_code == 0, done.output + str(done.exception)
    assert "7 pictures searched (7 read now), 1 skipped, 1 other files" in done.output and str(out) in done.output
    lists = re.findall(r"^ +(\d+)  (-?\d\.\d{4})  (.+)$", done.output, re.M)
    assert [n for n, _, _ in lists] == ["1", "2", "3"] * 2
    assert len(Page(out.read_text()).all("ol")) == 2
    again = run("search", TINY, *queries, *options, "--no-attention", "--index", "exact")
    assert "(0 read now)" in again.output
    assert re.findall(r"^ +(\d+)  (-?\d\.\d{4})  (.+)$", again.output, re.M) == lists


def test_the_command_refuses_before_it_works(gallery, tmp_path, monkeypatch):
    query = save_person(tmp_path / "q.png", 1)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"x")
    out = ("--out", tmp_path / "page.html", "--no-progress")
    for arguments, match in (
        ((TINY, bad, "--gallery", gallery), r"bad\.jpg.*not an image"),
        ((TINY, query, bad, "--gallery", gallery), r"bad\.jpg.*not an image"),
        ((TINY, tmp_path / "no.jpg", "--gallery", gallery), r"no\.jpg.*missing"),
        ((TINY, query, "--gallery", tmp_path / "none"), "does not exist"),
        ((TINY, query, "--gallery", gallery, "--index", "flat"), "unknown index 'flat'"),
        ((TINY, query, "--gallery", gallery, "--method", "cam"), "unknown CAM method 'cam'"),
        (("no-run", query, "--gallery", gallery), "neither a run folder"),
        ((TINY, query, "--gallery", gallery, "--detector-weights", "x"), "--detector-weights is for --detect"),
    ):
        done = run("search", *arguments, *out)
        assert done.exit_code != 0 and isinstance(done.exception, ReIDKitError), (arguments, done.output)
        assert re.search(match, str(done.exception)), done.exception
        assert not (gallery / ".reidkit-search").exists() and not (tmp_path / "page.html").exists()
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    done = run("search", TINY, query, "--gallery", gallery, *out)
    assert "--no-attention" in str(done.exception) and not (gallery / ".reidkit-search").exists()
    assert run("search", TINY, query, "--gallery", gallery, *out, "--no-attention").exit_code == 0
