"""`reidkit bench sidewalk`: how fast Sidewalk renders, on training shots of the small set.

`render` is image and fragment map; `with_tools` adds the imperfect tool outputs; `with_files` adds JPEG, two PNG
files and the packed truth, written atomically to a temporary folder.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from reidkit.bench.clock import measure
from reidkit.data.sidewalk import writer
from reidkit.data.sidewalk.detector import get_level
from reidkit.data.sidewalk.plan import SIZES, Settings, people, plan, take
from reidkit.data.sidewalk.render import render
from reidkit.data.sidewalk.scene import make_cameras

BENCH_SIZES = ((96, 32), (128, 64), (144, 48), (384, 128))


def run(images: int = 300) -> dict[str, dict[str, dict[str, float]]]:
    """Images a second of CPU time on one core, by size, for the sizes of the set and 128x64; bytes an image."""
    rates = {f"{h}x{w}": measure_size(h, w, images if h < 200 else images // 3) for h, w in BENCH_SIZES}
    return {"images_a_second_a_core": rates}


def measure_size(height: int, width: int, images: int) -> dict[str, float]:
    """The three rates at one image size, on training shots (level medium) of the small set."""
    name = f"bench-{height}x{width}"
    SIZES[name] = dataclasses.replace(SIZES["small"], height=height, width=width)
    try:
        return _measure(Settings(name), height, width, images)
    finally:
        del SIZES[name]


def _measure(settings: Settings, height: int, width: int, images: int) -> dict[str, float]:
    chunks = [i for i, chunk in enumerate(plan(settings)) if chunk[0].folder == "bounding_box_train"]
    chunks = chunks[: -(-images // len(plan(settings)[0]))]
    shots = [shot for i in chunks for shot in plan(settings)[i]]
    cameras, crowd = make_cameras(6, 0, height, width), people(settings)["crowd"]
    take(settings, shots[0])

    def only_render() -> None:
        for shot in shots:
            rng = np.random.default_rng([*shot.key, 0])
            render(shot.person, cameras[shot.camid - 1], rng, get_level(shot.level), (height, width), crowd)

    def with_tools() -> None:
        for shot in shots:
            take(settings, shot)

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / ".tmp-bench"
        writer._prepare(Path(folder), settings, scratch)

        def with_files() -> None:
            for i in chunks:
                writer.render_chunk(Path(folder), settings, i, scratch)

        jobs = {"render": only_render, "with_tools": with_tools, "with_files": with_files}
        result = {key: round(len(shots) / measure(job).cpu, 1) for key, job in jobs.items()}
        files = [p for p in Path(folder).rglob("*") if p.is_file()]
        result["bytes_an_image"] = round(sum(p.stat().st_size for p in files) / len(shots))
    return result
