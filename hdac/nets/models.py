"""The networks that are trained and shipped, by what a file of weights says that it holds."""

from __future__ import annotations

from typing import Any

from data.errors import InputError
from hdac.nets import hybrid, residual, vid2vid

Settings = hybrid.NetSettings | vid2vid.Vid2VidSettings | residual.ResidualSettings
Net = hybrid.HybridNet | vid2vid.Vid2VidNet | residual.ResidualNet

HYBRID, VID2VID, RESIDUAL = "hybrid", "vid2vid", "residual"
"""Kinds, as files name them; those of before there was more than one name none, and are HYBRID."""

SIZES: dict[str, Any] = {HYBRID: hybrid.SIZES, VID2VID: vid2vid.SIZES, RESIDUAL: residual.SIZES}


def sizes() -> dict[str, Settings]:
    """Settings of the networks that can be trained, by name."""
    return {name: settings for known in SIZES.values() for name, settings in known.items()}


def kind_of(settings: Settings) -> str:
    if isinstance(settings, residual.ResidualSettings):
        return RESIDUAL
    return VID2VID if isinstance(settings, vid2vid.Vid2VidSettings) else HYBRID


def build(settings: Settings) -> Net:
    """The network, not trained."""
    if isinstance(settings, residual.ResidualSettings):
        return residual.ResidualNet(settings)
    return vid2vid.Vid2VidNet(settings) if isinstance(settings, vid2vid.Vid2VidSettings) else hybrid.HybridNet(settings)


def settings_from(kind: str, values: dict[str, Any]) -> Settings:
    """Settings as a file of weights has them. Raises InputError for an unknown kind, unknown or missing fields."""
    if kind not in SIZES:
        raise InputError(f"networks of an unknown kind {kind!r}")
    if kind == RESIDUAL:
        return residual.ResidualSettings.from_dict(values)
    return vid2vid.Vid2VidSettings.from_dict(values) if kind == VID2VID else hybrid.NetSettings.from_dict(values)
