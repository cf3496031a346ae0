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

All score every `STRIDE`-th frame, from frame 0 on, msVGG every `MSVGG_STRIDE`-th; 5 shares no factor with the usual GOP
structures. On six streams of three clips (125 frames, x265 at QP 42 and 51, both regimes) the LPIPS of every fifth frame was 0
to 0.0013 away from that of all frames, at a fifth of the time. msVGG is the loss that its codecs were trained on: read it
beside a metric that they were not trained on.

Threads are the caller's business (`torch.set_num_threads`).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from data import pretrained
from data.clip import Clip
from data.errors import InputError, WeightsUnavailable
from hdac.nets.backbones import (
    ALEXNET_TAPS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    SQUEEZENET_TAPS,
    VGG16_CHANNELS,
    VGG16_TAPS,
    VGG19_CHANNELS,
    VGG19_TAPS,
    DistilledVgg,
    PerceptualLpips,
    VggLevels,
    alexnet_features,
    load_distilled_vgg,
    load_features,
    load_lpips,
    split_levels,
    squeezenet_features,
    unit_length,
    vgg_features,
)
from rd.metrics.score import MetricUnavailable, Score, check_same_shape

COLUMNS = ("lpips", "lpips_alex", "lpips_vgg", "dists", "msvgg", "msvgg_distilled")
STRIDE = 5  # chosen: 40 frames of a 200-frame clip
SOURCE_MEMORY_BYTES = 512 * 2**20  # chosen: LPIPS of 230 scored frames of 256x256, or of 40 beside distilled msVGG

MSVGG_STRIDE = 15
"""Chosen: it takes eight times as long as LPIPS. On 90 streams of 125 frames every 15th tells 2 % less than every 5th, because
frame 0 counts for more, and differs from stream to stream by 2.4 % of its value."""
MSVGG_SCALES = (1, 2, 4, 8)  # FOMM, vox-256.yaml: scales 1, 0.5, 0.25, 0.125
MSVGG_REMEMBERED = 256 * 256
"""Chosen: samples of a picture up to which levels of the source are kept; 10 MiB, those of VGG19 itself would be 42."""
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
        except (WeightsUnavailable, MetricUnavailable) as reason:
            results[column] = MetricUnavailable(str(reason))
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
    """LPIPS v0.1 as `PerceptualLpips` defines it, in place and without what is known of the source already."""

    def __init__(self, net: PerceptualLpips, stride: int, min_side: int) -> None:
        super().__init__()
        self.net = net
        self.stride, self.min_side = stride, min_side

    def forward(
        self, source: NDArray[np.uint8], decoded: NDArray[np.uint8], taps: list[Tensor] | None = None
    ) -> tuple[float, list[Tensor]]:
        distance, taps = self.distance(to_signed(source), to_signed(decoded), taps)
        return distance.item(), taps

    def distance(self, a: Tensor, b: Tensor, taps: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Distances of pictures a and b, float32 (B, 3, H, W) in [-1, 1]: (B,), and the taps of `a`.

        taps: unit features of `a` at levels 2, 3, .. as float16, which changes a distance by less than 1e-6 for pictures
              of 256x256 (5e-6 for 64x64). Level 1 is computed anew each time: a fifteenth of the work, but half of the
              memory.
        """
        for picture in (a, b):
            if picture.min() < -1 or picture.max() > 1:
                raise InputError(f"LPIPS takes [-1, 1], got [{picture.min():.3f}, {picture.max():.3f}]")
        a, b = self.net.prepared(a), self.net.prepared(b)
        total = torch.zeros(len(a))
        found: list[Tensor] = []
        for k, (level, head) in enumerate(zip(self.net.levels, self.net.heads, strict=True)):
            b = level(b)
            if k == 0 or taps is None:
                a = level(a)
                unit_a = unit_length(a)
                if k > 0:
                    found.append(unit_a.half())
                    unit_a = found[-1]
            else:
                unit_a = taps[k - 1]
            total += unit_length(b).sub_(unit_a).square_().mean((1, 2)) @ head
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

    stride = MSVGG_STRIDE

    def __init__(self, features: VggLevels | DistilledVgg, min_side: int) -> None:
        super().__init__()
        self.features = features
        self.min_side = min_side

    def forward(
        self, source: NDArray[np.uint8], decoded: NDArray[np.uint8], taps: list[Tensor] | None = None
    ) -> tuple[float, list[Tensor]]:
        """taps: of the distilled network, whose narrow levels are small enough to be kept."""
        total = 0.0
        found: list[Tensor] = []
        keep = isinstance(self.features, DistilledVgg) and source.shape[1] * source.shape[2] <= MSVGG_REMEMBERED
        known = iter(taps or ())
        a, b = to_unit(source), to_unit(decoded)
        for scale in MSVGG_SCALES:
            of_source = known if taps else self.features.narrow(decimate(a, scale))
            for level, y in enumerate(self.features.narrow(decimate(b, scale))):
                x = next(of_source)
                if keep and not taps:
                    found.append(x)
                difference = self.features.widened(level, x) - self.features.widened(level, y)
                total += MSVGG_WEIGHT * difference.abs_().mean().item()
        return total, taps or found


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


def _mean_similarity(pair: Tensor) -> Tensor:
    """S1 of DISTS for features (2, C, h, w) of two pictures: (C,)."""
    a, b = pair.mean((2, 3))
    return (2 * a * b + 1e-6) / (a * a + b * b + 1e-6)


def _covariance_similarity(pair: Tensor) -> Tensor:
    """S2 of DISTS for features (2, C, h, w) of two pictures: (C,)."""
    a, b = pair - pair.mean((2, 3), keepdim=True)
    return (2 * (a * b).mean((1, 2)) + 1e-6) / ((a * a).mean((1, 2)) + (b * b).mean((1, 2)) + 1e-6)


# -- loading ---------------------------------------------------------------------------------------------------------


def _build(column: str) -> Distance:
    """The network of a column; raises WeightsUnavailable where its weights are missing."""
    find = pretrained.find
    if column == "lpips":
        return _lpips(find("squeezenet1_1"), find("lpips_squeeze"))
    if column == "lpips_alex":
        return _lpips_alex(find("alexnet"), find("lpips_alex"))
    if column == "lpips_vgg":
        return _lpips_vgg(find("vgg16"), find("lpips_vgg"))
    if column == "dists":
        return _dists(find("vgg16"), find("dists"))
    if column == "msvgg":
        return _msvgg(find("vgg19"))
    return _msvgg_distilled(find("vgg19_distilled"))


# Cached by path, not by name: another folder of weights is another network.


@lru_cache(maxsize=1)
def _lpips(backbone: Path, heads: Path) -> Lpips:
    net = load_lpips(squeezenet_features(), SQUEEZENET_TAPS, backbone, heads)
    return Lpips(net, stride=STRIDE, min_side=17)


@lru_cache(maxsize=1)
def _lpips_alex(backbone: Path, heads: Path) -> Lpips:
    net = load_lpips(alexnet_features(), ALEXNET_TAPS, backbone, heads)
    return Lpips(net, stride=STRIDE, min_side=31)


@lru_cache(maxsize=1)
def _lpips_vgg(backbone: Path, heads: Path) -> Lpips:
    net = load_lpips(vgg_features(VGG16_CHANNELS), VGG16_TAPS, backbone, heads)
    return Lpips(net, stride=STRIDE, min_side=16)


@lru_cache(maxsize=1)
def _dists(backbone: Path, alpha_beta: Path) -> Dists:
    features = load_features(vgg_features(VGG16_CHANNELS, l2_pooling=True), backbone)
    state = pretrained.load(alpha_beta)
    return Dists(split_levels(features, VGG16_TAPS), state["alpha"], state["beta"]).eval()


@lru_cache(maxsize=1)
def _msvgg(backbone: Path) -> MultiScaleVgg:
    features = load_features(vgg_features(VGG19_CHANNELS), backbone)
    return MultiScaleVgg(VggLevels(split_levels(features, VGG19_TAPS)), min_side=128)


@lru_cache(maxsize=1)
def _msvgg_distilled(path: Path) -> MultiScaleVgg:
    return MultiScaleVgg(load_distilled_vgg(path), min_side=256)


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
