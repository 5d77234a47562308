"""The gallery of docs/panels.md: the panels of the dashboard as the browser test saw them, in full colour.

.venv/bin/python -m pytest tests/browser/test_dashboard.py && .venv/bin/python tests/browser/gallery.py
"""

import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "helpers"))  # where `paths` lies
from paths import REPO

GALLERY = REPO / "results" / "panels"
WIDTH, QUALITY = 1000, 76  # of the JPEG files


def main() -> None:
    """build/screenshots/gallery_NAME.png -> results/panels/NAME.jpg."""
    GALLERY.mkdir(parents=True, exist_ok=True)
    for shot in sorted((REPO / "build" / "screenshots").glob("gallery_*.png")):
        target = (GALLERY / shot.name.removeprefix("gallery_")).with_suffix(".jpg")
        with Image.open(shot) as image:
            height = round(WIDTH * image.height / image.width)
            small = image.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
            small.save(target, quality=QUALITY, subsampling=0, optimize=True)
        print(f"{target.relative_to(REPO)}: {target.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main()
