"""Sidewalk's renderer: exact labels, siblings, cameras, detector errors."""

import dataclasses

import numpy as np
import pytest

from reidkit.data.sidewalk.detector import LEVELS, get_level
from reidkit.data.sidewalk.identity import SIBLING_FIELDS, colour_table, make_identities
from reidkit.data.sidewalk.labels import (
    FRAGMENTS,
    LIP_LABELS,
    PART_NAMES,
    PART_OF_CODE,
    code_of,
    parsing_map,
    part_map,
    segmentation_map,
)
from reidkit.data.sidewalk.render import render
from reidkit.data.sidewalk.scene import clean_camera, make_cameras
from reidkit.data.sidewalk.sheet import truth_sheet
from reidkit.errors import UnknownNameError

SIZE = (100, 40)
ALONE = dataclasses.replace(LEVELS["none"], bystander=0.0)


@pytest.fixture(scope="module")
def crowd():
    return make_identities(120, (7, 1))


def shoot(person, camera, seed, level=ALONE, **more):
    return render(person, camera, np.random.default_rng(seed), level, SIZE, **more)


def test_a_fragment_says_three_things():
    codes = np.array([[0, code_of("shoe_left"), code_of("backpack"), code_of("coat_sleeve", 1), code_of("neck", 3)]])
    assert parsing_map(codes).tolist() == [[0, 18, 0, 7, 0]]  # LIP: left-shoe, -, coat, -
    assert part_map(codes).tolist() == [[0, 5, 6, 3, 1]]  # feet, accessory, arms, head
    assert segmentation_map(codes).tolist() == [[False, True, True, True, True]]
    assert {f.lip for f in FRAGMENTS} - {None} <= set(LIP_LABELS) and {f.part for f in FRAGMENTS} == set(PART_NAMES)


def test_labels_are_exact_where_a_perfect_camera_sees_the_colours(crowd):
    camera = clean_camera(*SIZE, grey=131)
    for seed, person in enumerate(crowd[:25]):
        picture = shoot(person, camera, seed, supersample=1)
        mine = segmentation_map(picture.codes)
        assert 0.05 < mine.mean() < 0.7
        assert np.array_equal(picture.image[mine], colour_table(person)[picture.codes[mine]])
        street = (picture.image == 131).all(axis=2)
        assert not (street & mine).any() and street.mean() > 0.2


def test_truth_extent_is_where_the_body_is(crowd):
    people = [p for p in crowd if p.hat == "none" and p.hair_style == "short"]
    for seed, person in enumerate(people[:20]):
        picture = shoot(person, clean_camera(*SIZE), seed)
        rows = np.flatnonzero(segmentation_map(picture.codes).any(axis=1))
        if picture.top > 0.01:
            assert rows[0] == pytest.approx(picture.top * SIZE[0], abs=2)
        if picture.bottom < 0.99:
            assert rows[-1] + 1 == pytest.approx(picture.bottom * SIZE[0], abs=2.5)


def allowed_parts(kind):
    parts = {
        "shoes": {"feet"},
        "bag": {"accessory"},
        "sleeve": {"arms"},
        "lower": {"legs"},
        "lower_garment": {"legs"},
        "upper": {"torso", "arms", "legs"},
        "pattern": {"torso"},
        "hat": {"head"},
        "hair": {"head"},
    }
    return [PART_NAMES.index(name) + 1 for name in parts[kind]]


def test_siblings_differ_in_one_part_and_visibly(crowd):
    first, seen = {}, set()
    for person in crowd:
        leader = first.setdefault(person.group, person)
        if person is leader:
            assert person.differs == "-"
            continue
        changed = {f.name for f in dataclasses.fields(person) if getattr(person, f.name) != getattr(leader, f.name)}
        assert changed <= {*SIBLING_FIELDS[person.differs], "differs"} and len(changed) > 1
        seen.add(person.differs)
        different = 0
        for seed in range(8):
            a, b = (shoot(p, clean_camera(*SIZE), seed, supersample=1) for p in (leader, person))
            where = (a.image != b.image).any(axis=2)
            kinds = np.isin(PART_OF_CODE[a.codes], allowed_parts(person.differs)) | np.isin(
                PART_OF_CODE[b.codes], allowed_parts(person.differs)
            )
            assert not (where & ~kinds).any(), (person.differs, seed)
            different = max(different, int(where.sum()))
        assert different >= 4, f"a sibling with another {person.differs} looks the same from all sides"
    assert len(seen) >= 8  # of the 9 kinds


def test_strangers_do_not_share_a_group_and_groups_hold_at_most_three(crowd):
    sizes = np.bincount([p.group for p in crowd])
    assert sizes.max() <= 3 and 0.3 < (sizes > 1).mean() < 0.7


def test_a_crowd_of_siblings_only_comes_in_groups_of_five():
    crowd = make_identities(500, (7, 1), sibling_rate=1, siblings=4)
    assert set(np.bincount([p.group for p in crowd])) == {5}
    for group in range(100):
        kinds = [p.differs for p in crowd if p.group == group]
        assert kinds[0] == "-" and len(set(kinds)) == 5  # everybody in another part


def test_same_seed_same_pixels_other_seed_other_pixels(crowd):
    camera = make_cameras(2, 0, *SIZE)[1]
    a, b, c = (shoot(crowd[0], camera, seed, LEVELS["strong"], crowd=crowd) for seed in (1, 1, 2))
    assert np.array_equal(a.image, b.image) and np.array_equal(a.codes, b.codes)
    assert not np.array_equal(a.image, c.image)


def test_a_camera_is_the_same_whatever_the_number_of_cameras():
    few, many = make_cameras(2, 3, *SIZE), make_cameras(5, 3, *SIZE)
    assert np.array_equal(few[1].scenes[0], many[1].scenes[0]) and few[1].gain == many[1].gain


def test_controlled_shift_moves_everything_down_by_its_fraction(crowd):
    noisy = make_cameras(1, 0, *SIZE)[0]
    camera = dataclasses.replace(noisy, noise=0.0, blur=0.0, resolution=2.0, folds=0.0, uneven=0.0)
    for seed in range(12):
        still, moved = (
            shoot(crowd[seed], camera, seed, LEVELS["strong"], crowd=crowd, shift=shift) for shift in (0.0, 0.2)
        )
        assert moved.top - still.top == pytest.approx(0.2) and moved.bottom - still.bottom == pytest.approx(0.2)
        assert (moved.codes[20:] == still.codes[:-20]).mean() > 0.995  # 0.2 of 100 rows
        change = np.abs(moved.image[20:].astype(int) - still.image[:-20]).mean()
        assert change < 1.0 and moved.occluder == still.occluder and moved.detector == still.detector


def hidden_and_bare(person, camera, seed, level):
    bare = dataclasses.replace(level, occluder=0.0)
    return tuple(shoot(person, camera, seed, wanted, supersample=1) for wanted in (level, bare))


def test_visibility_is_the_share_of_pixels_that_an_occluder_leaves(crowd):
    level = dataclasses.replace(ALONE, occluder=1.0, loose=1.0)
    checked = 0
    for seed, person in enumerate(crowd[:40]):
        picture, bare = hidden_and_bare(person, clean_camera(*SIZE), seed, level)
        if bare.top < 0 or bare.bottom > 1 or np.nanmin(bare.visibility) < 1:
            continue  # cut off by the box: other test
        area = [np.bincount(part_map(p.codes).ravel(), minlength=7)[1:] for p in (picture, bare)]
        share = np.where(area[1] > 0, area[0] / np.maximum(area[1], 1), np.nan)
        assert picture.visibility == pytest.approx(share, nan_ok=True)
        checked += 1
    assert checked >= 10


def test_boxes_cut_off_what_they_say(crowd):
    level = dataclasses.replace(LEVELS["strong"], occluder=0.0, bystander=0.0)
    head, feet = PART_NAMES.index("head"), PART_NAMES.index("feet")
    seen = {"ok": [], "head": [], "legs": [], "loose": []}
    for seed in range(250):
        picture = shoot(crowd[seed % 100], clean_camera(*SIZE), seed, level)
        seen[picture.detector].append((picture.visibility[head], picture.visibility[feet]))
    rates = {kind: len(v) / 250 for kind, v in seen.items()}
    assert rates["head"] == pytest.approx(0.18, abs=0.08) and rates["legs"] == pytest.approx(0.25, abs=0.09)
    mean = {kind: np.mean(values, axis=0) for kind, values in seen.items()}
    assert mean["ok"].min() > 0.6 and mean["loose"].min() > 0.6
    assert mean["head"][0] < 0.5 < mean["head"][1] and mean["legs"][1] < 0.2 < mean["legs"][0]


def test_false_alarms_show_the_street_only():
    picture = shoot(None, make_cameras(1, 0, *SIZE)[0], 3)
    assert not segmentation_map(picture.codes).any() and np.isnan(picture.top) and np.isnan(picture.visibility).all()


def histogram(picture):
    """Square roots of the colour frequencies of the person alone, 512 bins."""
    bins = (picture.image[segmentation_map(picture.codes)] // 32).astype(int) @ (64, 8, 1)
    return np.sqrt(np.bincount(bins, minlength=512) / len(bins))


def test_colour_alone_identifies_within_a_camera_but_not_across(crowd):
    a, b = make_cameras(6, 0, *SIZE)[0], make_cameras(6, 0, *SIZE)[3]
    gallery = np.stack([histogram(shoot(p, a, [i, 0])) for i, p in enumerate(crowd)])
    same, cross = (np.stack([histogram(shoot(p, c, [i, 1])) for i, p in enumerate(crowd)]) for c in (a, b))
    hits = [(f @ gallery.T).argmax(axis=1) == np.arange(len(crowd)) for f in (same, cross)]
    assert hits[1].mean() < 0.35 < hits[0].mean()


def test_unknown_levels_are_named():
    with pytest.raises(UnknownNameError, match="'mild'"):
        get_level("mildd")


def test_contact_sheet_shows_every_person_level_and_camera():
    sheet = truth_sheet("tiny", people=2, levels=("none", "strong"), cameras=3)
    assert sheet.size == (90 + 3 * 3 * (32 + 2), 2 * 2 * (96 + 2))
    assert np.asarray(sheet).std() > 30
