"""Checking a data set in tests, and changing the files of one."""

from pathlib import Path

from PIL import Image

from reidkit.data.copies.check import check_dataset


def check(ds, **options):
    return check_dataset(ds, progress=False, **options)


def rename(folder: Path, change) -> None:
    """Give every image of a folder the name change(name)."""
    for path in sorted(folder.glob("*.*")):
        path.rename(path.with_name(change(path.name)))


def convert(folder: Path, suffix: str) -> None:
    """Write the images of a folder again, as another kind of file."""
    kind = {".bmp": "BMP", ".webp": "WEBP", ".tiff": "TIFF"}[suffix.lower()]
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".jpg", ".png")):
        with Image.open(path) as image:
            image.save(path.with_suffix(".tmp"), kind)
        path.unlink()
        path.with_suffix(".tmp").rename(path.with_suffix(suffix))


def note(report, text: str) -> list[str]:
    return [line for line in str(report).split("problems")[0].splitlines() if text in line]
