"""A network for searches whose features are easy to know, and one of the kit's own, small."""

from pathlib import Path

import torch
from attention_networks import SIZE, make_model
from PIL import Image

from reidkit.evaluation.extract import Extraction
from reidkit.search import PictureNetwork


def small_network(name: str = "mpn-no-ca", key: str = "small") -> PictureNetwork:
    """One of the kit's networks, small, untrained."""
    model = make_model(name)
    model.extraction = Extraction(SIZE)
    return PictureNetwork(name, model, model.extraction, key, torch.device("cpu"))


class Watched:
    """A network that notes which pictures it reads. fail_after: the call of `features` that is interrupted."""

    def __init__(self, network: PictureNetwork):
        self.network, self.read_names, self.fail_after, self.calls = network, [], None, 0

    def __getattr__(self, name):
        return getattr(self.network, name)

    def read(self, paths):
        self.read_names += [Path(p).name for p in paths]
        return self.network.read(paths)

    def features(self, pixels, names):
        self.calls += 1
        if self.fail_after is not None and self.calls > self.fail_after:
            raise KeyboardInterrupt
        return self.network.features(pixels, names)


def coloured(path: Path, colour, size=(12, 30)) -> Path:
    """A picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, tuple(colour)).save(path)
    return path
