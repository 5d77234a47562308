"""The tour's page and its bookkeeping (training and notebooks have tests of their own)."""

import base64
import io
import json
import os
import re
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reidkit.errors import ReIDKitError
from reidkit.lifetime import SIGINT_CODE
from reidkit.reporting import plots
from reidkit.reporting.report import COLUMNS
from reidkit.tour import __main__ as tour
from reidkit.tour import page, people, steps, words

RESULTS = pd.DataFrame(
    [
        [f"{s}-0", s, s, "sidewalk-small", "quick", 0, level, "ours", "", shift, metric, value, "", "", ""]
        for s, base in (("Baseline", 0.5), ("MPNo", 0.625))
        for level, shift, drop in (
            ("strong", np.nan, 0.25),
            ("mild", np.nan, 0.0),
            ("shift", 0.0, 0.125),
            ("shift", 0.2, 0.375),
        )
        for metric, value in (("rank1", base - drop + 0.125), ("mAP", base - drop), ("mINP", 0.1))
    ],
    columns=COLUMNS,
)


@pytest.fixture(scope="session")
def answers(sidewalk_tiny):
    """Two small networks that ship, and a rendered test set of 12 people."""
    names = ("naive-mtl-sidewalk-small-quick-s0", "mpn-sidewalk-small-quick-s0")
    return people.ask(sidewalk_tiny.at_level("strong"), names, people=8, images=4)


def test_summary_has_a_line_a_level_in_the_order_of_the_results():
    table = steps.summary(RESULTS)
    assert table.index.tolist() == ["strong", "mild"] and table.columns.tolist() == ["Baseline", "MPNo"]
    assert table.loc["mild", "Baseline"] == "62.5 / 50.0" and table.loc["strong", "MPNo"] == "50.0 / 37.5"


def test_every_name_on_the_page_is_explained(sidewalk_tiny):
    assert {words.label(name) for name in (*steps.VARIANTS, *people.NETWORKS)} <= set(words.SYSTEMS)
    assert {sidewalk_tiny.level, *sidewalk_tiny.levels} == set(words.TEST_LEVELS)
    found = words.explained(["MPNo"], ["strong"])
    assert list(found) == ["MPNo", "strong", "Rank-1", "mAP"] and "65 % of the boxes" in found["strong"]


def test_the_page_stands_alone_and_fits_a_telephone(tmp_path, answers):
    """No address outside, no script; every width is the window's or scrolls inside its own box."""
    (tmp_path / "00_start_here.html").write_text("<p>page</p>")
    whole = page.TourPage(tmp_path, "Measured here.")
    whole.sections += [
        people.section(answers),
        page.tables({"What came out": steps.summary(RESULTS)}, words.explained(["MPNo"], ["mild"])),
        page.figures([page.Picture(plots.bars({"a": 1.0, "b": 2.0}), 'bars & "signs"')]),
        page.notebook_links(tmp_path, [page.Notebook("00_start_here.html", "00 Start <here>", 12.3)]),
    ]
    text = whole.write().read_text()
    assert whole.file == tmp_path / "index.html" and not list(tmp_path.glob(".index*"))
    assert 'href="00_start_here.html"' in text and "00 Start &lt;here&gt;" in text and "executed in 12 s" in text
    assert "62.5 / 50.0" in text and "bars &amp; &quot;signs&quot;" in text and "Measured here." in text
    assert not re.search(r"(?:src|href)=\"?(?:https?:)?//", text) and "<script" not in text
    picture = base64.b64decode(re.search(r"data:image/png;base64,([^\"]+)", text)[1])
    assert picture.startswith(b"\x89PNG")
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    assert "http-equiv" not in text and "class=now" not in text, "a tour that is over does not load itself again"
    wide = [float(w) for w in re.findall(r"(?<!max-)width: ([\d.]+)rem", page.STYLE)]
    assert not wide and "overflow-x: auto" in page.STYLE, "no fixed width; tables scroll inside their box"


def test_a_growing_page_loads_itself_again_and_one_that_stopped_does_not(tmp_path):
    growing = page.TourPage(tmp_path)
    text = growing.write("Step 1 of 4: rendering <people>").read_text()
    assert f'<meta http-equiv="refresh" content="{page.RELOAD}">' in text and "rendering &lt;people&gt;" in text
    stopped = growing.write("The tour has stopped", reload=False).read_text()
    assert "http-equiv" not in stopped and "The tour has stopped" in stopped


def test_people_are_on_the_page_with_the_answers_of_both_networks(answers, sidewalk_tiny):
    text = people.section(answers)
    assert set(answers.networks) == {"Naive MTL", "MPN"} and answers.people == 8
    assert answers.query.detector == "loose" and answers.query.occluder == "none"
    pids = sidewalk_tiny.at_level("strong").gallery.set_index("path").pid
    for name, answer in answers.networks.items():
        assert f"{name}: the 8 most similar pictures" in text and answer.maps.shape == (6, 144, 48)
        assert answer.first.correct.tolist() == [pids[path] == answers.query.pid for path in answer.first.path]
        assert answer.first.score.is_monotonic_decreasing
    pictures = re.findall(r'<figure class="tile (\w*)"><img alt="([^"]+)" src="data:image/jpeg;base64,([^"]+)"', text)
    right = sum(int(a.first.correct.sum()) for a in answers.networks.values())
    kinds = [kind for kind, _, _ in pictures]
    assert kinds.count("right") == right and kinds.count("wrong") == 16 - right and kinds.count("query") == 4
    assert sum("classifier of part" in alt for _, alt, _ in pictures) == 12
    for _, _, code in pictures:
        with Image.open(io.BytesIO(base64.b64decode(code))) as image:
            assert image.size == people.TILE
    for name in ("Naive MTL", "MPN", "strong", "mAP"):
        assert f"<dt>{name}</dt>" in text


@pytest.mark.parametrize(
    ("pointing", "mean_ap", "said"),
    [
        ((0.15, 0.56), (0.5, 0.6), ["more often than", "56 against 15 %", ", and", "better than", "60.0 against 50.0"]),
        ((0.15, 0.56), (0.6, 0.5), ["more often than", ", but", "worse than", "in the paper MPN is better in both"]),
        ((0.56, 0.15), (0.5, 0.6), ["less often than", ", but", "better than", "in the paper"]),
        ((0.5, 0.5), (0.6, 0.6), ["as often as", ", and", "as well as", "in the paper"]),
    ],
)
def test_the_sentence_says_what_was_measured_whichever_way_it_went(answers, pointing, mean_ap, said):
    both = zip(answers.networks.items(), pointing, mean_ap)
    changed = {name: replace(answer, pointing=p, mAP=m) for (name, answer), p, m in both}
    sentence = people.finding(replace(answers, networks=changed))
    assert all(part in sentence for part in said) and sentence.count(".") == len(re.findall(r"\d\.\d", sentence)) + 1
    assert ("in the paper" in sentence) == ("in the paper" in " ".join(said))


def test_the_sentence_s_numbers_are_the_networks_own(answers, sidewalk_tiny):
    """Another way to the same numbers: evaluation of all badly placed queries by hand."""
    test = sidewalk_tiny.at_level("strong")
    known = test.query.pid.unique()[:8]
    wrong = test.query[test.query.pid.isin(known) & (test.query.detector != "ok")]
    assert answers.queries == len(wrong) and answers.gallery == int(test.gallery.pid.isin(known).sum())
    net = people.load_run("mpn-sidewalk-small-quick-s0")
    gallery = test.gallery[test.gallery.pid.isin(known)]
    qf, gf = net.extract(wrong.path, progress=False), net.extract(gallery.path, progress=False)
    likeness = torch_cosine(qf, gf)
    aps = []
    for i, (pid, camid) in enumerate(zip(wrong.pid, wrong.camid)):
        seen = ~((gallery.pid == pid) & (gallery.camid == camid)).to_numpy()
        hits = (gallery.pid == pid).to_numpy()[seen][np.argsort(-likeness[i][seen], kind="stable")]
        aps.append((np.arange(1, hits.sum() + 1) / (np.flatnonzero(hits) + 1)).mean())
    assert answers.networks["MPN"].mAP == pytest.approx(np.mean(aps), abs=1e-4)


def torch_cosine(qf, gf):
    """[Q, G] cosine similarity."""
    qf, gf = (f / f.norm(dim=1, keepdim=True) for f in (qf, gf))
    return (qf @ gf.T).numpy()


def test_the_first_thing_printed_is_where_the_page_lies_and_a_failure_stays_on_it(tmp_path, capsys, monkeypatch):
    def broken(*_, **__):
        assert "first pictures" in (tmp_path / "index.html").read_text(), "the page is there before the first step"
        raise ReIDKitError("the disk is full")

    monkeypatch.setattr(tour, "load_dataset", broken)
    arguments = ["--out", str(tmp_path), "--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs")]
    assert tour.main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].startswith(f"tour: open {tmp_path / 'index.html'}")
    assert "the disk is full" in printed.err
    text = (tmp_path / "index.html").read_text()
    assert "The tour has stopped: the disk is full" in text and "http-equiv" not in text

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(tour, "load_dataset", interrupted)
    assert tour.main(arguments) == SIGINT_CODE and "goes on from here" in capsys.readouterr().err
    assert "was interrupted" in (tmp_path / "index.html").read_text()


def test_each_step_leaves_a_page_that_is_whole(tmp_path, monkeypatch, answers, capsys):
    """People first, then the table, then the notebooks; what a later step breaks is not lost."""
    seen = []
    write = page.TourPage.write
    monkeypatch.setattr(
        page.TourPage, "write", lambda self, *a, **k: seen.append(len(self.sections)) or write(self, *a, **k)
    )
    monkeypatch.setattr(tour, "load_dataset", lambda *_, **__: _Set())
    monkeypatch.setattr(people, "ask", lambda _: answers)
    monkeypatch.setattr(steps, "train_variants", lambda *_: {})
    monkeypatch.setattr(steps, "read_results", lambda _: RESULTS.assign(form="step AP"))
    monkeypatch.setattr(steps, "pictures_of", lambda *_: [page.Picture(plots.bars({"a": 1.0}), "bars")])
    monkeypatch.setattr(steps, "execute_notebooks", lambda _: [])
    assert tour.main(["--out", str(tmp_path)]) == 0
    assert seen == [0, 1, 3, 4]
    text = (tmp_path / "index.html").read_text()
    assert "http-equiv" not in text and people.finding(answers).split(" (")[0] in text.replace("&#x27;", "'")
    assert text.index("One badly placed person") < text.index("62.5 / 50.0") < text.index("<h2>Notebooks")
    assert "first pictures" in capsys.readouterr().out


class _Set:
    def at_level(self, level):
        assert level == "strong"


def test_pictures_of_three_kinds(tmp_path):
    picture = Image.new("RGB", (4, 3), "red")
    picture.save(tmp_path / "a.png")
    for source in (picture, tmp_path / "a.png", plots.bars({"a": 1.0})):
        raw = base64.b64decode(page.Picture(source, "").data_url().removeprefix("data:image/png;base64,"))
        with Image.open(io.BytesIO(raw)) as found:
            assert found.format == "PNG" and (found.width > 100 or found.getpixel((0, 0)) == (255, 0, 0))


def test_a_missing_page_is_named(tmp_path):
    with pytest.raises(ReIDKitError, match=r"02_coarse_priors\.html"):
        page.notebook_links(tmp_path, [page.Notebook("02_coarse_priors.html", "02", 1)])


def test_only_old_notebooks_are_executed(tmp_path, monkeypatch):
    """A page newer than its source and than the kit is kept; the others are handed to the runner."""
    out, notebooks, calls, now = tmp_path / "out", tmp_path / "notebooks", [], time.time()
    out.mkdir(), notebooks.mkdir()
    for name in ("00_a", "01_b"):
        (notebooks / f"{name}.py").write_text("# %%\n")

    class Done:
        returncode = 0

    def run(command):
        names = [c for c in command if re.match(r"\d\d_", c)]
        calls.append(names)
        for name in names:
            (out / f"{name}.html").write_text("page")
            os.utime(out / f"{name}.html", (now + 30, now + 30))  # newer, however coarse the clock of the disk
        known = {n: {"title": n.upper(), "seconds": 1.0} for n in ("00_a", "01_b")}
        (out / "notebooks.json").write_text(json.dumps(known))
        return Done

    monkeypatch.setattr(steps.subprocess, "run", run)
    pages = steps.execute_notebooks(out, notebooks)
    assert calls == [["00_a", "01_b"]] and [p.title for p in pages] == ["00_A", "01_B"]
    steps.execute_notebooks(out, notebooks)
    assert len(calls) == 1
    os.utime(notebooks / "01_b.py", (now + 60, now + 60))
    steps.execute_notebooks(out, notebooks)
    assert calls[1:] == [["01_b"]]
    os.utime(notebooks / "01_b.py", (1, 1))
    newer = time.time() + 60
    (notebooks / "figures").mkdir()
    for helper in ("lesson.py", "figures/results.py"):  # what notebooks share is newer than all pages
        (notebooks / helper).write_text("")
        os.utime(notebooks / helper, (newer, newer))
        steps.execute_notebooks(out, notebooks)
        assert calls.pop() == ["00_a", "01_b"]
        (notebooks / helper).unlink()
    os.utime(notebooks / "01_b.py", (newer, newer))
    Done.returncode = 1
    with pytest.raises(ReIDKitError, match="a notebook failed"):
        steps.execute_notebooks(out, notebooks)
