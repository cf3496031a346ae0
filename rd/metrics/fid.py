"""FID: the Frechet distance between InceptionV3 features of the source's frames and of the decoded ones.

Heusel et al., NIPS 2017 (arXiv:1706.08500), with the network that published numbers rest on: the TensorFlow Inception
of 2015-12-05 as ported by pytorch-fid, whose blocks differ from torchvision's InceptionV3: average pooling leaves the
padding out of the mean, and the last block takes the maximum where it should average.

    picture -> 299x299, [-1, 1] -> stem -> 3 x A (35x35) -> B -> 4 x C (17x17) -> D -> 2 x E (8x8) -> mean: 2048

A clip has a few hundred frames that resemble each other, published FIDs have tens of thousands of pictures: the value
ranks codecs on one clip, and is comparable with nothing else. It has no value per frame.
"""

from __future__ import annotations

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
from data.errors import WeightsUnavailable
from rd.metrics.perceptual import to_signed
from rd.metrics.score import MetricUnavailable, Score, check_same_shape

FEATURES = 2048
SIDE = 299  # pixels, the network's own input size
BATCH = 4

_source_features: dict[tuple[FidInception, str], NDArray[np.float64]] = {}
"""Features of the last source clip, by network and clip hash: a sweep compares many decoded clips with one source."""


def measure(source: Clip, decoded: Clip, columns: Collection[str]) -> dict[str, Score | MetricUnavailable]:
    """`fid`, where it is asked for; MetricUnavailable without weights or for a clip of one frame."""
    check_same_shape(source, decoded)
    if "fid" not in columns:
        return {}
    try:
        if source.n_frames < 2:
            raise MetricUnavailable("FID needs at least two frames for a covariance, got 1")
        net = _inception(pretrained.find("inception_fid"))
    except (WeightsUnavailable, MetricUnavailable) as reason:
        return {"fid": MetricUnavailable(str(reason))}
    key = (net, source.sha256())
    if key not in _source_features:
        _source_features.clear()
        _source_features[key] = clip_features(net, source)
    return {"fid": Score(frechet_distance(_source_features[key], clip_features(net, decoded)))}


def frechet_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Frechet distance of Gaussians fitted to features a (N, D) and b (M, D); N, M >= 2.

        |mean_a - mean_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2))

    With S_a = A'A for the centred features A over sqrt(N - 1), the eigenvalues of S_a S_b that are not 0 are the
    squared singular values of A B': the last trace is the sum of these, exactly, from an N x M matrix instead of the
    root of a D x D one, which has no full rank when N < D.
    """
    centred_a = (a - a.mean(0)) / np.sqrt(len(a) - 1)
    centred_b = (b - b.mean(0)) / np.sqrt(len(b) - 1)
    root_trace = np.linalg.svd(centred_a @ centred_b.T, compute_uv=False).sum()
    shift = a.mean(0) - b.mean(0)
    return float(shift @ shift + (centred_a**2).sum() + (centred_b**2).sum() - 2 * root_trace)


def clip_features(net: FidInception, clip: Clip) -> NDArray[np.float64]:
    """InceptionV3 features of every frame: float64 (T, 2048)."""
    found = []
    with torch.inference_mode():
        for start in range(0, clip.n_frames, BATCH):
            found.append(net(to_signed(clip.rgb(slice(start, start + BATCH)))).double().numpy())
    return np.concatenate(found)


@lru_cache(maxsize=1)
def _inception(path: Path) -> FidInception:
    net = FidInception()
    state = pretrained.load(path)
    net.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")})
    return pretrained.frozen(net)


# -- the network, its modules named as in the file of weights ---------------------------------------------------------


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _mean_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    def __init__(self, before: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(before, 64, 1)
        self.branch5x5_1 = Conv(before, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Conv(before, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(before, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((self.branch1x1(x), wide, double, self.branch_pool(_mean_pool(x))), 1)


class BlockB(nn.Module):
    def __init__(self, before: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(before, 384, 3, stride=2)
        self.branch3x3dbl_1 = Conv(before, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)), 1)


class BlockC(nn.Module):
    def __init__(self, before: int, inner: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(before, 192, 1)
        self.branch7x7_1 = Conv(before, inner, 1)
        self.branch7x7_2 = Conv(inner, inner, (1, 7), padding=(0, 3))
        self.branch7x7_3 = Conv(inner, 192, (7, 1), padding=(3, 0))
        self.branch7x7dbl_1 = Conv(before, inner, 1)
        self.branch7x7dbl_2 = Conv(inner, inner, (7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = Conv(inner, inner, (1, 7), padding=(0, 3))
        self.branch7x7dbl_4 = Conv(inner, inner, (7, 1), padding=(3, 0))
        self.branch7x7dbl_5 = Conv(inner, 192, (1, 7), padding=(0, 3))
        self.branch_pool = Conv(before, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat((self.branch1x1(x), single, double, self.branch_pool(_mean_pool(x))), 1)


class BlockD(nn.Module):
    def __init__(self, before: int) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(before, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(before, 192, 1)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        long = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat((self.branch3x3_2(self.branch3x3_1(x)), long, F.max_pool2d(x, 3, stride=2)), 1)


class BlockE(nn.Module):
    def __init__(self, before: int, max_pooling: bool) -> None:
        super().__init__()
        self.max_pooling = max_pooling
        self.branch1x1 = Conv(before, 320, 1)
        self.branch3x3_1 = Conv(before, 384, 1)
        self.branch3x3_2a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = Conv(before, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Conv(before, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = (
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(F.max_pool2d(x, 3, stride=1, padding=1) if self.max_pooling else _mean_pool(x)),
        )
        return torch.cat(branches, 1)


class FidInception(nn.Sequential):
    """InceptionV3 as FID uses it: float32 (B, 3, H, W) in [-1, 1] to features (B, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.maxpool1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, 128)
        self.Mixed_6c = BlockC(768, 160)
        self.Mixed_6d = BlockC(768, 160)
        self.Mixed_6e = BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, max_pooling=False)
        self.Mixed_7c = BlockE(2048, max_pooling=True)

    def forward(self, pictures: Tensor) -> Tensor:
        x = F.interpolate(pictures, (SIDE, SIDE), mode="bilinear", align_corners=False)
        return super().forward(x).mean((2, 3))
