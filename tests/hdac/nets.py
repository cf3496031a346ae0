"""A tiny network with random weights, for tests of what goes around networks."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from baselines import stills
from hdac.landmarks import FRONTAL
from hdac.nets.animation import AnimationNet, AnimationSettings, LightDetector, PointNet
from hdac.nets.hybrid import LITE, HybridNet, NetSettings
from hdac.nets.keypoints import DetectorSettings
from hdac.nets.landmarks import LandmarkNet, LandmarkSettings
from hdac.nets.motion import MotionSettings
from hdac.nets.picture import pack_clip
from hdac.nets.residual import ResidualNet, ResidualSettings, blocks_to_samples, signs_of
from hdac.nets.segmentation import SegmentationNet, SegmentationSettings
from hdac.nets.synthesis import KINDS as KINDS_THAT_DRAW
from hdac.nets.synthesis import SegmentGenerator, SynthesisNet, SynthesisSettings
from hdac.nets.vid2vid import LITE as FACE_LITE
from hdac.nets.vid2vid import Vid2VidNet, Vid2VidSettings
from hdac.network import save
from hdac.parameters import learn_tables
from hdac.published_coders import KINDS, learn_lengths, learn_prior
from tests.clips import moving_clip

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


TINY_FACE = replace(
    FACE_LITE,
    name="tiny-face",
    n_keypoints=6,
    widths=(8, 8, 8),
    volume_channels=2,
    volume_depth=4,
    n_blocks=1,
    n_outer_blocks=(0, 0),
    detector=(4, 8, 4),
    volume_side=16,
    estimator_first=4,
    estimator=((8, 1), (8, 1)),
    located=None,
    tracked=False,
    motion=(4, 8, 2, 1),
    motion_first=4,
)
TINY_TRACKED = replace(TINY_FACE, name="tiny-tracked", located=(4, 8, 2), tracked=True)
"""Its keypoints come from heat maps and are tracked, as those of `face-vid2vid`."""
TINY_CONDITIONED = replace(TINY_TRACKED, name="tiny-conditioned")
"""It looks at its condition."""
TINY_RESIDUAL = ResidualSettings("tiny-residual", channels=4, filters=8)


def tiny_face_net(seed: int = 1, settings: Vid2VidSettings = TINY_FACE) -> Vid2VidNet:
    """Its parameters differ from picture to picture, which they hardly do before training, and its tables are of noise."""
    torch.manual_seed(seed)
    net = Vid2VidNet(settings).eval()
    if net.estimator.points is not None:
        torch.nn.init.normal_(net.estimator.points.heat.weight, std=0.1)
    torch.nn.init.normal_(net.last.weight, std=0.02)
    torch.nn.init.normal_(net.unfold[1].weight, std=0.1)  # type: ignore[arg-type]
    # parameters that are small for one picture and follow what makes others differ
    features: list[Tensor] = []
    hook = net.estimator.body.register_forward_hook(lambda module, given, out: features.append(out.mean((2, 3))))
    with torch.no_grad():
        for picture in pack_clip(moving_clip(2, 96, 96), slice(None), net.settings.multiple).split(1):
            net.estimate(picture)
        hook.remove()
        size = 0.1 / float((features[1] - features[0]).norm())
        for head in (net.estimator.translation, net.estimator.deformation):
            torch.nn.init.normal_(head.weight, std=size)
            head.bias.copy_(-(head.weight @ features[0][0]))
    if settings.name == TINY_CONDITIONED.name:
        heed_condition(net)
    noise = np.random.default_rng(seed).normal(0, 0.1, (40, 2 + settings.n_keypoints, 3)).astype(np.float32)
    net.tables.copy_(torch.from_numpy(learn_tables([noise])))
    return net


_MOVED = AnimationSettings("", widths=(8, 8, 8), n_blocks=1, expansion=1, motion=(4, 8, 2))
TINY_ANIMATIONS = {
    "fomm": replace(_MOVED, n_learned=3, jacobians=True, dense=True, tracked=False),
    "light": replace(_MOVED, n_learned=3, jacobians=True, dense=True, tracked=False, light_detector=True),
    "maps": replace(_MOVED, n_learned=3, jacobians=True, dense=True, tracked=False, light_detector=True, light_maps=True),
    "learned": replace(_MOVED, n_learned=4),
    "spade": replace(_MOVED, n_learned=0, n_landmarks=20, spade=True),
    "drawn": replace(_MOVED, n_learned=4, n_landmarks=20, spade=True, only_drawn=True),
    "sup": replace(_MOVED, n_learned=0, n_landmarks=33, frontal=True, n_expression=4),
    "frontal": replace(_MOVED, n_learned=4, n_landmarks=33, frontal=True, n_expression=4),
    "direct": replace(_MOVED, n_learned=4, n_landmarks=33, frontal=True, direct=True),
    "codes": replace(_MOVED, n_learned=4, n_landmarks=33, frontal=True, direct=True, n_expression=4),
}
"""By what is special about them."""


TINY_SYNTHESES = {
    kind: SynthesisSettings(f"tiny-{kind}", kind, 48 if kind == "segface" else 0, (8, 8, 8), 16, 1) for kind in KINDS_THAT_DRAW
}
TINY_SEGMENTATION = SegmentationSettings("tiny-segmentation", 4, 8, 2, 1)
TINY_LANDMARKS = LandmarkSettings("tiny-landmarks", widths=(4, 8, 8, 8), n_blocks=1, last=4, expansion=1)


def tiny_animation(settings: AnimationSettings, seed: int = 1) -> AnimationNet:
    """What its parts say differs from picture to picture; its statistics are of noise."""
    torch.manual_seed(seed)
    net = AnimationNet(settings).eval()
    for layer in (net.last, net.motion.heads, net.film):
        torch.nn.init.normal_(layer.weight, std=0.05)
    if net.frontalize is not None:
        torch.nn.init.normal_(net.frontalize.heads.weight, std=0.05)
    if isinstance(net.detector, LightDetector):
        torch.nn.init.normal_(net.detector.places.weight, std=0.1)
    elif net.detector is not None:
        torch.nn.init.normal_(net.detector.heat.weight, std=0.1)
    for up in net.ups:
        if up.spade is not None:
            torch.nn.init.normal_(up.spade.scales.weight, std=0.3)  # type: ignore[union-attr, arg-type]
    with_statistics(net, seed)
    return net


def with_statistics(net: PointNet, seed: int) -> None:
    """Of noise."""
    rng = np.random.default_rng(seed)
    net.huffman.copy_(torch.from_numpy(learn_lengths([rng.normal(0, 3, 1000).astype(np.int32)])))
    noise = rng.normal(0, 30, (100, len(KINDS))).astype(np.int64)
    net.prior.copy_(torch.from_numpy(learn_prior([noise], KINDS)))


def tiny_synthesis(settings: SynthesisSettings, seed: int = 1) -> SynthesisNet:
    torch.manual_seed(seed)
    net = SynthesisNet(settings).eval()
    if isinstance(net.generate, SegmentGenerator):
        for spade in net.generate.spades:
            torch.nn.init.normal_(spade.scales.weight, std=0.3)  # type: ignore[union-attr, arg-type]
    with_statistics(net, seed)
    return net


def tiny_landmark_net(seed: int = 1) -> LandmarkNet:
    """Finds something that follows the picture a little, around a face in the middle of it."""
    torch.manual_seed(seed)
    net = LandmarkNet(TINY_LANDMARKS).eval()
    for part in (net.coarse, net.fine):
        torch.nn.init.normal_(part.points.weight, std=0.001)
        part.points.bias.data = torch.tensor(FRONTAL).flatten()
    return net


def tiny_residual_net(seed: int = 1) -> ResidualNet:
    torch.manual_seed(seed)
    net = ResidualNet(TINY_RESIDUAL)
    for parameter in net.context.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net.eval()


@functools.cache
def trained_residual_net() -> ResidualNet:
    """Trained for seconds on its own kind of picture: luma in squares of 8 x 8, up or down."""
    torch.manual_seed(0)
    net = ResidualNet(ResidualSettings("test", channels=8, filters=16))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(150):
        steps = torch.randn(4, 1, 8, 8).sign().expand(-1, 4, -1, -1)  # packed: four luma samples, no chroma
        difference = torch.nn.functional.interpolate(torch.cat((steps, torch.zeros(4, 2, 8, 8)), dim=1), scale_factor=4)
        blocks = (torch.rand(4, 1, 2, 2) < 0.7).float()
        there = torch.nn.functional.interpolate(blocks, scale_factor=16)
        signs = signs_of(net.encode(difference)) * blocks_to_samples(blocks)
        loss = (net.decode(signs, blocks) - difference * there).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def heed_condition(net: torch.nn.Module) -> None:
    """Makes a network look at its condition, QPs and best look, which it does not before training."""
    for module in net.modules():
        if isinstance(film := getattr(module, "film", None), torch.nn.Linear):
            torch.nn.init.normal_(film.weight, std=0.5)


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
    heeding = tiny_net(seed)
    heed_condition(heeding)
    save(heeding, folder / f"{name}-heeding.safetensors", {"note": "random numbers"})
    save(tiny_face_net(seed), folder / f"{name}-face.safetensors", {"note": "random numbers"})
    save(tiny_face_net(seed, TINY_TRACKED), folder / f"{name}-tracked.safetensors", {"note": "random numbers"})
    save(tiny_face_net(seed, TINY_CONDITIONED), folder / f"{name}-conditioned.safetensors", {"note": "random numbers"})
    save(tiny_landmark_net(seed), folder / f"{name}-landmarks.safetensors", {"note": "random numbers"})
    for kind, settings in TINY_ANIMATIONS.items():
        net = tiny_animation(replace(settings, name=f"{name}-{kind}"), seed)
        save(net, folder / f"{name}-{kind}.safetensors", {"note": "random numbers"})
    for kind, drawing in TINY_SYNTHESES.items():
        save(tiny_synthesis(drawing, seed), folder / f"{name}-{kind}.safetensors", {"note": "random numbers"})
    torch.manual_seed(seed)
    segmentation = SegmentationNet(TINY_SEGMENTATION)
    save(segmentation, folder / f"{name}-segmentation.safetensors", {"note": "random numbers"})
    save(tiny_residual_net(seed), folder / f"{name}-residual.safetensors", {"note": "random numbers"})
