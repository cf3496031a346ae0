"""LPIPS, DISTS and msVGG: documented values, input range, definitions, and order under growing degradation."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data as photographs

from data import pretrained
from data.clip import Clip
from data.errors import InputError
from hdac.nets import backbones
from rd.metrics import perceptual
from rd.metrics.score import MetricUnavailable, Score
from tests.paths import needs_shared

pytestmark = pytest.mark.usefixtures("no_metric_weights")

Pictures = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photo() -> Pictures:
    """A portrait, (1, 256, 256, 3)."""
    return np.ascontiguousarray(photographs.astronaut()[None, :256, 100:356])


def clip(pictures: Pictures) -> Clip:
    return Clip.from_rgb(pictures, Fraction(25))


def blurred(pictures: Pictures, sigma: float) -> Pictures:
    return gaussian_filter(pictures, (0, sigma, sigma, 0))


def jpeg(pictures: Pictures, quality: int) -> Pictures:
    coded = io.BytesIO()
    Image.fromarray(pictures[0]).save(coded, "JPEG", quality=quality)
    return np.asarray(Image.open(coded))[None]


def value(score: Score | MetricUnavailable) -> float:
    assert isinstance(score, Score), score
    return score.value


def documented_pair(shape: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The random pictures of torchmetrics' docstrings, in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)
    return first * 2 - 1, second * 2 - 1


# -- LPIPS -----------------------------------------------------------------------------------------------------------


@needs_shared
@pytest.mark.needs_shared
def test_lpips_equals_the_values_that_torchmetrics_documents(shared_metric_weights: None) -> None:
    net = perceptual._build("lpips")
    assert isinstance(net, perceptual.Lpips)
    a, b = documented_pair((2, 3, 100, 100), seed=42)
    with torch.inference_mode():
        distances, taps = net.distance(a, b)
        again, _ = net.distance(a, b, taps)
        wrong_range, _ = net.distance((a + 1) / 2, (b + 1) / 2)
    assert distances.tolist() == pytest.approx([0.1024, 0.0938], abs=5e-5)
    assert again.tolist() == distances.tolist()
    assert (distances - wrong_range).min() > 0.001, "a [0, 1] range would go unnoticed"


@needs_shared
@pytest.mark.needs_shared
def test_lpips_of_the_documented_batch_of_ten(shared_metric_weights: None) -> None:
    net = perceptual._build("lpips")
    assert isinstance(net, perceptual.Lpips)
    # torchmetrics runs its docstrings with torch's global generator seeded with 42
    generator = torch.Generator().manual_seed(42)
    a = torch.rand((10, 3, 100, 100), generator=generator) * 2 - 1
    b = torch.rand((10, 3, 100, 100), generator=generator) * 2 - 1
    with torch.inference_mode():
        assert net.distance(a, b)[0].mean().item() == pytest.approx(0.1005, abs=5e-5)


@needs_shared
@pytest.mark.needs_shared
def test_lpips_is_zero_for_equal_clips_and_grows_with_degradation(shared_metric_weights: None, photo: Pictures) -> None:
    degraded = [photo, jpeg(photo, 50), jpeg(photo, 10), jpeg(photo, 5)]
    scores = [value(perceptual.measure(clip(photo), clip(d), ["lpips"])["lpips"]) for d in degraded]
    assert scores[0] < 1e-6
    assert scores == sorted(scores) and scores[1] > 0.01


@needs_shared
@pytest.mark.needs_shared
@pytest.mark.parametrize("column", ["lpips", "msvgg_distilled"])
def test_the_score_of_a_remembered_source_is_the_same(
    column: str, shared_metric_weights: None, photo: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip(np.concatenate((photo, photo[:, ::-1])))
    decoded = clip(blurred(source.rgb(), 1.0))
    other = clip(blurred(source.rgb(), 2.0))
    first = perceptual.measure(source, decoded, [column])[column]
    assert perceptual._memory.taps
    remembered = perceptual.measure(source, decoded, [column])[column]
    perceptual.measure(other, decoded, ["lpips"])
    monkeypatch.setattr(perceptual, "SOURCE_MEMORY_BYTES", 0)
    forgotten = perceptual.measure(source, decoded, [column])[column]
    assert value(first) == value(remembered) == value(forgotten)
    assert not perceptual._memory.taps


def test_lpips_of_a_tiny_network_follows_its_formula() -> None:
    torch.manual_seed(0)
    levels = [torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), torch.nn.Sequential(torch.nn.Conv2d(4, 5, 3, 2))]
    heads = [torch.rand(1, 4, 1, 1), torch.rand(1, 5, 1, 1)]
    a, b = documented_pair((1, 3, 20, 24), seed=1)
    with torch.inference_mode():
        found, _ = perceptual.Lpips(backbones.PerceptualLpips(levels, heads), stride=1, min_side=1).distance(a, b)
        shift, scale = torch.tensor(backbones.LPIPS_SHIFT), torch.tensor(backbones.LPIPS_SCALE)
        expected = 0.0
        x, y = ((p - shift.view(3, 1, 1)) / scale.view(3, 1, 1) for p in (a, b))
        for level, head in zip(levels, heads, strict=True):
            x, y = level(x), level(y)
            difference = torch.nn.functional.normalize(x, dim=1) - torch.nn.functional.normalize(y, dim=1)
            expected += (head * difference**2).sum(1).mean().item()
    assert found.item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("off", [-1.5, 255.0])
def test_lpips_refuses_values_outside_its_range(off: float) -> None:
    one_level = backbones.PerceptualLpips([torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))], [torch.ones(1, 4, 1, 1)])
    net = perceptual.Lpips(one_level, stride=1, min_side=1)
    a, b = documented_pair((1, 3, 20, 20), seed=1)
    b[0, 0, 0, 0] = off
    with pytest.raises(InputError, match=r"\[-1, 1\]"):
        net.distance(a, b)


def test_pictures_must_be_8_bit_rgb() -> None:
    with pytest.raises(InputError, match="float32"):
        perceptual.to_signed(np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(InputError, match=r"\(8, 8, 3\)"):
        perceptual.to_unit(np.zeros((8, 8, 3), np.uint8))
    ends = np.array([0, 255], np.uint8).repeat(3).reshape(1, 1, 2, 3)
    assert perceptual.to_signed(ends)[0, 0, 0].tolist() == [-1.0, 1.0]


# -- DISTS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dists() -> perceptual.Dists:
    """DISTS with random convolutions and the published alpha and beta."""
    torch.manual_seed(0)
    features = backbones.vgg_features(backbones.VGG16_CHANNELS, l2_pooling=True).requires_grad_(False)
    state = pretrained.load(pretrained.find("dists"))
    return perceptual.Dists(backbones.split_levels(features, backbones.VGG16_TAPS), state["alpha"], state["beta"])


def test_dists_is_zero_for_equal_pictures_symmetric_and_grows(dists: perceptual.Dists, photo: Pictures) -> None:
    small = photo[:, 64:160, 64:160]
    with torch.inference_mode():
        assert dists(small, small)[0] == pytest.approx(0.0, abs=1e-5)
        weak, strong = (dists(small, blurred(small, sigma))[0] for sigma in (1.0, 3.0))
        assert 0.0 < weak < strong < 1.0
        assert dists(blurred(small, 3.0), small)[0] == pytest.approx(strong, abs=1e-5)


def test_dists_of_flat_pictures_sees_their_means_only(dists: perceptual.Dists) -> None:
    alpha, beta = torch.zeros(1, 1475, 1, 1), torch.zeros(1, 1475, 1, 1)
    alpha[:, :3] = 1.0  # the picture's own channels alone
    net = perceptual.Dists(list(dists.levels), alpha, beta)  # type: ignore[arg-type]
    a, b = (np.full((1, 32, 32, 3), level, np.uint8) for level in (51, 153))  # 0.2 and 0.6
    with torch.inference_mode():
        assert net(a, b)[0] == pytest.approx(1 - 2 * 0.2 * 0.6 / (0.2**2 + 0.6**2), abs=1e-5)


# -- msVGG -----------------------------------------------------------------------------------------------------------


def test_msvgg_is_ten_times_the_summed_mean_differences_over_scales_and_levels() -> None:
    levels = [torch.nn.Sequential(torch.nn.Identity()), torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1, bias=False, groups=3))]
    torch.nn.init.constant_(levels[1][0].weight, 2.0)
    features = backbones.VggLevels(levels)
    features.std.fill_(1.0)
    net = perceptual.MultiScaleVgg(features, min_side=1)
    a, b = (np.full((1, 64, 64, 3), level, np.uint8) for level in (100, 151))  # 0.2 apart
    features.mean.fill_(0.0)
    with torch.inference_mode():
        total, taps = net(a, b)
        assert net(a, b, taps)[0] == total and not taps  # of VGG19 itself they would be too large
    windows = [perceptual.decimate(torch.ones(1, 1, 64, 64), scale).mean().item() for scale in (1, 2, 4, 8)]
    assert total == pytest.approx(10 * (0.2 + 0.4) * sum(windows), rel=1e-4)


def test_decimation_keeps_the_mean_and_removes_what_would_alias() -> None:
    flat = perceptual.decimate(torch.full((1, 3, 64, 64), 0.5), 4)
    assert flat.shape == (1, 3, 16, 16)
    assert torch.allclose(flat[:, :, 4:-4, 4:-4], torch.tensor(0.5))
    stripes = torch.arange(64).remainder(2).float().expand(1, 1, 64, 64)
    assert (perceptual.decimate(stripes, 4)[:, :, 4:-4, 4:-4] - 0.5).abs().max() < 1e-3


@needs_shared
@pytest.mark.needs_shared
def test_distilled_msvgg_orders_degradations(shared_metric_weights: None, photo: Pictures) -> None:
    def score(decoded: Pictures) -> float:
        return value(perceptual.measure(clip(photo), clip(decoded), ["msvgg_distilled"])["msvgg_distilled"])

    assert score(photo) == 0.0
    assert 0.0 < score(jpeg(photo, 50)) < score(jpeg(photo, 10)) < score(jpeg(photo, 5))
    assert score(blurred(photo, 1.0)) < score(blurred(photo, 3.0))


# -- measure ---------------------------------------------------------------------------------------------------------


def test_missing_weights_name_the_file(photo: Pictures) -> None:
    results = perceptual.measure(clip(photo), clip(photo), perceptual.COLUMNS)
    expected = {
        "lpips": "squeezenet1_1_fp16.pth",
        "lpips_alex": "alexnet-owt-7be5be79.pth",
        "lpips_vgg": "vgg16-397923af.pth",
        "dists": "vgg16-397923af.pth",
        "msvgg": "vgg19-dcbb9e9d.pth",
        "msvgg_distilled": "vgg19n_distilled16x_to_relu5_1.pth",
    }
    for column, file in expected.items():
        reason = results[column]
        assert isinstance(reason, MetricUnavailable) and file in str(reason)


@needs_shared
@pytest.mark.needs_shared
def test_slow_networks_score_some_frames_and_small_clips_have_no_score(
    shared_metric_weights: None, photo: Pictures
) -> None:
    source = clip(photo.repeat(17, axis=0))
    scores = perceptual.measure(source, source, ["lpips", "msvgg_distilled"])
    for column, scored in (("lpips", [0, 5, 10, 15]), ("msvgg_distilled", [0, 15])):
        score = scores[column]
        assert isinstance(score, Score) and score.frames is not None
        assert np.flatnonzero(~np.isnan(score.frames)).tolist() == scored
    small = clip(photo[:, :16, :16])
    results = perceptual.measure(small, small, ["lpips", "msvgg_distilled"])
    for column, side in (("lpips", 17), ("msvgg_distilled", 256)):
        reason = results[column]
        assert isinstance(reason, MetricUnavailable) and f"{side} pixels" in str(reason) and "16x16" in str(reason)
    smallest = clip(photo[:, :17, :17])
    assert isinstance(perceptual.measure(smallest, smallest, ["lpips"])["lpips"], Score)


def test_clips_of_different_length_are_refused(photo: Pictures) -> None:
    with pytest.raises(InputError):
        perceptual.measure(clip(photo), clip(photo.repeat(2, axis=0)), ["lpips"])
