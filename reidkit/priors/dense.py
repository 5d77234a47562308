"""Textures of the training images for DSA-reID: each image warped onto the 24 charts of the body's surface.

Sidewalk's maps are derived from its plan (`data/sidewalk/dense.py`). Maps of photographs, which DensePose or a
successor estimates, are read from files mirrored on the data set's layout: that of `bounding_box_train/NAME.jpg` is
`<root>/dense/bounding_box_train/NAME.png` or `.npz`, of the image's own size.

    NAME.png   8 bits a channel: I (0..24), 255 U, 255 V; in this order, or reversed as OpenCV writes it
    NAME.npz   arrays I [H, W] integer and U, V [H, W] float in [0, 1]; or `iuv` [3, H, W]

The charts and their numbers are DensePose's (`data/texture.py`). Its U and V follow a hand-made atlas in which
mirroring is not exactly U -> 1 - U; for flipped images that is taken for good enough.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from reidkit.data.dataset import ReIDDataset
from reidkit.data.images import read_image, relative_paths, upright_size
from reidkit.data.texture import CHARTS, SIZE, TextureBatch
from reidkit.errors import PriorError, ReIDKitError
from reidkit.files import replacing, reserve, write_text
from reidkit.priors.files import file_stamp
from reidkit.priors.source import Tool
from reidkit.readers import read_arrays

VERSION = 1  # of `warp`: raise when its results change, so that kept textures are made anew
MAP_BYTES = 256 << 20  # of one array: 8 million pixels of float64
FILL = 4  # steps of filling holes: a limb of a photograph has fewer pixels than its texture


def warp(image: np.ndarray, iuv: np.ndarray, size: int = SIZE, fill: int = FILL) -> np.ndarray:
    """uint8 [24, 4, size, size]: an image on the body's charts.

    image: uint8 [H, W, 3]. iuv: [3, H, W], chart I in 0..24, U and V in [0, 1].
    A texel (row floor(V size), column floor(U size) of chart I) is the mean of the pixels that fall on it. An empty
    texel becomes the mean of its known neighbours of eight, `fill` times over; what is still empty was not seen: all 0.
    """
    chart, columns, rows = iuv[0].astype(np.int64), *(np.clip(x * size, 0, size - 1).astype(np.int64) for x in iuv[1:])
    on = chart > 0
    cell = ((chart[on] - 1) * size + rows[on]) * size + columns[on]
    cells = len(CHARTS) * size * size
    count = np.bincount(cell, minlength=cells)
    sums = [np.bincount(cell, weights=image[..., c][on], minlength=cells) for c in range(3)]
    colour = torch.from_numpy(np.stack(sums)).view(3, -1, size, size).transpose(0, 1)  # [24, 3, S, S]
    known = torch.from_numpy(count > 0).view(-1, 1, size, size).double()  # [24, 1, S, S]
    colour = colour / torch.from_numpy(count).view(-1, 1, size, size).clamp_min(1)
    for _ in range(fill):
        around = 9 * torch.nn.functional.avg_pool2d(torch.cat([colour * known, known], 1), 3, 1, 1)  # sums over 3 x 3
        mean = around[:, :3] / around[:, 3:].clamp_min(1)
        colour = torch.where(known > 0, colour, mean)
        known = (around[:, 3:] > 0.5).double()
    colour = (colour * known).round()
    return torch.cat([colour, 255 * known], 1).byte().numpy()


def read_iuv(file: Path) -> np.ndarray:
    """float32 [3, H, W] from a dense body map in a file (see above); PriorError for a file that is none."""
    try:
        iuv = _from_npz(file) if file.suffix == ".npz" else _from_png(file)
    except PriorError:
        raise
    except (OSError, ValueError, KeyError, SyntaxError, zipfile.BadZipFile, Image.DecompressionBombError) as error:
        raise PriorError(f"{file}: this dense body map does not decode ({error}); write it again") from error
    chart, uv = iuv[0], iuv[1:]
    if not (np.isfinite(iuv).all() and (chart == chart.round()).all() and 0 <= chart.min() and chart.max() <= 24):
        raise PriorError(f"{file}: expected charts I from 0 to 24, found {chart.min():g} to {chart.max():g}")
    if uv.min() < 0 or uv.max() > 1:
        raise PriorError(f"{file}: expected U and V from 0 to 1, found {uv.min():g} to {uv.max():g}")
    return iuv.astype(np.float32)


def _from_npz(file: Path) -> np.ndarray:
    with zipfile.ZipFile(file) as stored:
        whole = "iuv.npy" in stored.namelist()
    names = {"iuv": (None, (3, None, None))} if whole else {key: (None, (None, None)) for key in "IUV"}
    options = {"missing": "it is gone", "remedy": "write it again", "error": PriorError, "limit": MAP_BYTES}
    arrays = read_arrays(file, names, **options)
    iuv = arrays["iuv"] if whole else np.stack([arrays[key].astype(np.float64) for key in "IUV"])
    if not iuv.size:
        raise ValueError(f"its shape is {list(iuv.shape)}, expected [3, H, W]")
    return iuv


def _from_png(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        if picture.mode != "RGB":
            raise ValueError(f"a picture of mode {picture.mode}, expected three channels: I, 255 U, 255 V")
        channels = np.asarray(picture).transpose(2, 0, 1)
    charts = [k for k in (0, 2) if channels[k].max() <= len(CHARTS)]
    if not charts:
        raise ValueError("neither its first nor its last channel holds charts from 0 to 24")
    if len(charts) == 2:  # I is where U and V may be other than 0
        charts = [k for k in charts if (channels[2 - k][channels[k] == 0] == 0).all()] or charts
    chart, v = channels[charts[0]], channels[2 - charts[0]]
    return np.stack([chart.astype(np.float64), channels[1] / 255, v / 255])


class TextureTable:
    """The textures of N images, in a file that is read where it is needed; in the place of a `PriorTable`."""

    def __init__(self, paths: Sequence[str], textures: np.ndarray) -> None:
        self.paths, self.textures = tuple(paths), textures  # [N, 24, 4, S, S] uint8
        self._rows = {path: row for row, path in enumerate(self.paths)}

    def __len__(self) -> int:
        return len(self.paths)

    def lookup(self, paths: Sequence[str]) -> TextureBatch:
        """The textures of these relative paths, in this order; PriorError names paths that are not in the table."""
        if absent := [path for path in paths if path not in self._rows]:
            raise PriorError(f"{len(absent)} of {len(paths)} images have no textures, the first is {absent[0]}")
        return TextureBatch(torch.from_numpy(self.textures[[self._rows[path] for path in paths]]))

    def digest(self) -> str:
        """SHA-256 over path and texture of every image: equal for equal textures, whenever they were made."""
        digest = hashlib.sha256()
        for path, row in sorted(self._rows.items()):
            digest.update(f"{path}\n".encode(errors="surrogateescape") + self.textures[row].tobytes())
        return digest.hexdigest()


def texture_file(ds: ReIDDataset, tool: Tool) -> Path:
    """`<root>/priors/dense-<tool>-32.npy` (or in `ds.cache_dir`): where textures are kept."""
    return ds.derived("priors") / f"dense-{tool}-{SIZE}.npy"


def require_textures(ds: ReIDDataset, tool: Tool) -> None:
    """Raise PriorError unless `find_textures` can find or make the textures of every training image."""
    _stamps(ds, tool, relative_paths(ds.train["path"], ds.root))


def find_textures(ds: ReIDDataset, tool: Tool, *, progress: bool = True) -> TextureTable:
    """The textures of the training images: kept ones while images and maps are the same, else made anew.

    tool: "sidewalk", or "files" for maps under `<root>/dense`. Raises PriorError for images without maps, maps that do
    not decode, of another size than their image or with senseless values, and for a folder that cannot be written.
    """
    paths = relative_paths(ds.train["path"], ds.root)
    images = [file_stamp(path, Path(ds.root) / path) for path in paths]  # a texture holds the pixels of its image
    manifest = {"version": VERSION, "size": SIZE, "fill": FILL, "paths": paths, "images": images}
    manifest |= {"stamps": _stamps(ds, tool, paths)}
    file = texture_file(ds, tool)
    if (kept := _kept(file, manifest)) is None:
        maps = _sidewalk_maps(ds) if tool == "sidewalk" else map(read_iuv, (_map_file(ds, path) for path in paths))
        _write(file, manifest, lambda: _textures(ds, paths, maps, progress))
        kept = np.load(file, mmap_mode="r")
    return TextureTable(paths, kept)


def _sidewalk_maps(ds: ReIDDataset) -> Iterator[np.ndarray]:
    from reidkit.data.sidewalk.dense import dense_maps

    return dense_maps(ds, ds.train)


def _textures(
    ds: ReIDDataset, paths: Sequence[str], maps: Iterator[np.ndarray], progress: bool
) -> Iterator[np.ndarray]:
    for path, iuv in zip(tqdm(paths, desc="textures", unit="img", disable=not progress), maps):
        height, width = upright_size(Path(ds.root) / path)
        if iuv.shape[1:] != (height, width):
            raise PriorError(
                f"the dense body map of {path} has {iuv.shape[1]}x{iuv.shape[2]} pixels (height x width), its image "
                f"{height}x{width}: a map must have the size of its image"
            )
        image = read_image(Path(ds.root) / path, (height, width))  # [3, H, W]
        yield warp(image.transpose(1, 2, 0), iuv)


def _stamps(ds: ReIDDataset, tool: Tool, paths: Sequence[str]) -> list[int]:
    """What changes when a map does; PriorError where one is missing."""
    if tool == "sidewalk":
        from reidkit.data.sidewalk.dense import DENSE_VERSION

        if ds.source.get("name") != "sidewalk":
            raise PriorError(
                f"{ds.label} was not rendered: its dense body maps are read from files (--prior-tool files)"
            )
        return [DENSE_VERSION]
    if tool != "files":
        raise PriorError(f"tool {tool!r} makes no dense body maps; expected sidewalk, or files under {ds.root}/dense")
    stamps = [file_stamp(path, _map_file(ds, path)) for path in paths]
    if absent := [path for path, stamp in zip(paths, stamps) if not stamp]:
        raise PriorError(
            f"{len(absent)} of {len(paths)} training images of {ds.label} have no dense body map (looked for "
            f"{_map_file(ds, absent[0])} and .npz): write I, U, V of each, as DensePose gives them (docs/guide.md)"
        )
    return stamps


def _map_file(ds: ReIDDataset, path: str) -> Path:
    """The map of an image: a PNG, or the npz where there is no PNG."""
    png = (Path(ds.root) / "dense" / path).with_suffix(".png")
    npz = png.with_suffix(".npz")
    return npz if npz.exists() and not png.exists() else png


def _kept(file: Path, manifest: dict) -> np.ndarray | None:
    """The textures in a file if they were made of the same maps in the same way."""
    try:
        if json.loads(file.with_suffix(".json").read_text()) != manifest:
            return None
        textures = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return textures if textures.shape == (len(manifest["paths"]), len(CHARTS), 4, SIZE, SIZE) else None


def _write(file: Path, manifest: dict, textures: Callable[[], Iterator[np.ndarray]]) -> None:
    """Write textures, then the manifest that says what they were made of. PriorError where the disk refuses."""
    try:
        shape = (len(manifest["paths"]), len(CHARTS), 4, SIZE, SIZE)
        with replacing(file) as temporary:
            out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
            reserve(temporary)  # a mapped file that finds the disk full later ends the process
            for row, texture in enumerate(textures()):
                out[row] = texture
            out.flush()
            file.with_suffix(".json").unlink(missing_ok=True)
        write_text(file.with_suffix(".json"), json.dumps(manifest))
    except PriorError:
        raise
    except ReIDKitError as error:
        raise PriorError(
            f"the textures cannot be kept: {error}. Derived files can go elsewhere (--cache-dir DIR)"
        ) from error
