"""FID: the Frechet formula against scipy and known Gaussians, and the network's structure."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

from data.clip import Clip
from rd.metrics import fid
from rd.metrics.score import MetricUnavailable, Score

pytestmark = pytest.mark.usefixtures("no_metric_weights")


def noise(n_frames: int, seed: int) -> Clip:
    pictures = np.random.default_rng(seed).integers(0, 256, (n_frames, 24, 32, 3), dtype=np.uint8)
    return Clip.from_rgb(pictures, Fraction(25))


@pytest.mark.parametrize(("n", "m"), [(60, 60), (60, 45), (6, 5)])  # the last: fewer samples than dimensions
def test_frechet_distance_equals_the_matrix_root(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    a = rng.normal(size=(n, 10)) @ rng.normal(size=(10, 10))
    b = rng.normal(size=(m, 10)) @ rng.normal(size=(10, 10)) + 0.5
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shift = a.mean(0) - b.mean(0)
    # tr((A B)^(1/2)) = tr((A^(1/2) B A^(1/2))^(1/2)), whose inner matrix is symmetric
    root_a = np.real(scipy.linalg.sqrtm(cov_a + 1e-12 * np.eye(10)))
    inner = scipy.linalg.eigvalsh(root_a @ cov_b @ root_a)
    expected = shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(np.clip(inner, 0, None)).sum()
    assert fid.frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)


def test_frechet_distance_of_known_gaussians() -> None:
    x = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, -2.0], [0.0, 2.0]])  # variances 2/3 and 8/3, mean 0
    assert fid.frechet_distance(x, x) == pytest.approx(0.0, abs=1e-12)
    assert fid.frechet_distance(x, x + np.array([3.0, 4.0])) == pytest.approx(25.0)
    assert fid.frechet_distance(x, 3.0 * x) == pytest.approx((3 - 1) ** 2 * (2 / 3 + 8 / 3))


def test_the_network_has_the_published_size_and_names() -> None:
    net = fid.FidInception()
    assert sum(p.numel() for p in net.parameters()) == 21_785_568  # InceptionV3 without its classifier
    keys = net.state_dict()
    assert keys["Conv2d_1a_3x3.conv.weight"].shape == (32, 3, 3, 3)
    assert keys["Mixed_6b.branch7x7dbl_5.conv.weight"].shape == (192, 128, 1, 7)
    assert keys["Mixed_7c.branch_pool.bn.running_var"].shape == (192,)
    assert keys["Mixed_7a.branch7x7x3_4.conv.weight"].shape == (192, 192, 3, 3)


def test_pooling_leaves_the_padding_out_and_the_last_block_takes_the_maximum() -> None:
    x = torch.rand(1, 8, 8, 8)
    assert torch.allclose(fid._mean_pool(torch.ones(1, 2, 5, 5)), torch.ones(1, 2, 5, 5))
    torch.manual_seed(0)
    average, maximum = fid.BlockE(8, max_pooling=False).eval(), fid.BlockE(8, max_pooling=True).eval()
    maximum.load_state_dict(average.state_dict())
    with torch.inference_mode():
        a, b = average(x), maximum(x)
    assert torch.equal(a[:, :1856], b[:, :1856]) and not torch.equal(a[:, 1856:], b[:, 1856:])
    assert a.shape == (1, 2048, 8, 8)


def test_fid_of_a_clip_with_random_weights_is_zero_only_for_itself(no_metric_weights: Path) -> None:
    torch.manual_seed(0)
    state = fid.FidInception().state_dict() | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    file = no_metric_weights / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(state, file)
    source, other = noise(3, seed=1), noise(3, seed=2)
    same, different = (fid.measure(source, clip, ["fid"])["fid"] for clip in (source, other))
    file.unlink()  # 87 MB
    assert isinstance(same, Score) and isinstance(different, Score)
    assert same.value == pytest.approx(0.0, abs=1e-6 * different.value) and different.value > 0
    assert same.frames is None


def test_missing_weights_and_single_frames_have_a_reason() -> None:
    reason = fid.measure(noise(2, seed=1), noise(2, seed=2), ["fid"])["fid"]
    assert isinstance(reason, MetricUnavailable) and "pt_inception-2015-12-05-6726825d.pth" in str(reason)
    reason = fid.measure(noise(1, seed=1), noise(1, seed=2), ["fid"])["fid"]
    assert isinstance(reason, MetricUnavailable) and "two frames" in str(reason)
    assert fid.measure(noise(1, seed=1), noise(1, seed=2), ["psnr_y"]) == {}
