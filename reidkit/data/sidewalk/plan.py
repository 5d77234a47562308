"""What a Sidewalk data set consists of: its sizes, its people, and the list of its shots.

The plan is a pure function of size and seed; every shot has its own seeds. That is why the pixels do not depend on
how many processes render them, nor on where an interrupted rendering went on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache

import numpy as np

from reidkit.data.sidewalk.detector import get_level
from reidkit.data.sidewalk.identity import Identity, make_identities
from reidkit.data.sidewalk.render import Picture, render
from reidkit.data.sidewalk.scene import make_cameras
from reidkit.data.sidewalk.tools import ToolRates, tool_outputs
from reidkit.errors import unknown_name

VERSION = 1  # of the renderer: pixels of the same seed change only with this number
SHIFTS = (0.0, 0.05, 0.10, 0.15, 0.20)  # of the controlled-shift queries, fractions of the image height
MISSING_CAMERA = 0.15  # probability that a camera never sees a person
CHUNK = 48  # shots rendered in one go


@dataclass(frozen=True)
class Size:
    """height, width: pixels. per_camera: images a person and camera in the training set and the gallery.

    distractors (pid 0) and junk (pid -1): images added to each gallery. sibling_rate, siblings: see `make_identities`.
    train_level: the level of detector errors in the training images.
    """

    height: int
    width: int
    train_ids: int
    test_ids: int
    cameras: int
    per_camera: int
    distractors: int
    junk: int
    sibling_rate: float = 0.5
    siblings: int | None = None
    train_level: str = "medium"


SMALL = Size(144, 48, 200, 100, cameras=6, per_camera=3, distractors=150, junk=60)
SIZES = {
    "tiny": Size(96, 32, 24, 12, cameras=4, per_camera=2, distractors=8, junk=4),
    "small": SMALL,
    "medium": replace(SMALL, height=192, width=64),  # seen better
    "full": Size(384, 128, 750, 750, cameras=6, per_camera=3, distractors=1100, junk=450),
    # "small" with one thing changed: more people to train on (the test people are the same); nobody unlike all others:
    # groups of five who differ in one part from their first, so in two from one another; and training images in which
    # hardly anything stands before anybody (the test images are the same).
    "many": replace(SMALL, train_ids=750),
    "siblings": replace(SMALL, sibling_rate=1, siblings=4),
    "unhidden": replace(SMALL, train_level="unhidden"),
}
# Image folder -> (level of detector errors, None = the size's `train_level`; number of its random stream).
FOLDERS = {
    "bounding_box_train": (None, 1),
    "query": ("mild", 2),
    "bounding_box_test": ("mild", 3),
    "query_strong": ("strong", 4),
    "bounding_box_test_strong": ("strong", 5),
    "query_shift": ("mild", 2),  # the queries again: same stream, other shifts
}


@dataclass(frozen=True)
class Settings:
    """Everything that the pixels and maps of a data set depend on."""

    size: str
    seed: int = 0
    rates: ToolRates = field(default_factory=ToolRates)

    @property
    def spec(self) -> Size:
        """The numbers behind the name of the size. Raises UnknownNameError."""
        if self.size not in SIZES:
            raise unknown_name("size of sidewalk", self.size, SIZES)
        return SIZES[self.size]

    @property
    def folder_name(self) -> str:
        """sidewalk-small, or sidewalk-small-seed3."""
        return f"sidewalk-{self.size}" + (f"-seed{self.seed}" if self.seed else "")

    def as_dict(self) -> dict[str, object]:
        """What a manifest records, and what must agree for two renderings to be the same."""
        return {"version": VERSION, "size": self.size, "seed": self.seed, "tool_rates": asdict(self.rates)}


@dataclass(frozen=True)
class Shot:
    """One image to render: where it goes, whom it shows (None = the empty street), from which seeds."""

    folder: str
    name: str
    pid: int
    camid: int
    person: Identity | None
    level: str
    key: tuple[int, ...]
    shift: float = 0.0

    @property
    def path(self) -> str:
        """Relative to the data set's folder, posix style."""
        return f"{self.folder}/{self.name}.jpg"


@lru_cache(maxsize=4)
def people(settings: Settings) -> dict[str, list[Identity]]:
    """The training and test identities, the bystanders, and the strangers who become distractors.

    Each list is drawn on its own, so that no group of siblings has members on two sides.
    """
    spec, seed = settings.spec, settings.seed
    related = {"sibling_rate": spec.sibling_rate, "siblings": spec.siblings}
    train = make_identities(spec.train_ids, (seed, 11), **related)
    return {
        "train": train,
        "test": make_identities(spec.test_ids, (seed, 12), **related, first_group=train[-1].group + 1),
        "crowd": make_identities(60, (seed, 13), sibling_rate=0.0),
        "strangers": make_identities(120, (seed, 14), sibling_rate=0.0),
    }


def _name(pid: int, camid: int, frame: int, box: int) -> str:
    """As in Market-1501: 0002_c1s1_000451_03 is identity, camera, sequence, frame, number of the box."""
    return f"{pid if pid < 0 else format(pid, '04d')}_c{camid}s1_{frame % 1_000_000:06d}_{box:02d}"


def _cameras_of(settings: Settings, pid: int) -> list[int]:
    """The cameras (from 1) that see a person: each but with probability 15 %, at least two."""
    count = settings.spec.cameras
    seen = np.random.default_rng([settings.seed, 21, pid]).random(count) > MISSING_CAMERA
    return [c + 1 for c in range(count) if seen[c]] if seen.sum() >= 2 else [1, count]


def _identity_shots(settings: Settings, folder: str, crowd: list[Identity], first_pid: int, count: int) -> list[Shot]:
    (level, stream), shots = FOLDERS[folder], []
    level = level or settings.spec.train_level
    for pid, person in enumerate(crowd, first_pid):
        for camid in _cameras_of(settings, pid):
            for k in range(count):
                frame = 37 * pid + 3001 * camid + 25 * k + 5 * stream
                key = (settings.seed, stream, pid, camid, k)
                boxes = {round(100 * s): s for s in SHIFTS} if folder == "query_shift" else {k + 1: 0.0}
                for box, shift in boxes.items():
                    name = _name(pid, camid, frame, box)
                    shots.append(Shot(folder, name, pid, camid, person, level, key, shift))
    return shots


def _gallery_extras(settings: Settings, folder: str) -> list[Shot]:
    """Distractors (strangers, every third an empty street) and junk (boxes that hardly hit a test person)."""
    spec, who, (level, stream), shots = settings.spec, people(settings), FOLDERS[folder], []
    for kind, pid, count in ((0, 0, spec.distractors), (1, -1, spec.junk)):
        pool = who["strangers"] if kind == 0 else who["test"]
        for i in range(count):
            key = (settings.seed, 10 + stream, kind, i)
            rng = np.random.default_rng([*key, 2])
            camid, person = int(rng.integers(1, spec.cameras + 1)), pool[int(rng.integers(len(pool)))]
            if kind == 0 and i % 3 == 0:
                person = None
            name = _name(pid, camid, 1000 + 7 * i, 1 + i % 9)
            shots.append(Shot(folder, name, pid, camid, person, "junk" if kind else level, key))
    return shots


@lru_cache(maxsize=4)
def plan(settings: Settings) -> tuple[tuple[Shot, ...], ...]:
    """All shots in chunks of at most CHUNK; a chunk lies in one folder."""
    spec, who = settings.spec, people(settings)
    test_pid = 2 + spec.train_ids
    chunks = []
    for folder in FOLDERS:
        query = folder.startswith("query")
        crowd, first = (who["train"], 2) if folder == "bounding_box_train" else (who["test"], test_pid)
        shots = _identity_shots(settings, folder, crowd, first, 1 if query else spec.per_camera)
        if folder.startswith("bounding_box_test"):
            shots += _gallery_extras(settings, folder)
        chunks += [tuple(shots[i : i + CHUNK]) for i in range(0, len(shots), CHUNK)]
    return tuple(chunks)


def take(settings: Settings, shot: Shot) -> tuple[Picture, np.ndarray, np.ndarray, list[str]]:
    """Render a shot: -> (picture, parsing [H, W] uint8, segmentation [H, W] bool, failures of the tools)."""
    spec = settings.spec
    camera = make_cameras(spec.cameras, settings.seed, spec.height, spec.width)[shot.camid - 1]
    picture = render(
        shot.person,
        camera,
        np.random.default_rng([*shot.key, 0]),
        get_level(shot.level),
        (spec.height, spec.width),
        people(settings)["crowd"],
        shot.shift,
    )
    rng = np.random.default_rng([*shot.key, 1])
    parsing, segmentation, faults = tool_outputs(picture.codes, rng, settings.rates, picture.quality, picture.occluder)
    return picture, parsing, segmentation, faults
