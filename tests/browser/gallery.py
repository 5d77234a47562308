"""The gallery of docs/panels.md: the panels of the dashboard as the browser test saw them, in few colours.

.venv/bin/python -m pytest tests/browser/test_dashboard.py && .venv/bin/python tests/browser/gallery.py
"""

import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "helpers"))  # where `paths` lies
from paths import REPO

GALLERY = REPO / "results" / "panels"
COLOURS = 160


def main() -> None:
    """build/screenshots/gallery_NAME.png -> results/panels/NAME.png."""
    GALLERY.mkdir(parents=True, exist_ok=True)
    for shot in sorted((REPO / "build" / "screenshots").glob("gallery_*.png")):
        target = GALLERY / shot.name.removeprefix("gallery_")
        with Image.open(shot) as image:
            image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)
        print(f"{target.relative_to(REPO)}: {target.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main()
