"""What lies in a folder of pictures: any folder, nested as it may be."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from reidkit.data.images import IMAGE_SUFFIXES, OTHER_SUFFIXES, is_unread_image
from reidkit.data.pictures import OWN_FOLDERS
from reidkit.errors import DatasetError


class GalleryFile(NamedTuple):
    """One picture and the state of its file: path relative to the gallery with forward slashes, bytes, time in ns."""

    name: str
    size: int
    changed: int


@dataclass
class Listing:
    """files: the pictures, sorted by name. ignored: how many files are no pictures by their names. own: how many the
    kit has written beside a data set (maps, caches). unread: {name: why} of pictures of kinds that it does not read."""

    root: Path
    files: list[GalleryFile] = field(default_factory=list)
    ignored: int = 0
    own: int = 0
    unread: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Where a file of the gallery lies."""
        return self.root / name


def list_gallery(folder: str | os.PathLike) -> Listing:
    """All pictures of a folder and of the folders in it; links are followed, each folder once.

    Hidden files and folders (names that begin with a dot) are passed over, and so are the
    folders that the kit writes beside a data set.
    Raises DatasetError for what is no folder, cannot be read, or holds no picture.
    """
    root = Path(folder)
    if not root.is_dir():
        kind = "is a file, not a folder of pictures" if root.exists() else "does not exist"
        raise DatasetError(f"the gallery {os.fspath(root)!r} {kind}; --gallery names a folder")
    listing, seen = Listing(root), set()

    def refuse(error: OSError) -> None:
        raise DatasetError(f"the folder {error.filename!r} of the gallery cannot be read ({error.strerror})") from error

    for place, folders, names in os.walk(root, followlinks=True, onerror=refuse):
        here = os.stat(place)
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()  # a link that leads back
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inner = os.path.relpath(place, root).replace(os.sep, "/")
        prefix = "" if inner == "." else inner + "/"
        _take(listing, place, prefix, [name for name in names if not name.startswith(".")])
    if not listing.files:
        raise DatasetError(
            f"the gallery {os.fspath(root)!r} holds no picture ({listing.ignored + listing.own} other files); read "
            f"are {', '.join(IMAGE_SUFFIXES)}"
        )
    listing.files.sort()
    return listing


def _take(listing: Listing, place: str, prefix: str, names: list[str]) -> None:
    """Enter the files of one folder."""
    for name in names:
        suffix = os.path.splitext(name)[1].lower()
        if prefix.split("/")[0] in OWN_FOLDERS:
            listing.own += 1
        elif suffix in IMAGE_SUFFIXES:
            try:
                state = os.stat(os.path.join(place, name))
            except OSError as error:
                listing.unread[prefix + name] = f"cannot be read ({error.strerror})"
                continue
            listing.files.append(GalleryFile(prefix + name, state.st_size, state.st_mtime_ns))
        elif suffix in OTHER_SUFFIXES:
            listing.unread[prefix + name] = f"{suffix} is a format that the kit does not read; save it as PNG or JPEG"
        elif is_unread_image(os.path.join(place, name)):
            listing.unread[prefix + name] = "an image whose name has no image's suffix; name it .jpg or .png"
        else:
            listing.ignored += 1
