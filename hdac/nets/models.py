"""The networks that are trained and shipped, by what a file of weights says that it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from data.errors import InputError
from hdac.nets import animation, hybrid, landmarks, residual, segmentation, synthesis, vid2vid

Settings = (
    hybrid.NetSettings
    | vid2vid.Vid2VidSettings
    | residual.ResidualSettings
    | landmarks.LandmarkSettings
    | animation.AnimationSettings
    | synthesis.SynthesisSettings
    | segmentation.SegmentationSettings
)
Net = (
    hybrid.HybridNet
    | vid2vid.Vid2VidNet
    | residual.ResidualNet
    | landmarks.LandmarkNet
    | animation.AnimationNet
    | synthesis.SynthesisNet
    | segmentation.SegmentationNet
)

HYBRID = "hybrid"
"""A kind, as files name it; that of files from before there was more than one, which name none."""


class _Kind(NamedTuple):
    settings: Any
    """Their class."""
    net: Any
    sizes: Mapping[str, Any]


_KINDS: dict[str, _Kind] = {
    HYBRID: _Kind(hybrid.NetSettings, hybrid.HybridNet, hybrid.SIZES),
    "vid2vid": _Kind(vid2vid.Vid2VidSettings, vid2vid.Vid2VidNet, vid2vid.SIZES),
    "residual": _Kind(residual.ResidualSettings, residual.ResidualNet, residual.SIZES),
    "animation": _Kind(animation.AnimationSettings, animation.AnimationNet, animation.SIZES),
    "synthesis": _Kind(synthesis.SynthesisSettings, synthesis.SynthesisNet, synthesis.SIZES),
    "segmentation": _Kind(segmentation.SegmentationSettings, segmentation.SegmentationNet, segmentation.SIZES),
    "landmarks": _Kind(landmarks.LandmarkSettings, landmarks.LandmarkNet, landmarks.SIZES),
}


def sizes() -> dict[str, Settings]:
    """Settings of the networks that can be trained, by name."""
    return {name: settings for kind in _KINDS.values() for name, settings in kind.sizes.items()}


def kind_of(settings: Settings) -> str:
    """As files name it."""
    return next(name for name, kind in _KINDS.items() if isinstance(settings, kind.settings))


def build(settings: Settings) -> Net:
    """The network, not trained."""
    net: Net = _KINDS[kind_of(settings)].net(settings)
    return net


def settings_from(kind: str, values: dict[str, Any]) -> Settings:
    """Settings as a file of weights has them. Raises InputError for an unknown kind, unknown or missing fields."""
    if kind not in _KINDS:
        raise InputError(f"networks of an unknown kind {kind!r}")
    settings: Settings = _KINDS[kind].settings.from_dict(values)
    return settings
