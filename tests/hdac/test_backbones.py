"""Judging networks: published structure, and gradients of what training minimises, beside the metric's own value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage import data as photographs
from torch import Tensor, nn

from data import pretrained
from data.errors import WeightsUnavailable
from hdac.nets import backbones
from hdac.nets.backbones import DistilledVgg, PerceptualLpips, load_distilled_vgg, load_lpips_squeeze
from rd.metrics import perceptual
from tests.paths import needs_shared

pytestmark = pytest.mark.usefixtures("no_metric_weights")

Distance = Callable[[Tensor, Tensor], Tensor]


def portraits() -> tuple[Tensor, Tensor]:
    """Two pictures and the same blurred: (2, 3, 64, 64) in [0, 1]."""
    photo = photographs.astronaut()
    sharp = np.stack((photo[60:124, 180:244], photo[20:84, 200:264]))
    blurred = gaussian_filter(sharp, (0, 1.5, 1.5, 0))
    a, b = (torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255 for pictures in (sharp, blurred))
    return a, b


def level_difference(net: DistilledVgg) -> Distance:
    def distance(a: Tensor, b: Tensor) -> Tensor:
        levels = zip(net(a), net(b), strict=True)
        return torch.stack([((x - y) ** 2).mean((1, 2, 3)) for x, y in levels]).sum(0)

    return distance


def assert_gradient_is_the_slope(distance: Distance, a: Tensor, b: Tensor, step: float = 1e-6) -> None:
    """The gradient of the distances by b, along itself, against their central difference; a, b: float64.

    b must not be flat anywhere: where the maximum of a pooling is a tie, the distance has a kink.
    """
    b = b.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(distance(a, b).sum(), b)
    assert gradient.isfinite().all() and gradient.abs().amax((1, 2, 3)).min() > 0
    direction = gradient / gradient.norm()
    with torch.no_grad():
        rise = distance(a, b + step * direction).sum() - distance(a, b - step * direction).sum()
    assert rise.item() / (2 * step) == pytest.approx(gradient.norm().item(), rel=1e-4)


# -- LPIPS -----------------------------------------------------------------------------------------------------------


@needs_shared
@pytest.mark.needs_shared
def test_lpips_of_training_has_the_value_of_the_metric(shared_metric_weights: None) -> None:
    metric = perceptual._build("lpips")
    assert isinstance(metric, perceptual.Lpips)
    a, b = portraits()
    found = load_lpips_squeeze()(a, b)
    with torch.inference_mode():
        expected, _ = metric.distance(a * 2 - 1, b * 2 - 1)
    assert expected.min() > 0.05
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-5)  # the metric keeps features as float16


@needs_shared
@pytest.mark.needs_shared
def test_the_gradient_of_lpips_is_its_slope(shared_metric_weights: None) -> None:
    a, b = portraits()
    assert_gradient_is_the_slope(load_lpips_squeeze().double(), a.double(), b.double())


@needs_shared
@pytest.mark.needs_shared
def test_a_step_down_the_gradient_lowers_lpips_of_every_picture(shared_metric_weights: None) -> None:
    net = load_lpips_squeeze()
    a, b = portraits()
    b.requires_grad_()
    before = net(a, b)
    (gradient,) = torch.autograd.grad(before.sum(), b)
    norm = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    with torch.no_grad():
        after = net(a, (b - 0.1 * gradient / norm).clamp(0, 1))
    assert (after < before).all()


def test_the_gradient_of_a_tiny_lpips_is_exact_for_both_pictures() -> None:
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), backbones._Fire(4, 2, 3))
    levels = backbones.split_levels(features.requires_grad_(False), (1, 3))
    net = PerceptualLpips(levels, [torch.rand(1, 4, 1, 1), torch.rand(1, 6, 1, 1)]).double()
    a, b = torch.rand(2, 2, 3, 8, 8, dtype=torch.float64, requires_grad=True).unbind()
    assert torch.autograd.gradcheck(net, (a, b))


def test_positions_without_features_have_no_gradient() -> None:
    conv = nn.Conv2d(3, 4, 3).requires_grad_(False)
    nn.init.constant_(conv.bias, -100.0)  # type: ignore[arg-type]
    net = PerceptualLpips([nn.Sequential(conv, nn.ReLU(inplace=True))], [torch.ones(1, 4, 1, 1)])
    b = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(net(1 - b.detach(), b).sum(), b)
    assert gradient.abs().max() == 0  # and not NaN: the length of a zero vector has a kink


# -- VGG -------------------------------------------------------------------------------------------------------------


@needs_shared
@pytest.mark.needs_shared
def test_the_gradient_of_the_distilled_vgg_is_its_slope(shared_metric_weights: None) -> None:
    a, b = portraits()
    assert_gradient_is_the_slope(level_difference(load_distilled_vgg().double()), a.double(), b.double())


@needs_shared
@pytest.mark.needs_shared
def test_distilled_levels_have_mean_activation_near_one(shared_metric_weights: None) -> None:
    photo = torch.from_numpy(photographs.chelsea()[None, :256, 100:356].copy()).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        levels = list(load_distilled_vgg()(photo))
    assert [level.shape[1] for level in levels] == [64, 128, 256, 512, 512]
    for level in levels:
        assert 0.6 < level.mean().item() < 1.5  # what the normalisation of VGG19 promises


def test_vgg19_levels_have_the_published_channels() -> None:
    features = backbones.vgg_features(backbones.VGG19_CHANNELS)
    net = backbones.VggLevels(backbones.split_levels(features, backbones.VGG19_TAPS))
    with torch.inference_mode():
        levels = list(net(torch.zeros(1, 3, 32, 32)))
    assert [tuple(level.shape[1:]) for level in levels] == [
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
        (512, 4, 4),
        (512, 2, 2),
    ]


def test_l2_pooling_of_a_constant_keeps_it_inside() -> None:
    pooled = backbones._L2Pooling()(torch.full((1, 2, 9, 9), -3.0))
    assert pooled.shape == (1, 2, 5, 5)
    assert torch.allclose(pooled[:, :, 1:-1, 1:-1], torch.tensor(3.0))


# -- structure and loading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "taps", "name", "channels"),
    [
        (
            backbones.squeezenet_features(),
            backbones.SQUEEZENET_TAPS,
            "lpips_squeeze",
            (64, 128, 256, 384, 384, 512, 512),
        ),
        (backbones.alexnet_features(), backbones.ALEXNET_TAPS, "lpips_alex", (64, 192, 384, 256, 256)),
        (
            backbones.vgg_features(backbones.VGG16_CHANNELS),
            backbones.VGG16_TAPS,
            "lpips_vgg",
            (64, 128, 256, 512, 512),
        ),
    ],
)
def test_levels_have_the_channels_of_the_published_heads(
    features: nn.Sequential, taps: tuple[int, ...], name: str, channels: tuple[int, ...]
) -> None:
    heads = backbones.lpips_heads(pretrained.find(name), len(taps))  # from the lpips package
    assert tuple(head.shape[1] for head in heads) == channels
    with torch.inference_mode():
        x, found = torch.zeros(1, 3, 64, 64), []
        for level in backbones.split_levels(features, taps):
            x = level(x)
            found.append(x.shape[1])
    assert tuple(found) == channels


@pytest.mark.parametrize(
    ("features", "parameters"),
    [  # torchvision's models less their classifiers
        (backbones.squeezenet_features(), 1_235_496 - 513_000),
        (backbones.alexnet_features(), 61_100_840 - 58_631_144),
        (backbones.vgg_features(backbones.VGG16_CHANNELS), 138_357_544 - 123_642_856),
    ],
)
def test_backbones_have_the_published_number_of_parameters(features: nn.Sequential, parameters: int) -> None:
    assert sum(p.numel() for p in features.parameters()) == parameters


@needs_shared
@pytest.mark.needs_shared
@pytest.mark.parametrize("load", [load_lpips_squeeze, load_distilled_vgg])
def test_loaded_networks_are_frozen(shared_metric_weights: None, load: Callable[[], nn.Module]) -> None:
    net = load()
    assert not any(module.training for module in net.modules())
    assert not any(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize(
    ("load", "file"),
    [(load_lpips_squeeze, "squeezenet1_1-b8a52dc0.pth"), (load_distilled_vgg, "vgg19n_distilled16x_to_relu5_1.pth")],
)
def test_missing_weights_name_the_file(load: Callable[[], nn.Module], file: str) -> None:
    with pytest.raises(WeightsUnavailable, match=file):
        load()
