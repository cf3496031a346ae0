"""The networks of face-vid2vid: geometry as in its equations, sizes as published, and what is folded computes the same."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from data.errors import InputError
from hdac.nets.folding import folded
from hdac.nets.hybrid import Window, condition
from hdac.nets.keypoints import anchors
from hdac.nets.layers import coordinate_grid
from hdac.nets.models import build, settings_from, sizes
from hdac.nets.vid2vid import LITE, PAPER, Parameters, Vid2VidNet, Vid2VidSettings, keypoints, rotation, tracked
from hdac.nets.volume import Conv3d, Hourglass3d, coordinate_grid3d, warp3d
from hdac.training.losses import LEAST_DISTANCE, keypoint_prior, pose_error
from tests.hdac.nets import TINY_TRACKED, tiny_face_net

KNOWN = condition(None, torch.tensor([36.0]), torch.tensor([1.0]))


def picture(seed: int, side: int = 128, batch: int = 1) -> Tensor:
    return torch.rand(batch, 6, side, side, generator=torch.Generator().manual_seed(seed))


# -- geometry ----------------------------------------------------------------------------------------------------------


def test_rotations_turn_the_axes_as_a_head_turns() -> None:
    angles = torch.tensor([[0.0, 0.0, 0.0], [0.3, -0.2, 0.5]])
    r = rotation(angles)
    assert torch.allclose(r[0], torch.eye(3))
    assert torch.allclose(r @ r.transpose(1, 2), torch.eye(3).expand(2, 3, 3), atol=1e-6) and torch.linalg.det(r[1]) > 0
    nose = torch.tensor([0.0, 0.0, 1.0])  # towards the camera
    yaw, pitch, roll = (rotation(torch.tensor([[*row]]))[0] for row in ((0.3, 0, 0), (0, 0.3, 0), (0, 0, 0.3)))
    assert (yaw @ nose)[0] < -0.2 and abs((yaw @ nose)[1]) < 1e-6  # to the picture's left
    assert (pitch @ nose)[1] < -0.2 and abs((pitch @ nose)[0]) < 1e-6  # up
    assert (roll @ torch.tensor([1.0, 0, 0]))[1] == pytest.approx(math.sin(0.3))  # clockwise as displayed: y is down


def test_keypoints_follow_equation_1() -> None:
    generator = torch.Generator().manual_seed(1)
    canonical, delta = (torch.randn(2, 5, 3, generator=generator) for _ in range(2))
    angles, t = (torch.randn(2, 3, generator=generator) for _ in range(2))
    found = keypoints(canonical, Parameters(angles, t, delta))
    r = rotation(angles)
    for b in range(2):
        for k in range(5):
            assert torch.allclose(found[b, k], r[b] @ canonical[b, k] + t[b] + delta[b, k], atol=1e-5)


def test_deformations_that_are_not_sent_are_zero_or_what_they_were() -> None:
    whole, before = (Parameters(torch.zeros(2, 3), torch.zeros(2, 3), torch.full((2, 4, 3), value)) for value in (1.0, 2.0))
    sent = whole.first(torch.tensor([1, 3]), before, torch.tensor([False, True])).deformation
    assert sent[0, :, 0].tolist() == [1, 0, 0, 0] and sent[1, :, 0].tolist() == [1, 1, 1, 2]


def test_a_face_that_does_not_move_stays_where_it_is() -> None:
    """All K + 1 flows are the identity then, whatever their masks."""
    net = tiny_face_net()
    seen = picture(1)
    with torch.no_grad():
        reference = net.reference(seen)
        out = net(reference, reference.parameters, KNOWN)
        grid = coordinate_grid3d(4, 16, 16, seen)
        place = keypoints(reference.canonical, reference.parameters)
        turn = torch.eye(3)[None]
        flow, _ = net.motion(reference.volume, place, place, turn)
    assert (flow[0] - grid).abs().max() < 1e-5
    assert (out.warped - seen).abs().max() < 1e-3


def test_a_face_moved_by_a_quarter_of_the_picture_takes_its_volume_along() -> None:
    net = tiny_face_net()
    shift = torch.tensor([0.5, 0.0, 0.0])
    with torch.no_grad():
        reference = net.reference(picture(2))
        place = keypoints(reference.canonical, reference.parameters)
        flow, _ = net.motion(reference.volume, place, place + shift, torch.eye(3)[None])
        everywhere = coordinate_grid3d(4, 16, 16, place)[None] - shift
        moved = warp3d(reference.volume, everywhere)
    background = torch.linspace(-1, 1, 16)
    # every flow is the identity (the background) or the shift: what is mixed lies between
    offset = flow[0, ..., 0] - background
    assert offset.max() <= 1e-5 and offset.min() >= -0.5 - 1e-5 and offset.mean() < -0.3
    # 0.5 are 3.75 of 16 columns: what is there now was 4 columns to the left, but for the quarter
    assert torch.allclose(moved[..., 8], 0.25 * reference.volume[..., 5] + 0.75 * reference.volume[..., 4], atol=1e-5)


# -- parts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 3])
def test_one_volume_convolved_as_slices_is_the_same(kernel: int) -> None:
    torch.manual_seed(1)
    layer, volume = Conv3d(5, 7, kernel), torch.randn(1, 5, 4, 9, 6)
    expected = torch.nn.functional.conv3d(volume, layer.weight, layer.bias, padding=kernel // 2)
    with torch.no_grad():
        assert torch.allclose(layer(volume), expected, atol=1e-5)
        assert torch.allclose(layer(volume.expand(2, -1, -1, -1, -1))[1:], expected, atol=1e-5)
    assert torch.allclose(layer(volume), expected, atol=1e-5)


def test_the_hourglass_keeps_depth_and_size() -> None:
    net = Hourglass3d(3, 4, 8, 2)
    assert net(torch.randn(1, 3, 5, 8, 8)).shape == (1, net.n_out, 5, 8, 8)


def test_a_folded_network_computes_the_same() -> None:
    net = tiny_face_net()
    with torch.no_grad():
        for module in net.modules():  # statistics that are not those of before training
            if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
                module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        shown = []
        for one in (net, folded(net, KNOWN)):
            reference = one.reference(picture(1))
            shown.append(one(reference, one.estimate(picture(2)), KNOWN).picture)
    assert (shown[0] - shown[1]).abs().max() < 1e-4
    assert (shown[0] - picture(1)).abs().max() > 0.01


def test_a_window_is_a_part_of_the_whole_picture() -> None:
    net = tiny_face_net()
    with torch.no_grad():
        reference, target = net.reference(picture(1)), net.estimate(picture(2))
        whole = net(reference, target, KNOWN).picture
        part = net(reference, target, KNOWN, Window(32, 16, 64)).picture
    inner = slice(20, 44)  # convolutions see the edge
    assert torch.allclose(part[..., inner, inner], whole[..., 32:96, 16:80][..., inner, inner], atol=1e-4)


@pytest.mark.parametrize("side", [64, 96, 200])
def test_pictures_of_other_sizes_go_through(side: int) -> None:
    net = tiny_face_net()
    with torch.no_grad():
        out = net(net.reference(picture(1, side)), net.estimate(picture(2, side)), KNOWN)
    assert out.picture.shape == out.warped.shape == (1, 6, side, side)


def test_free_view_is_another_pose_of_the_same_face() -> None:
    net = tiny_face_net()
    with torch.no_grad():
        reference = net.reference(picture(1))
        own = rotation(reference.parameters.angles)
        same = net(reference, reference.parameters, KNOWN, turned=own).picture
        assert torch.equal(same, net(reference, reference.parameters, KNOWN).picture)
        turned = rotation(torch.tensor([[0.3, 0.0, 0.0]])) @ own
        assert (net(reference, reference.parameters, KNOWN, turned=turned).picture - same).abs().max() > 1e-3


def test_a_network_of_the_papers_kind_runs_learns_and_turns() -> None:
    """R'G'B' at full size, everything drawn from the volume: tiny, but otherwise as `face-vid2vid-paper`."""
    torch.manual_seed(0)
    widths = {"widths": (8, 8, 8), "detector": (4, 8, 2), "estimator_first": 4, "estimator": ((8, 1), (8, 1))}
    volume = {"volume_channels": 2, "volume_depth": 4, "n_volume_blocks": 1, "volume_side": 16, "motion": (4, 8, 2, 2)}
    net = Vid2VidNet(replace(PAPER, name="tiny-paper", n_keypoints=5, n_blocks=1, **widths, **volume)).eval()
    assert net.settings.colour == "rgb" and not net.settings.skips and net.estimator.points is None
    reference, target = net.reference(picture(1, 64)), net.estimate(picture(2, 64))
    out = net(reference, target, KNOWN)
    assert out.picture.shape == out.warped.shape == (1, 6, 64, 64) and out.gate is None
    out.picture.square().mean().backward()
    for part in (net.appearance, net.detector, net.motion, net.unfold, net.blocks, net.levels, net.last):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    turned = rotation(torch.tensor([[0.3, 0.0, 0.0]])) @ rotation(target.angles)
    assert not torch.equal(net(reference, target, KNOWN, turned=turned).picture, out.picture)


def test_the_paper_size_has_the_published_widths_and_the_lite_size_is_small() -> None:
    millions = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in Vid2VidNet(PAPER).named_children()}
    # F, L, H with Delta (ResNet-50: 23.5 M and its heads), M, G by the widths of Fig. 12
    assert millions["appearance"] == pytest.approx(0.84, abs=0.05)
    assert millions["detector"] == pytest.approx(41.9, abs=0.5)
    assert millions["estimator"] == pytest.approx(24.1, abs=0.3)
    assert millions["motion"] == pytest.approx(43.6, abs=0.5)
    # 512 -> 256 (3x3) -> 256 (1x1), six residual blocks, up to 128 and 64, 7x7 to R'G'B'
    up = 512 * 256 * 9 + 256 * 256 + 6 * 2 * 256 * 256 * 9 + 256 * 128 * 9 + 128 * 64 * 9 + 64 * 3 * 49
    assert sum(millions[name] for name in ("unfold", "blocks", "levels", "last")) == pytest.approx(up / 1e6, abs=0.05)
    assert sum(p.numel() for p in Vid2VidNet(LITE).parameters()) < 4e6


def test_settings_survive_a_file() -> None:
    for name in ("face-vid2vid", "face-vid2vid-paper", "residual", "lite"):
        settings = sizes()[name]
        kind = {"residual": "residual", "lite": "hybrid"}.get(name, "vid2vid")
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.to_dict().items()}
        assert settings_from(kind, values) == settings
        with pytest.raises(InputError):
            settings_from(kind, {**values, "nonsense": 1})
    with pytest.raises(InputError, match="unknown kind 'nets'"):
        settings_from("nets", {})
    with pytest.raises(InputError, match="colour 'cmyk'"):
        Vid2VidSettings("x", colour="cmyk")
    assert build(LITE).settings is LITE


# -- losses ------------------------------------------------------------------------------------------------------------


def test_the_prior_spreads_keypoints_and_keeps_their_depth() -> None:
    spread = torch.tensor([[[-0.5, 0.0, 0.33], [0.5, 0.0, 0.33]]])
    assert keypoint_prior(spread) == 0
    near = torch.tensor([[[0.0, 0.0, 0.33], [0.1, 0.0, 0.33]]])
    assert float(keypoint_prior(near)) == pytest.approx(2 * (LEAST_DISTANCE - 0.01))
    assert float(keypoint_prior(spread + torch.tensor([0, 0, 0.2]))) == pytest.approx(0.2)


def test_poses_that_nobody_knows_do_not_count() -> None:
    found = torch.tensor([[0.1, 0.2, 0.3], [9.0, 9.0, 9.0]], requires_grad=True)
    teacher = torch.tensor([[0.0, 0.0, 0.0], [math.nan] * 3])
    error = pose_error(found, teacher)
    assert float(error.detach()) == pytest.approx(0.6 / 2)
    error.backward()
    assert found.grad is not None and found.grad[1].abs().sum() == 0 and found.grad.isfinite().all()


def test_keypoints_are_where_heat_maps_locate_them_and_go_where_flow_leads() -> None:
    torch.manual_seed(1)
    net = Vid2VidNet(TINY_TRACKED).eval()
    assert net.estimator.points is not None and net.estimator.template is not None
    nn.init.normal_(net.estimator.points.heat.weight, std=0.3)
    picture = torch.rand(2, 6, 128, 128)
    with torch.no_grad():
        found, points = net.estimate(picture), net.estimator.locate(net.small(picture))
        placed = keypoints(net.estimator.template.expand(2, -1, -1), found)
    assert torch.allclose(placed[..., :2], points, atol=1e-6) and points.std() > 0.1
    # a picture that has moved by (0.2, -0.1) and is as much smaller as 0.9
    grid = coordinate_grid(64, 64, picture)
    flow = ((grid - torch.tensor([0.2, -0.1])) / 0.9 - grid).expand(2, -1, -1, -1)
    with torch.no_grad():
        reference, target = net.reference(picture), net.estimate(picture.flip(0))
        start = keypoints(reference.canonical, reference.parameters)
        end = keypoints(reference.canonical, tracked(reference, target, flow))
    inside = (start[..., :2].abs() < 0.75).all(-1)
    off = end[..., :2] - (0.9 * start[..., :2] + torch.tensor([0.2, -0.1]))
    assert off[inside].abs().max() < 1e-4 and inside.sum() > 6
    assert torch.allclose(end[..., 2], keypoints(reference.canonical, target)[..., 2], atol=1e-6)
    apart = (anchors(20)[:, None] - anchors(20)).norm(dim=-1) + torch.eye(20)
    assert apart.min() > 0.2 and anchors(20).mean(0).abs().max() < 1e-6 and anchors(20)[:4].abs().max() < 0.5
