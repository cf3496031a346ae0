"""Networks: the published sizes, geometry, what zero means, and the four fusions."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from baselines.stills import import_compressai
from data.clip import Clip
from data.errors import InputError
from hdac.nets.discriminator import Discriminator
from hdac.nets.flow import optical_flow
from hdac.nets.folding import folded
from hdac.nets.fusion import FUSIONS, SpatialAttention
from hdac.nets.hybrid import LITE, PAPER, HybridNet, NetSettings, condition
from hdac.nets.keypoints import DetectorSettings, KeypointDetector, Keypoints
from hdac.nets.layers import AntiAlias, ResBlock, coordinate_grid, warp
from hdac.nets.motion import DenseMotion, MotionSettings, sparse_motions
from hdac.nets.picture import from_rgb, pack, pack_clip, to_rgb, unpack
from hdac.training.losses import ThinPlateSpline, equivariance, jacobian_equivariance, ms_ssim, psnr_db, psnr_y_db
from rd.metrics import fidelity
from rd.metrics.score import Score
from tests.clips import moving_clip
from tests.hdac.nets import TINY, tiny_net


def millions(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def known(batch: int = 1) -> torch.Tensor:
    ones = torch.ones(batch)
    return condition(45 * ones, 33 * ones, 0 * ones)


# -- size ------------------------------------------------------------------------------------------------------------


def test_paper_size_has_the_parameters_of_fomm() -> None:
    """14.2 M keypoint detector; 45.6 M generator, its dense motion network and six residual blocks included."""
    with torch.device("meta"):
        net = HybridNet(replace(PAPER, fusion="gated"))
    assert millions(net.detector) == pytest.approx(14.2, abs=0.05)
    fomm = millions(net.motion) + millions(net.encode_reference) + millions(net.fuse.chain) + millions(net.levels)
    assert fomm + 7 * 7 * 64 * 3 / 1e6 == pytest.approx(45.6, abs=0.1)


def macs(function) -> float:  # type: ignore[no-untyped-def]
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops() / 2e9


@torch.inference_mode()
def test_lite_size_fits_two_cores() -> None:
    net, picture = HybridNet(LITE).eval(), torch.rand(1, 6, 128, 128)
    assert millions(net) <= 5
    reference = net.reference(picture)
    per_frame = macs(lambda: net(reference, net.detect(picture), picture, known()))
    assert per_frame <= 6, per_frame


# -- geometry --------------------------------------------------------------------------------------------------------


def test_the_identity_grid_leaves_a_picture_as_it_is_and_one_pixel_moves_one_pixel() -> None:
    picture = torch.rand(2, 3, 20, 30)
    grid = coordinate_grid(20, 30, picture).expand(2, -1, -1, -1)
    assert torch.allclose(warp(picture, grid), picture, atol=1e-5)
    right = warp(picture, grid + torch.tensor([2 / 29, 0.0]))
    assert torch.allclose(right[..., :-1], picture[..., 1:], atol=1e-5)


def test_equal_keypoints_do_not_move_anything() -> None:
    grid = coordinate_grid(8, 8, torch.zeros(1))
    points = Keypoints(torch.rand(2, 5, 2) * 2 - 1, torch.eye(2).expand(2, 5, 2, 2) + 0.1)
    assert torch.allclose(sparse_motions(grid, points, points), grid.expand(2, 6, 8, 8, 2), atol=1e-5)


def test_sparse_motion_is_first_order() -> None:
    """FOMM Eq. 4 at a point beside the keypoint: p_ref + J_ref J_target^-1 (z - p_target)."""
    j_ref, j_target = torch.tensor([[1.0, 0.5], [0.0, 2.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    p_ref, p_target = torch.tensor([0.1, -0.2]), torch.tensor([0.3, 0.4])
    grid = coordinate_grid(5, 5, torch.zeros(1))
    reference = Keypoints(p_ref.view(1, 1, 2), j_ref[None, None])
    moved = sparse_motions(grid, reference, Keypoints(p_target.view(1, 1, 2), j_target[None, None]))
    expected = p_ref + j_ref @ torch.linalg.inv(j_target) @ (grid[1, 3] - p_target)
    assert torch.allclose(moved[0, 1, 1, 3], expected, atol=1e-6)


def test_keypoints_lie_in_the_picture_and_jacobians_begin_as_identities() -> None:
    found = KeypointDetector(DetectorSettings(6, True, 4, 16, 2), 3)(torch.rand(2, 3, 64, 64))
    assert found.position.shape == (2, 6, 2) and found.position.abs().max() <= 1
    assert found.jacobian is not None and torch.allclose(found.jacobian, torch.eye(2).expand(2, 6, 2, 2), atol=1e-5)


def test_dense_motion_of_a_still_picture_is_the_identity_before_training() -> None:
    net = DenseMotion(MotionSettings(4, 16, 2, base=True), 4, 6)
    points, small = Keypoints(torch.rand(1, 4, 2)), torch.rand(1, 6, 64, 64)
    motion = net(small, points, points, small)
    assert torch.allclose(motion.deformation, coordinate_grid(64, 64, small)[None], atol=1e-5)
    assert motion.occlusion.shape == (1, 1, 64, 64)


def test_anti_aliasing_keeps_a_flat_picture_and_removes_a_checkerboard() -> None:
    reduce = AntiAlias(1, 4)
    flat = reduce(torch.full((1, 1, 64, 64), 0.5))
    assert torch.allclose(flat[..., 4:-4, 4:-4], torch.tensor(0.5), atol=1e-5)
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float()[None, None]
    assert (reduce(board)[..., 4:-4, 4:-4] - 0.5).abs().max() < 1e-3


def test_a_thin_plate_spline_deforms_a_picture_as_it_moves_its_points() -> None:
    transform = ThinPlateSpline(1, torch.Generator().manual_seed(3))
    ramp = coordinate_grid(33, 33, torch.zeros(1)).permute(2, 0, 1)[None]  # a picture of its own coordinates
    deformed = transform.deform(ramp)
    at = torch.tensor([[[0.0, 0.0], [0.25, -0.5]]])
    expected = transform(at)
    assert torch.allclose(deformed[0, :, 16, 16], expected[0, 0], atol=1e-4)
    assert torch.allclose(deformed[0, :, 8, 20], expected[0, 1], atol=1e-4)
    assert (expected - at).abs().max() > 1e-3


def test_jacobians_without_an_inverse_do_no_harm() -> None:
    grid = coordinate_grid(8, 8, torch.zeros(1))
    at = torch.zeros(1, 4, 2)
    singular = torch.tensor([[[[0.0, 0], [0, 0]], [[1, 1], [1, 1]], [[8, -8], [-8, 8]], [[0, 0], [0, 5]]]])
    motions = sparse_motions(grid, Keypoints(at, torch.eye(2).expand(1, 4, 2, 2)), Keypoints(at, singular))
    assert torch.isfinite(motions).all()
    regular = torch.eye(2) + 0.3 * torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    motions = sparse_motions(grid, Keypoints(at, regular), Keypoints(at, regular))
    assert torch.allclose(motions, grid.expand_as(motions), atol=1e-5)


def test_the_jacobian_of_a_thin_plate_spline_is_its_slope() -> None:
    transform = ThinPlateSpline(2, torch.Generator().manual_seed(3))
    at = (torch.rand(2, 5, 2, generator=torch.Generator().manual_seed(4)) * 2 - 1).requires_grad_()
    moved = transform(at)
    slopes = [torch.autograd.grad(moved[..., i].sum(), at, retain_graph=True)[0] for i in (0, 1)]
    found = transform.jacobian(at)
    assert torch.allclose(found, torch.stack(slopes, dim=-2), atol=1e-5)
    assert (found - transform.theta[:, None, :, :2]).abs().max() > 1e-3  # it is more than the affine part


def test_keypoints_that_follow_the_deformation_are_equivariant_in_float32_under_autocast() -> None:
    """FOMM Eq. 9 and 10: T(p) and T'(p) J of the keypoints p, J of the deformed picture."""
    generator = torch.Generator().manual_seed(5)
    transform = ThinPlateSpline(2, generator)
    jacobian = torch.eye(2) + 0.3 * torch.randn(2, 4, 2, 2, generator=generator)
    of_deformed = Keypoints(torch.rand(2, 4, 2, generator=generator), jacobian)
    with torch.autocast("cpu", torch.bfloat16):
        following = Keypoints(transform(of_deformed.position), transform.jacobian(of_deformed.position) @ jacobian)
        assert equivariance(following, of_deformed, transform) == 0
        exact = following._replace(jacobian=transform.jacobian(of_deformed.position).double().matmul(jacobian.double()).float())
        assert jacobian_equivariance(exact, of_deformed, transform) < 1e-5
        still = Keypoints(of_deformed.position, jacobian)
        assert equivariance(still, of_deformed, transform) > 1e-3
        assert jacobian_equivariance(still, of_deformed, transform) > 1e-2
        shrunk = jacobian_equivariance(exact._replace(jacobian=2 * exact.jacobian), of_deformed, transform)
        assert shrunk == pytest.approx(0.25, abs=1e-4)  # |1 - 1/2| on the diagonal: small Jacobians do not please it


# -- pictures --------------------------------------------------------------------------------------------------------


def test_packing_is_exact_for_odd_sizes_too() -> None:
    clip = moving_clip(2, 35, 27)
    y, u, v = unpack(pack_clip(clip, slice(None), 8), clip.height, clip.width)
    assert np.array_equal(y, clip.y) and np.array_equal(u, clip.u) and np.array_equal(v, clip.v)


def test_rgb_of_packed_pictures_is_that_of_the_clip_and_the_way_back_is_its_inverse_for_smooth_colour() -> None:
    clip = moving_clip(1, 64, 64)
    clip = Clip(clip.y, clip.u // 4 + 96, clip.v // 4 + 96, clip.fps)
    packed = pack_clip(clip, slice(None), 8)
    rgb = to_rgb(packed).clamp(0, 1)
    expected = torch.from_numpy(clip.rgb()).permute(0, 3, 1, 2).float() / 255
    assert (rgb - expected).abs().mean() < 0.01  # chroma siting differs by half a sample
    assert (from_rgb(to_rgb(packed)) - packed).abs().mean() < 2e-3
    zero = torch.zeros(1, 3, 8, 8)
    assert from_rgb(zero, difference=True).abs().max() == 0


def test_psnr_losses_are_those_of_numpy() -> None:
    a, b = torch.rand(3, 6, 8, 8), torch.rand(3, 6, 8, 8)
    squared = ((a - b) ** 2).numpy()
    expected = -10 * np.log10((3 * squared[:, :4].mean((1, 2, 3)) + squared[:, 4:].mean((1, 2, 3))) / 4 + 1e-5)
    assert np.allclose(psnr_db(a, b).numpy(), expected, atol=1e-4)
    levels = ((a[:, :4] * 255).round() / 255 - b[:, :4]) ** 2
    assert np.allclose(psnr_y_db(a, b).numpy(), -10 * np.log10(levels.numpy().mean((1, 2, 3))), atol=1e-3)


def test_ms_ssim_of_training_has_the_value_of_the_metric() -> None:
    a, b = (moving_clip(1, 256, 192, seed=seed) for seed in (1, 2))
    mixed = Clip((0.7 * a.y + 0.3 * b.y).astype(np.uint8), a.u, a.v, a.fps)
    found = ms_ssim(pack_clip(mixed, slice(None), 8), pack_clip(a, slice(None), 8))
    expected = fidelity.measure(a, mixed, ["ms_ssim_y"])["ms_ssim_y"]
    assert isinstance(expected, Score) and 0.5 < expected.value < 0.99
    assert found.tolist() == pytest.approx([expected.value], abs=1e-5)


def test_ms_ssim_of_a_window_of_128_has_four_scales_and_the_best_of_pictures_is_1() -> None:
    picture = torch.rand(2, 6, 64, 64)
    assert torch.allclose(ms_ssim(picture, picture), torch.ones(2), atol=1e-5)
    fine = picture.clone()
    fine[:, :4] += 0.1 * torch.tensor([1.0, -1.0, -1.0, 1.0]).view(1, 4, 1, 1)  # gone at the second scale
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363])
    one_scale = ms_ssim(fine[..., :10, :10], picture[..., :10, :10])  # 20 samples: SSIM alone, of a part
    assert (ms_ssim(fine, picture) - one_scale ** float(weights[0] / weights.sum())).abs().max() < 0.01
    with pytest.raises(InputError, match="8x8"):
        ms_ssim(picture[..., :4, :4], picture[..., :4, :4])


def test_ms_ssim_has_a_gradient_wherever_it_is_and_stays_float32() -> None:
    torch.manual_seed(0)
    picture, target = torch.rand(2, 6, 32, 32), torch.rand(2, 6, 32, 32)
    picture[1] = 1 - target[1]  # an inverted structure has no real power
    picture.requires_grad_()
    value = ms_ssim(picture, target)
    with torch.autocast("cpu", torch.bfloat16):
        # not bit by bit: sums go another way where memory lies otherwise; bfloat16 would be off by 1e-3
        assert torch.allclose(ms_ssim(picture, target), value, rtol=0, atol=1e-6)
    value.sum().backward()
    assert picture.grad is not None and picture.grad.isfinite().all() and picture.grad[0].abs().max() > 0


# -- fusion ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_gives_a_picture_and_uses_both_layers(fusion: str) -> None:
    torch.manual_seed(1)
    net = HybridNet(replace(TINY, fusion=fusion)).eval()
    torch.nn.init.normal_(net.last.weight, std=0.1)
    reference, base = torch.rand(1, 6, 64, 64), torch.rand(1, 6, 64, 64)
    out = net(net.reference(reference), net.detect(base), base, known())
    assert out.picture.shape == (1, 6, 64, 64)
    assert (out.gate is not None) == (fusion == "gated")
    for other in ((reference.flip(-1), base), (reference, base.flip(-1))):
        changed = net(net.reference(other[0]), net.detect(base), other[1], known())
        assert (changed.picture - out.picture).abs().max() > 1e-4


def test_gated_fusion_without_training_is_the_base_layer_or_the_warped_reference() -> None:
    net = tiny_net(correction=0.0)
    reference, base = torch.rand(1, 6, 64, 64), torch.rand(1, 6, 64, 64)
    of_reference = net.reference(reference)
    assert torch.equal(net(of_reference, net.detect(base), base, known()).picture, base)
    alone = net(of_reference, of_reference.keypoints, None, condition(None, torch.tensor([33.0]), torch.tensor([0.0])))
    assert torch.allclose(alone.picture, reference, atol=1e-4)


def test_spatial_attention_is_that_of_compressai() -> None:
    theirs = import_compressai().layers.AttentionBlock(8)
    ours = SpatialAttention(8)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.rand(1, 8, 12, 12)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)


def test_the_paper_size_runs_on_rgb() -> None:
    small = replace(
        PAPER,
        detector=DetectorSettings(4, True, 4, 16, 2),
        motion=MotionSettings(4, 16, 2),
        widths=(8, 8, 8),
        n_blocks=1,
    )
    net, picture = HybridNet(small).eval(), torch.rand(1, 6, 128, 128)
    out = net(net.reference(picture), net.detect(picture), picture, known())
    assert out.picture.shape == picture.shape and out.motion.deformation.shape == (1, 64, 64, 2)


def test_settings_survive_a_round_trip_and_unknown_ones_are_refused() -> None:
    for settings in (PAPER, LITE, TINY):
        assert NetSettings.from_dict(settings.to_dict()) == settings
    with pytest.raises(InputError, match="fusion 'magic'"):
        replace(LITE, fusion="magic")
    with pytest.raises(InputError):
        NetSettings.from_dict({"name": "x"})


def test_the_discriminator_has_the_width_of_fomm_and_gives_features() -> None:
    features, verdict = Discriminator()(torch.rand(1, 3, 128, 128))
    assert [f.shape[1] for f in features] == [64, 128, 256, 512] and verdict.shape[1] == 1


def test_a_network_folded_for_one_stream_computes_the_same() -> None:
    net = HybridNet(replace(LITE, widths=(8, 16, 16), n_blocks=2)).eval()
    for module in net.modules():  # away from the values that fold to nothing
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
        if isinstance(module, ResBlock) and module.film is not None:
            torch.nn.init.normal_(module.film.weight, std=0.3)
    torch.nn.init.normal_(net.last.weight, std=0.1)
    wish = condition(torch.tensor([47.0]), torch.tensor([33.0]), torch.tensor([1.0]))
    small = folded(net, wish)
    reference, base, flow = torch.rand(1, 6, 64, 96), torch.rand(1, 6, 64, 96), torch.zeros(1, 64, 96, 2)
    with torch.no_grad():
        expected = net(net.reference(reference), net.detect(base), base, wish, flow=flow)
        found = small(small.reference(reference), small.detect(base), base, wish, flow=flow)
    assert float((expected.picture - base).abs().max()) > 0.01
    assert torch.allclose(expected.picture, found.picture, atol=1e-4)


def test_flow_finds_a_shift_and_the_network_follows_it() -> None:
    rng = np.random.default_rng(3)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (160, 160)).astype(np.uint8), (0, 0), 3)
    picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)
    reference, base = picture[16:144, 16:144], picture[12:140, 22:150]  # of a camera that went right and up
    flow = optical_flow(np.ascontiguousarray(base), np.ascontiguousarray(reference))
    inner = flow[8:-8, 8:-8] * 63  # in luma samples
    assert np.abs(np.median(inner, (0, 1)) - (6, -4)).max() < 0.25

    grey = np.full(2 * 64 * 64, 128, np.uint8)
    packed = [pack(torch.from_numpy(np.concatenate((y.ravel(), grey)))[None], 128, 128) for y in (reference, base)]
    net = HybridNet(LITE).eval()
    with torch.no_grad():
        of_reference = net.reference(packed[0])
        out = net(of_reference, net.detect(packed[1]), packed[1], known(), flow=torch.from_numpy(flow)[None])
    before, after = (float((p - packed[1])[..., 8:-8, 8:-8].abs().mean()) for p in (packed[0], out.warped))
    assert after < before / 2


def test_flow_of_pictures_without_a_pyramid_is_zero() -> None:
    assert not optical_flow(np.zeros((48, 200), np.uint8), np.full((48, 200), 255, np.uint8)).any()
