"""Backbones, MPN, CGPN and the classics they are compared with."""

from reidkit.models.backbones import create_backbone
from reidkit.models.base import ModelOutput, ReIDModel
from reidkit.models.released import load_released_mpn
from reidkit.models.zoo import VARIANTS, create_model

__all__ = ["VARIANTS", "ModelOutput", "ReIDModel", "create_backbone", "create_model", "load_released_mpn"]
