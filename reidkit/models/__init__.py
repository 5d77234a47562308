"""Backbones, MPN, CGPN and the classics they are compared with."""

from reidkit.models.base import ModelOutput, ReIDModel

__all__ = ["ModelOutput", "ReIDModel"]
