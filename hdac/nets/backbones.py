"""Pretrained networks that judge pictures by their features, in metrics and in training losses; no codec runs them.

`PerceptualLpips` and `PerceptualMsvgg` are the perceptual terms of training, on these:

    network        levels of features                            used by
    SqueezeNet     7: relu1, fire2 .. fire9                      LPIPS
    AlexNet        5: relu1 .. relu5                             LPIPS
    VGG16          5: relu1_2, 2_2, 3_3, 4_3, 5_3                LPIPS, DISTS (with L2 pooling)
    VGG19          5: relu1_1, 2_1, 3_1, 4_1, 5_1                msVGG
    distilled VGG  the same, of a network 16 times smaller       msVGG's stand-in, and training

Weights are frozen and found by `data.pretrained`. All of it is differentiable in its input: the ReLUs overwrite the output
of a convolution, which its gradient does not need.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data import pretrained
from data.errors import WeightsUnavailable
from hdac.nets.layers import AntiAlias

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LPIPS_SHIFT = (-0.030, -0.088, -0.188)  # the LPIPS ScalingLayer: ImageNet's mean and std for input in [-1, 1]
LPIPS_SCALE = (0.458, 0.448, 0.450)

# Backbones as torchvision numbers them: the last module of every level.
SQUEEZENET_TAPS = (1, 4, 7, 9, 10, 11, 12)
ALEXNET_TAPS = (1, 4, 7, 9, 11)
VGG16_TAPS = (3, 8, 15, 22, 29)  # relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
VGG19_TAPS = (1, 6, 11, 20, 29)  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1
VGG16_CHANNELS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)  # 0: pooling
VGG19_CHANNELS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)

MSVGG_SCALES = (1, 2, 4, 8)  # FOMM, vox-256: scales 1, 0.5, 0.25, 0.125
MSVGG_WEIGHT = 10.0  # FOMM, vox-256: perceptual [10, 10, 10, 10, 10]


# -- LPIPS -----------------------------------------------------------------------------------------------------------


class PerceptualLpips(nn.Module):
    """LPIPS v0.1 (Zhang et al., CVPR 2018, arXiv:1801.03924): features of unit length per position, squared differences
    weighted per channel by learned heads, averaged over positions, summed over levels.

        picture -> level 1 -> level 2 -> ..
                      |          |
                   unit length per position -> sum_c w_c (a_c - b_c)^2 -> mean over positions
    """

    shift: Tensor
    scale: Tensor
    column = "lpips"
    """What tables call it, with SqueezeNet."""

    def __init__(self, levels: list[nn.Sequential], heads: list[Tensor]) -> None:
        """heads: one float (1, C, 1, 1) per level, as the published files have them."""
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.heads = nn.ParameterList(nn.Parameter(head.flatten(), requires_grad=False) for head in heads)
        self.register_buffer("shift", torch.tensor(LPIPS_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(LPIPS_SCALE).view(1, 3, 1, 1))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (B,) of pictures a and b, float (B, 3, H, W) R'G'B' in [0, 1]: clamp them first.

        Differentiable in both; `rd.metrics.perceptual.Lpips` computes the same value without gradients, faster.
        """
        a, b = self.prepared(a * 2 - 1), self.prepared(b * 2 - 1)
        total = torch.zeros(len(a), device=a.device)
        for level, head in zip(self.levels, self.heads, strict=True):
            a, b = level(a), level(b)
            squared = (unit_length(b) - unit_length(a)) ** 2
            total = total + (squared.mean((1, 2)) * head).sum(1)
        return total

    def prepared(self, pictures: Tensor) -> Tensor:
        """What the first level takes, of pictures (B, 3, H, W) in [-1, 1]."""
        return ((pictures - self.shift) / self.scale).contiguous(memory_format=torch.channels_last)


def unit_length(features: Tensor) -> Tensor:
    """(B, C, h, w) to (B, h, w, C) of unit length per position."""
    features = features.permute(0, 2, 3, 1)
    return features / (torch.linalg.vector_norm(features, dim=3, keepdim=True) + 1e-10)  # 1e-10: the lpips package's


# -- features --------------------------------------------------------------------------------------------------------


class _Fire(nn.Module):
    """SqueezeNet's block: 1x1 down to few channels, then 1x1 and 3x3 side by side."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu_()
        return torch.cat((self.expand1x1(x), self.expand3x3(x)), 1).relu_()


def squeezenet_features() -> nn.Sequential:
    """SqueezeNet 1.1 up to its last Fire block, modules numbered as torchvision's `features`."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _Fire(64, 16, 64),
        _Fire(128, 16, 64),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _Fire(128, 32, 128),
        _Fire(256, 32, 128),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _Fire(256, 48, 192),
        _Fire(384, 48, 192),
        _Fire(384, 64, 256),
        _Fire(512, 64, 256),
    )


def alexnet_features() -> nn.Sequential:
    """AlexNet ("one weird trick") up to relu5, modules numbered as torchvision's `features`."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def vgg_features(channels: tuple[int, ...], l2_pooling: bool = False) -> nn.Sequential:
    """VGG's 3x3 convolutions with ReLU, modules numbered as torchvision's `features`; 0 channels: pooling."""
    layers: list[nn.Module] = []
    before = 3
    for after in channels:
        if after:
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
            before = after
        else:
            layers.append(_L2Pooling() if l2_pooling else nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


class _L2Pooling(nn.Module):
    """Square root of the Hann-weighted mean of squares over 3x3, every second sample (Ding 2020, section 3.1)."""

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        hann = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("window", torch.outer(hann, hann).view(1, 1, 3, 3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        window = self.window.expand(x.shape[1], 1, 3, 3)
        return (F.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


def split_levels(features: nn.Sequential, taps: tuple[int, ...]) -> list[nn.Sequential]:
    """`features` cut after each of the modules `taps`."""
    return [nn.Sequential(*list(features)[start:stop]) for start, stop in pairwise((0, *(tap + 1 for tap in taps)))]


class VggLevels(nn.Module):
    """Levels of a torchvision VGG for pictures in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, levels: list[nn.Sequential]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> Iterator[Tensor]:
        """One tensor per level of float32 (B, 3, h, w) in [0, 1]."""
        x = (pictures - self.mean) / self.std
        for level in self.levels:
            x = level(x)
            yield x

    narrow = forward

    def widened(self, level: int, narrow: Tensor) -> Tensor:
        """As `DistilledVgg.widened`: here levels are kept as they are."""
        return narrow


class DistilledVgg(nn.Module):
    """VGG19 up to relu5_1 distilled into a quarter of its channels; `*_aux` 1x1 heads predict VGG19's own levels.

    It belongs to the normalised VGG19 (mean activation of every channel 1), so values are not on torchvision's scale.
    Input RGB in [0, 1] (`conv0` turns it into BGR 0..255 less the mean), reflection padding, max pooling.
    Chosen: all five levels from this one network, though files of the true levels 1 to 3 exist: they would cost 10
    times as much, and a mixture of two networks would be a third definition.
    """

    DEPTHS = (2, 2, 4, 4, 1)
    """Convolutions before each pooling, up to conv5_1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 3, 1)
        before = 3
        for block, (depth, after) in enumerate(zip(self.DEPTHS, (16, 32, 64, 128, 128), strict=True), 1):
            for k in range(1, depth + 1):
                self.add_module(f"conv{block}{k}", nn.Conv2d(before, after, 3))
                before = after
            self.add_module(f"conv{block}1_aux", nn.Conv2d(after, min(64 * 2 ** (block - 1), 512), 1))

    def forward(self, pictures: Tensor) -> Iterator[Tensor]:
        """The five levels of float32 (B, 3, h, w) in [0, 1], h and w at least 32."""
        for level, x in enumerate(self.narrow(pictures)):
            yield self.widened(level, x)

    def widened(self, level: int, narrow: Tensor) -> Tensor:
        """The level, 0 to 4, with VGG19's channels."""
        wide: Tensor = self.get_submodule(f"conv{level + 1}1_aux")(narrow)
        return wide.relu_()

    def narrow(self, pictures: Tensor) -> Iterator[Tensor]:
        """What `widened` makes levels of: a quarter of their channels."""
        x = self.conv0(pictures)
        for block, depth in enumerate(self.DEPTHS, 1):
            if block > 1:
                x = F.max_pool2d(x, 2)
            for k in range(1, depth + 1):
                x = self.get_submodule(f"conv{block}{k}")(F.pad(x, (1, 1, 1, 1), mode="reflect")).relu_()
                if k == 1:
                    yield x


# -- msVGG -----------------------------------------------------------------------------------------------------------


class PerceptualMsvgg(nn.Module):
    """msVGG, the perceptual loss of FOMM (Siarohin et al., NeurIPS 2019, section 3.3) and of the H-DAC papers.

        picture -> at scales 1, 1/2, 1/4, 1/8 -> five levels each -> 10 times the mean |a - b|, summed over all

    The value of the metric of the same `column`. A scale at which the picture is too small for the network's last level is
    left out: none is from 128 pixels a side on with VGG19, from 256 with the distilled network.
    """

    def __init__(self, features: VggLevels | DistilledVgg) -> None:
        super().__init__()
        self.features = features
        self.reduce = nn.ModuleList(AntiAlias(3, scale) for scale in MSVGG_SCALES)
        distilled = isinstance(features, DistilledVgg)
        self.column = "msvgg_distilled" if distilled else "msvgg"
        self.min_side = 32 if distilled else 16  # four poolings; one pixel cannot be mirrored at its edge

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (B,) of pictures a and b, float32 (B, 3, H, W) R'G'B' in [0, 1]. Differentiable in both."""
        total = torch.zeros(len(a), device=a.device)
        for scale, reduce in zip(MSVGG_SCALES, self.reduce, strict=True):
            if min(a.shape[-2:]) < scale * self.min_side:
                break
            with torch.autocast(a.device.type, enabled=False):  # bfloat16 would round bright samples to 8 bits
                small_a, small_b = reduce(a), reduce(b)
            for x, y in zip(self.features(small_a), self.features(small_b), strict=True):
                total = total + MSVGG_WEIGHT * (x.float() - y.float()).abs().mean((1, 2, 3))
        return total


# -- loading ---------------------------------------------------------------------------------------------------------


def load_msvgg() -> PerceptualMsvgg:
    """msVGG on VGG19 where its weights are here, else on the distilled network: `column` says which. Raises
    WeightsUnavailable where neither is."""
    try:
        path = pretrained.find("vgg19")
    except WeightsUnavailable as no_vgg19:
        try:
            return PerceptualMsvgg(load_distilled_vgg()).eval()
        except WeightsUnavailable as neither:
            raise WeightsUnavailable(f"{no_vgg19}; and its stand-in is not here either: {neither}") from neither
    levels = split_levels(load_features(vgg_features(VGG19_CHANNELS), path), VGG19_TAPS)
    return PerceptualMsvgg(VggLevels(levels)).eval()


def load_lpips_squeeze() -> PerceptualLpips:
    """LPIPS on SqueezeNet, for pictures of at least 17 pixels a side; raises WeightsUnavailable."""
    backbone, heads = pretrained.find("squeezenet1_1"), pretrained.find("lpips_squeeze")
    return load_lpips(squeezenet_features(), SQUEEZENET_TAPS, backbone, heads)


def load_lpips(features: nn.Sequential, taps: tuple[int, ...], backbone: Path, heads: Path) -> PerceptualLpips:
    """LPIPS on `features`, from the files of a torchvision model and of the heads of its levels."""
    levels = split_levels(load_features(features, backbone), taps)
    return PerceptualLpips(levels, lpips_heads(heads, len(taps))).eval()


def load_distilled_vgg(path: Path | None = None) -> DistilledVgg:
    """The distilled VGG19; path: its file where `data.pretrained` is not to look for it. Raises WeightsUnavailable."""
    net = DistilledVgg()
    net.load_state_dict(pretrained.load(path or pretrained.find("vgg19_distilled")))
    return pretrained.frozen(net)


def load_features(features: nn.Sequential, path: Path) -> nn.Sequential:
    """`features` with the weights of a torchvision model; its classifier, and levels beyond ours, are left out."""
    state = {key.removeprefix("features."): value for key, value in pretrained.load(path).items()}
    features.load_state_dict({key: state[key] for key in features.state_dict()})
    return pretrained.frozen(features)


def lpips_heads(path: Path, count: int) -> list[Tensor]:
    """The published heads of `count` levels, (1, C, 1, 1) each."""
    state = pretrained.load(path)
    return [state[f"lin{k}.model.1.weight"] for k in range(count)]
