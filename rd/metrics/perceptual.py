"""Perceptual distances on deep features: LPIPS, DISTS and the multi-scale VGG distance (msVGG).

All networks take `Clip.rgb`, that is 8-bit R'G'B', and map it to the range that they were trained with in one place
(`to_unit`, `to_signed`); feeding [0, 1] to LPIPS, a common slip, makes scores come out too small.

    column           network                      published as
    lpips            SqueezeNet 1.1 + heads       Zhang et al., CVPR 2018, version 0.1 (arXiv:1801.03924)
    lpips_alex       AlexNet + heads              the same
    lpips_vgg        VGG16 + heads                the same
    dists            VGG16 with L2 pooling        Ding et al., TPAMI 2020 (arXiv:2004.07728)
    msvgg            VGG19                        the training loss of FOMM (Siarohin 2019) and of the H-DAC papers
    msvgg_distilled  VGG19, distilled 16x smaller Wang et al., CVPR 2020 (arXiv:2003.08436): a stand-in, another scale

All score every `STRIDE`-th frame, from frame 0 on; 5 shares no factor with the usual GOP structures. On six streams of
three clips (125 frames, x265 at QP 42 and 51, both regimes) the LPIPS of every fifth frame was 0 to 0.0013 away from that
of all frames, at a fifth of the time. msVGG is the loss that its codecs were trained on: read it beside a metric that they
were not trained on.

Threads are the caller's business (`torch.set_num_threads`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from data.clip import Clip
from data.errors import InputError
from rd.metrics import weights
from rd.metrics.score import MetricUnavailable, Score, check_same_shape

COLUMNS = ("lpips", "lpips_alex", "lpips_vgg", "dists", "msvgg", "msvgg_distilled")
STRIDE = 5  # chosen: 40 frames of a 200-frame clip
SOURCE_MEMORY_BYTES = 512 * 2**20  # chosen: holds LPIPS features of 220 scored frames of 256x256

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

MSVGG_SCALES = (1, 2, 4, 8)  # FOMM, vox-256.yaml: scales 1, 0.5, 0.25, 0.125
MSVGG_WEIGHT = 10.0  # FOMM, vox-256.yaml: perceptual [10, 10, 10, 10, 10]


def measure(source: Clip, decoded: Clip, columns: Collection[str]) -> dict[str, Score | MetricUnavailable]:
    """The perceptual columns asked for; a column whose weights are missing comes back as its MetricUnavailable.

    Frames that a column does not score (`STRIDE`) are NaN in `Score.frames`; `Score.value` is the others' mean.
    """
    check_same_shape(source, decoded)
    results: dict[str, Score | MetricUnavailable] = {}
    distances: dict[str, Distance] = {}
    for column in [column for column in COLUMNS if column in columns]:
        try:
            distance = _build(column)
            if min(source.width, source.height) < distance.min_side:
                raise MetricUnavailable(
                    f"{column} needs pictures of at least {distance.min_side} pixels a side, "
                    f"got {source.width}x{source.height}"
                )
            distances[column] = distance
        except MetricUnavailable as reason:
            results[column] = reason
    if not distances:
        return results
    frames = {column: np.full(source.n_frames, np.nan) for column in distances}
    _memory.turn_to(source)
    with torch.inference_mode():
        for i in range(source.n_frames):  # one by one: larger batches leave the processor's cache and are slower
            due = [column for column, distance in distances.items() if i % distance.stride == 0]
            if not due:
                continue
            a, b = source.rgb(slice(i, i + 1)), decoded.rgb(slice(i, i + 1))
            for column in due:
                known = _memory.taps.get((distances[column], i))
                frames[column][i], taps = distances[column](a, b, known)
                if known is None:
                    _memory.keep((distances[column], i), taps)
    for column, scores in frames.items():
        results[column] = Score.mean(scores)
    return results


# -- pictures --------------------------------------------------------------------------------------------------------


def to_unit(rgb: NDArray[np.uint8]) -> Tensor:
    """uint8 (B, H, W, 3) R'G'B' to float32 (B, 3, H, W) in [0, 1]; raises InputError for anything else."""
    if rgb.dtype != np.uint8 or rgb.ndim != 4 or rgb.shape[3] != 3:
        raise InputError(f"expected RGB pictures as uint8 (B, H, W, 3), got {rgb.dtype} {rgb.shape}")
    return torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 255.0  # stays channels-last in memory


def to_signed(rgb: NDArray[np.uint8]) -> Tensor:
    """uint8 (B, H, W, 3) R'G'B' to float32 (B, 3, H, W) in [-1, 1]; raises InputError for anything else."""
    return to_unit(rgb) * 2.0 - 1.0


# -- distances -------------------------------------------------------------------------------------------------------


class Distance(nn.Module):
    """A distance between pictures: __call__(source, decoded, taps) -> (distance, taps).

    source, decoded: uint8 (1, H, W, 3) R'G'B'.
    taps:            what an earlier call with the same source gave back, or None; [] where nothing is worth keeping.
    """

    stride = 1
    """Every which frame it is worth its time."""
    min_side = 1
    """Smallest picture it is defined for, in pixels."""


class Lpips(Distance):
    """LPIPS v0.1: features of unit length per position, squared differences weighted per channel by learned heads,
    averaged over positions, summed over levels.

        picture -> level 1 -> level 2 -> ..
                      |          |
                   unit length per position -> sum_c w_c (a_c - b_c)^2 -> mean over positions
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, levels: list[nn.Sequential], heads: list[Tensor], stride: int, min_side: int) -> None:
        """heads: one float (1, C, 1, 1) per level, as the published files have them."""
        super().__init__()
        self.stride, self.min_side = stride, min_side
        self.levels = nn.ModuleList(levels)
        self.heads = [head.flatten() for head in heads]
        self.register_buffer("shift", torch.tensor(LPIPS_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(LPIPS_SCALE).view(1, 3, 1, 1))

    def forward(
        self, source: NDArray[np.uint8], decoded: NDArray[np.uint8], taps: list[Tensor] | None = None
    ) -> tuple[float, list[Tensor]]:
        distance, taps = self.distance(to_signed(source), to_signed(decoded), taps)
        return distance.item(), taps

    def distance(self, a: Tensor, b: Tensor, taps: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Distances of pictures a and b, float32 (B, 3, H, W) in [-1, 1]: (B,), and the taps of `a`.

        taps: unit features of `a` at levels 2, 3, .. as float16, which changes a distance by less than 1e-6. Level 1
              is computed anew each time: a fifteenth of the work, but half of the memory.
        """
        for picture in (a, b):
            if picture.min() < -1 or picture.max() > 1:
                raise InputError(f"LPIPS takes [-1, 1], got [{picture.min():.3f}, {picture.max():.3f}]")
        a = ((a - self.shift) / self.scale).contiguous(memory_format=torch.channels_last)
        b = ((b - self.shift) / self.scale).contiguous(memory_format=torch.channels_last)
        total = torch.zeros(len(a))
        found: list[Tensor] = []
        for k, (level, head) in enumerate(zip(self.levels, self.heads, strict=True)):
            b = level(b)
            if k == 0 or taps is None:
                a = level(a)
                unit_a = _unit(a)
                if k > 0:
                    found.append(unit_a.half())
                    unit_a = found[-1]
            else:
                unit_a = taps[k - 1]
            total += _unit(b).sub_(unit_a).square_().mean((1, 2)) @ head
        return total, found if taps is None else taps


class Dists(Distance):
    """DISTS: per channel of the picture and of five VGG16 levels (max pooling replaced by L2 pooling), similarity of
    the means (texture) and of the covariances (structure), weighted by alpha and beta.

    Native resolution: the authors' demo script first shrinks pictures to 256 pixels, which is no part of the metric.
    """

    mean: Tensor
    std: Tensor
    stride = STRIDE
    min_side = 16

    def __init__(self, levels: list[nn.Sequential], alpha: Tensor, beta: Tensor) -> None:
        """alpha, beta: (1, 1475, 1, 1), of the 3 + 64 + 128 + 256 + 512 + 512 channels."""
        super().__init__()
        self.levels = nn.ModuleList(levels)
        total = alpha.sum() + beta.sum()
        self.alpha, self.beta = alpha.flatten() / total, beta.flatten() / total
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(
        self, source: NDArray[np.uint8], decoded: NDArray[np.uint8], taps: list[Tensor] | None = None
    ) -> tuple[float, list[Tensor]]:
        pictures = to_unit(np.concatenate((source, decoded)))
        features = [pictures]
        x = (pictures - self.mean) / self.std
        for level in self.levels:
            x = level(x)
            features.append(x)
        texture = torch.cat([_mean_similarity(f) for f in features])
        structure = torch.cat([_covariance_similarity(f) for f in features])
        return 1.0 - (self.alpha @ texture + self.beta @ structure).item(), []


class MultiScaleVgg(Distance):
    """msVGG: 10 times the mean absolute difference of five feature levels at four scales, summed.

    Pictures in [0, 1] are low-passed and decimated as in FOMM: Gaussian of sigma (s - 1) / 2, then every s-th sample.
    """

    stride = STRIDE

    def __init__(self, features: Callable[[Tensor], Iterable[Tensor]], min_side: int) -> None:
        """features: float32 (B, 3, h, w) in [0, 1] -> the five levels, one by one: all at once fill gigabytes."""
        super().__init__()
        self.features = features
        self.min_side = min_side

    def forward(
        self, source: NDArray[np.uint8], decoded: NDArray[np.uint8], taps: list[Tensor] | None = None
    ) -> tuple[float, list[Tensor]]:
        pictures = to_unit(np.concatenate((source, decoded)))
        total = 0.0
        for scale in MSVGG_SCALES:
            for level in self.features(decimate(pictures, scale)):
                total += MSVGG_WEIGHT * (level[0] - level[1]).abs_().mean().item()
        return total, []


def decimate(pictures: Tensor, scale: int) -> Tensor:
    """(B, C, H, W) to (B, C, ceil(H / scale), ceil(W / scale)), anti-aliased as FOMM's AntiAliasInterpolation2d."""
    if scale == 1:
        return pictures
    sigma = (scale - 1) / 2
    radius = round(sigma * 4)
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    window = torch.exp(-(x**2) / (2 * sigma**2))
    window = (window / window.sum()).expand(pictures.shape[1], 1, 1, -1)
    padded = F.pad(pictures, (radius,) * 4)  # with zeros, as theirs
    rows = F.conv2d(padded, window, stride=(1, scale), groups=pictures.shape[1])
    return F.conv2d(rows, window.transpose(2, 3), stride=(scale, 1), groups=pictures.shape[1])


def _unit(features: Tensor) -> Tensor:
    """(B, C, h, w) to (B, h, w, C) of unit length per position."""
    features = features.permute(0, 2, 3, 1)
    return features / (torch.linalg.vector_norm(features, dim=3, keepdim=True) + 1e-10)  # 1e-10: the lpips package's


def _mean_similarity(pair: Tensor) -> Tensor:
    """S1 of DISTS for features (2, C, h, w) of two pictures: (C,)."""
    a, b = pair.mean((2, 3))
    return (2 * a * b + 1e-6) / (a * a + b * b + 1e-6)


def _covariance_similarity(pair: Tensor) -> Tensor:
    """S2 of DISTS for features (2, C, h, w) of two pictures: (C,)."""
    a, b = pair - pair.mean((2, 3), keepdim=True)
    return (2 * (a * b).mean((1, 2)) + 1e-6) / ((a * a).mean((1, 2)) + (b * b).mean((1, 2)) + 1e-6)


# -- backbones -------------------------------------------------------------------------------------------------------


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
        x = self.conv0(pictures)
        for block, depth in enumerate(self.DEPTHS, 1):
            if block > 1:
                x = F.max_pool2d(x, 2)
            for k in range(1, depth + 1):
                x = self.get_submodule(f"conv{block}{k}")(F.pad(x, (1, 1, 1, 1), mode="reflect")).relu_()
                if k == 1:
                    yield self.get_submodule(f"conv{block}1_aux")(x).relu_()


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


def split_levels(features: nn.Sequential, taps: tuple[int, ...]) -> list[nn.Sequential]:
    """`features` cut after each of the modules `taps`."""
    return [nn.Sequential(*list(features)[start:stop]) for start, stop in pairwise((0, *(tap + 1 for tap in taps)))]


# -- loading ---------------------------------------------------------------------------------------------------------


def _build(column: str) -> Distance:
    """The network of a column; raises MetricUnavailable where its weights are missing."""
    if column == "lpips":
        return _lpips(weights.find("squeezenet1_1"), weights.find("lpips_squeeze"))
    if column == "lpips_alex":
        return _lpips_alex(weights.find("alexnet"), weights.find("lpips_alex"))
    if column == "lpips_vgg":
        return _lpips_vgg(weights.find("vgg16"), weights.find("lpips_vgg"))
    if column == "dists":
        return _dists(weights.find("vgg16"), weights.find("dists"))
    if column == "msvgg":
        return _msvgg(weights.find("vgg19"))
    return _msvgg_distilled(weights.find("vgg19_distilled"))


# Cached by path, not by name: another folder of weights is another network.


@lru_cache(maxsize=1)
def _lpips(backbone: Path, heads: Path) -> Lpips:
    features = _filled(squeezenet_features(), backbone)
    return Lpips(split_levels(features, SQUEEZENET_TAPS), _heads(heads, 7), stride=STRIDE, min_side=17)


@lru_cache(maxsize=1)
def _lpips_alex(backbone: Path, heads: Path) -> Lpips:
    features = _filled(alexnet_features(), backbone)
    return Lpips(split_levels(features, ALEXNET_TAPS), _heads(heads, 5), stride=STRIDE, min_side=31)


@lru_cache(maxsize=1)
def _lpips_vgg(backbone: Path, heads: Path) -> Lpips:
    features = _filled(vgg_features(VGG16_CHANNELS), backbone)
    return Lpips(split_levels(features, VGG16_TAPS), _heads(heads, 5), stride=STRIDE, min_side=16)


@lru_cache(maxsize=1)
def _dists(backbone: Path, alpha_beta: Path) -> Dists:
    features = _filled(vgg_features(VGG16_CHANNELS, l2_pooling=True), backbone)
    state = weights.load(alpha_beta)
    return Dists(split_levels(features, VGG16_TAPS), state["alpha"], state["beta"]).eval()


@lru_cache(maxsize=1)
def _msvgg(backbone: Path) -> MultiScaleVgg:
    features = _filled(vgg_features(VGG19_CHANNELS), backbone)
    return MultiScaleVgg(VggLevels(split_levels(features, VGG19_TAPS)), min_side=128)


@lru_cache(maxsize=1)
def _msvgg_distilled(path: Path) -> MultiScaleVgg:
    net = DistilledVgg()
    net.load_state_dict(weights.load(path))
    return MultiScaleVgg(weights.frozen(net), min_side=256)


def _filled(features: nn.Sequential, path: Path) -> nn.Sequential:
    """`features` with the weights of a torchvision model; its classifier, and levels beyond ours, are left out."""
    state = {key.removeprefix("features."): value for key, value in weights.load(path).items()}
    features.load_state_dict({key: state[key] for key in features.state_dict()})
    return weights.frozen(features)


def _heads(path: Path, count: int) -> list[Tensor]:
    state = weights.load(path)
    return [state[f"lin{k}.model.1.weight"] for k in range(count)]


# -- the source, seen again ------------------------------------------------------------------------------------------


class _SourceMemory:
    """Features of the last source clip: a sweep compares many decoded clips with the same source, and the source's
    features are half of the work."""

    def __init__(self) -> None:
        self.sha256 = ""
        self.n_bytes = 0
        self.taps: dict[tuple[Distance, int], list[Tensor]] = {}
        """By network and frame."""

    def turn_to(self, source: Clip) -> None:
        """Forgets everything unless the source clip is the one of the last time."""
        sha256 = source.sha256()
        if sha256 != self.sha256:
            self.sha256, self.n_bytes, self.taps = sha256, 0, {}

    def keep(self, key: tuple[Distance, int], taps: list[Tensor]) -> None:
        n_bytes = sum(math.prod(tap.shape) * tap.element_size() for tap in taps)
        if taps and self.n_bytes + n_bytes <= SOURCE_MEMORY_BYTES:
            self.taps[key] = taps
            self.n_bytes += n_bytes


_memory = _SourceMemory()
