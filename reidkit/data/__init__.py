"""Data sets as tables, PxK sampling, transforms that move image and prior together."""

from reidkit.data.dataset import ReIDDataset

__all__ = ["ReIDDataset"]
