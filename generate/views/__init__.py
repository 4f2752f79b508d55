"""Latent views T_z: how the positive's latent comes from the anchor's."""

from .base import NAMES, View, parse_view, view_from_json

__all__ = ["NAMES", "View", "parse_view", "view_from_json"]
