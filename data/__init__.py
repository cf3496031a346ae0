"""Clips: reading, writing, naming, downloading, making them."""

from data.clip import Clip, Colour

__all__ = ["Clip", "Colour"]
