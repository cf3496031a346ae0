"""A tiny network with random weights, for tests of what goes around networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from baselines import stills
from hdac.nets.hybrid import LITE, HybridNet, NetSettings
from hdac.nets.keypoints import DetectorSettings
from hdac.nets.motion import MotionSettings
from hdac.network import save

TINY = replace(
    LITE,
    name="tiny",
    detector=DetectorSettings(n_keypoints=4, jacobians=False, width=4, max_width=16, depth=2),
    motion=MotionSettings(width=4, max_width=16, depth=2, base=True),
    widths=(8, 8, 8),
    n_blocks=1,
    n_outer_blocks=(0, 0),
)


BENT = replace(TINY, detector=replace(TINY.detector, jacobians=True))
"""With Jacobians, as in the `paper` size."""


def tiny_net(seed: int = 1, correction: float = 0.02, settings: NetSettings = TINY) -> HybridNet:
    """correction: how much its last layer, which is zero before training, is away from zero."""
    torch.manual_seed(seed)
    net = HybridNet(settings)
    torch.nn.init.normal_(net.last.weight, std=correction)
    return net.eval()


def save_random_learned(model: str, folder: Path, quality: int = 1) -> None:
    """A checkpoint of a learned still codec, small and random, by the name under which it is looked for."""
    zoo = stills._zoo()
    net = zoo.model_architectures[model](8, 12)
    net.update(force=True)
    published: str = zoo.model_urls[model]["mse"][quality].rsplit("/", 1)[1]
    torch.save(net.state_dict(), folder / published)


def save_tiny(folder: Path, name: str = "tiny", seed: int = 1) -> None:
    save(tiny_net(seed), folder / f"{name}.safetensors", {"note": "random numbers"})
