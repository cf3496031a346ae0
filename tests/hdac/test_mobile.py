"""The mobile family: what its parts do, and that its decoder has what its encoder meant."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from data.clip import Clip
from data.errors import BitstreamError, InputError
from data.io import write_clip
from hdac import landmarks, points, systems, weights
from hdac.codecs import mobile
from hdac.codecs.base_layer import Planes
from hdac.codecs.dac import Dac
from hdac.codecs.mobile import Mobile
from hdac.codecs.point_animator import STAYS, STEADY, PointAnimator
from hdac.codecs.refresh import Refresh
from hdac.codecs.source_choice import SourceChoice
from hdac.container import Reader
from hdac.decoder import decode_mobile
from hdac.landmarks import COUNT, FRONTAL, MIRRORED, NOSE_TIP, POLYGONS, SUBSETS, label_map
from hdac.nets.animation import (
    SIZES,
    AnimationNet,
    AnimationSettings,
    LightDetector,
    LightMapDetector,
    PointNet,
    Points,
)
from hdac.nets.hybrid import condition
from hdac.nets.keypoints import Keypoints, anchors, from_maps
from hdac.nets.landmarks import LandmarkNet, LandmarkSettings, Square, cut, from_samples, square_around, to_samples
from hdac.nets.models import build, settings_from, sizes
from hdac.nets.picture import pack_clip
from hdac.network import by_name, load, of_kind
from hdac.points import MAX_SOURCES, PointSettings, Replay, Values
from hdac.published_coders import learn_lengths
from hdac.training.__main__ import main as train
from hdac.training.objectives import eye_distances
from hdac.training.tables import displacements, values
from tests.clips import moving_clip, psnr_y
from tests.hdac.nets import TINY_ANIMATIONS, tiny_animation
from tests.hdac.streams import rewritten, units_of

MOBILE = Mobile(qp=40, network="tiny-learned", landmark_network="tiny-landmarks", segmentation_network="tiny-segmentation")
FRONT = torch.tensor(FRONTAL)[None]


# -- landmarks -------------------------------------------------------------------------------------------------------


def test_subsets_hold_each_other_and_mirrored_faces_are_faces() -> None:
    assert [len(set(subset)) for subset in SUBSETS.values()] == list(SUBSETS)
    assert set(SUBSETS[20]) < set(SUBSETS[33]) < set(SUBSETS[60]) < set(SUBSETS[68])
    assert {corner for polygon in POLYGONS for corner in polygon.corners} <= set(SUBSETS[60])
    for number, subset in SUBSETS.items():
        assert {MIRRORED[i] for i in subset} == set(subset) and len(subset) == number
    face = np.array(FRONTAL)
    assert np.abs(face[list(MIRRORED)] * [-1, 1] - face).max() < 0.011
    assert sorted(MIRRORED) == list(range(COUNT)) and all(MIRRORED[MIRRORED[i]] == i for i in range(COUNT))


def test_polygons_are_drawn_where_they_are_and_the_mouth_over_the_lips() -> None:
    face = np.array(FRONTAL, np.float32)
    labels = label_map(face, 128, 256)
    assert labels.shape == (128, 256) and set(np.unique(labels)) == set(range(landmarks.N_LABELS))
    for polygon in POLYGONS:
        rows, columns = np.nonzero(labels == polygon.label)
        spans = face[list(polygon.corners)] * 0.5 + 0.5
        assert rows.min() >= np.floor(spans[:, 1].min() * 127) - 1 and columns.max() >= spans[:, 0].max() * 255 - 2
    opened = face.copy()
    opened[65:68, 1] += 0.1
    assert (label_map(opened, 128, 128) == 4).sum() > 2 * (label_map(face, 128, 128) == 4).sum()


def test_squares_of_pictures_are_cut_where_they_lie() -> None:
    square = Square(torch.tensor([[60.0, 40.0]]), torch.tensor([30.0]), torch.tensor([0.4]))
    points = torch.rand(1, COUNT, 2) * 2 - 1
    assert torch.allclose(square.from_picture(square.to_picture(points)), points, atol=1e-5)
    assert torch.allclose(from_samples(to_samples(points, 96, 128), 96, 128), points, atol=1e-6)
    packed = pack_clip(moving_clip(1, 128, 96), slice(None), 8)
    whole = Square(torch.tensor([[47.5, 47.5]]), torch.tensor([95.0]), torch.zeros(1))
    assert torch.allclose(cut(packed, whole, 96)[:, :4], packed[:, :4, :, :48], atol=1e-4)  # every luma sample on the left
    around = square_around(to_samples(FRONT, 96, 96))
    inside = around.from_picture(to_samples(FRONT, 96, 96))
    assert inside.abs().max() < 1 and float(inside[0, 36, 1] - inside[0, 45, 1]) == pytest.approx(0, abs=1e-5)


def test_a_student_that_always_sees_the_same_face_says_where_its_squares_lie() -> None:
    net = LandmarkNet(LandmarkSettings(widths=(4, 8), n_blocks=1, last=4, expansion=1)).eval()
    for part in (net.coarse, net.fine):
        torch.nn.init.zeros_(part.points.weight)
    net.coarse.points.bias.data = FRONT.flatten()
    around = square_around(to_samples(FRONT, 96, 96))
    net.fine.points.bias.data = around.from_picture(to_samples(FRONT, 96, 96)).flatten()
    with torch.no_grad():
        found = net(pack_clip(moving_clip(1, 96, 96), slice(None), 8))
    assert torch.allclose(found, FRONT, atol=1e-5)
    assert float(eye_distances(FRONT + 0.06, FRONT)) == pytest.approx(0.06 * 2**0.5 / 0.6, rel=1e-4)


# -- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SIZES.values(), ids=lambda s: s.name)
def test_before_training_points_move_what_is_near_them_and_nothing_is_changed(settings: AnimationSettings) -> None:
    torch.manual_seed(1)
    net = AnimationNet(settings).eval()
    assert settings_from("animation", settings.to_dict()) == settings and settings == sizes()[settings.name]
    picture = pack_clip(moving_clip(1, 128, 128), slice(None), net.settings.multiple)
    labels = torch.zeros(1, 64, 64, dtype=torch.uint8) if settings.spade else None
    known = condition(None, torch.tensor([30.0]), torch.tensor([1.0]))
    with torch.no_grad():
        learned = net.detect(picture)
        still = Points(learned, FRONT, labels, net.express(picture))
        reference = net.reference([net.source(picture, still)])
        assert torch.allclose(net(reference, still, known).picture, picture, atol=1e-4)
        moved = None if learned is None else learned._replace(position=learned.position + torch.tensor([0.1, 0.0]))
        out = net(reference, still._replace(learned=moved, landmarks=FRONT + torch.tensor([0.1, 0.0])), known)
        at_rest = net(reference, still, known).motion.deformation
    shift = (out.motion.deformation - at_rest)[0, 24:40, 24:40].mean((0, 1))
    assert -0.12 < float(shift[0]) < -0.04 and abs(float(shift[1])) < 0.03  # it looks to the left for what has gone right


@pytest.mark.parametrize("kind", [LightDetector, LightMapDetector])
def test_the_light_detector_is_as_light_as_published_and_can_be_pruned(kind: Any) -> None:
    sizes_of = [sum(p.numel() for p in kind(10, True, 6, n).parameters()) for n in (7, 6, 5)]
    assert sizes_of[0] < 163_000 and sizes_of == sorted(sizes_of, reverse=True)
    net = AnimationNet(replace(SIZES["ultralight"], light_maps=kind is LightMapDetector)).eval()
    assert isinstance(net.detector, kind)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.detect(torch.rand(1, 6, 128, 128))
    assert 1e6 < counter.get_total_flops() / 2 < 14.62e6  # Lu and Zheng, Table 1
    found = kind(10, True, 6, 5).eval()(torch.rand(2, 6, 64, 64))
    assert found.position.shape == (2, 10, 2) and torch.allclose(found.jacobian, torch.eye(2).expand(2, 10, 2, 2))
    assert (found.position - anchors(10)).abs().max() < 0.12, "where they are looked for, but for the picture's edges"


def test_keypoints_are_where_their_heat_maps_peak_with_the_jacobians_there() -> None:
    heat, jacobian = torch.zeros(1, 2, 5, 9), torch.randn(1, 8, 5, 9)
    heat[0, 0, 1, 6] = heat[0, 1, 4, 0] = 5.0
    found = from_maps(heat, jacobian, None)
    assert torch.allclose(found.position[0], torch.tensor([[0.5, -0.5], [-1.0, 1.0]]), atol=1e-4)
    assert found.jacobian is not None
    for number, (y, x) in enumerate(((1, 6), (4, 0))):
        assert torch.allclose(found.jacobian[0, number].flatten(), jacobian[0, 4 * number : 4 * number + 4, y, x], atol=1e-4)


def test_settings_that_make_no_network_are_refused() -> None:
    for wrong in (
        {"n_learned": 0},
        {"n_landmarks": 21},
        {"n_learned": 0, "n_landmarks": 20, "jacobians": True},
        {"jacobians": True, "frontal": True},
        {"direct": True},
        {"light_blocks": 9},
    ):
        with pytest.raises(InputError):
            AnimationSettings("wrong", **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not the settings"):
        settings_from("animation", {"name": "x", "depth_of_field": 3})
    net = build(TINY_ANIMATIONS["learned"])
    assert isinstance(net, AnimationNet)
    source = net.source(torch.rand(1, 6, 32, 32), Points(Keypoints(torch.zeros(1, 4, 2))))
    with pytest.raises(InputError, match="2 references"):
        net.reference([source, source])


def test_several_references_are_merged_by_shares_that_sum_to_one() -> None:
    net = tiny_animation(TINY_ANIMATIONS["frontal"])
    pictures = pack_clip(moving_clip(3, 96, 96), slice(None), net.settings.multiple).split(1)
    with torch.no_grad():
        sources = [net.source(p, Points(net.detect(p), FRONT, None, net.express(p))) for p in pictures]
        one, three = net.reference(sources[:1]), net.reference(sources)
    assert one.shares is not None and torch.allclose(one.shares, torch.ones(()))
    assert three.shares is not None and three.shares.shape[1] == 3
    assert torch.allclose(three.shares.sum(1), torch.ones(()), atol=1e-5)
    assert not torch.allclose(one.features[-1], three.features[-1])


def test_each_of_several_pictures_moves_from_its_own_points() -> None:
    net = tiny_animation(TINY_ANIMATIONS["direct"])
    one, target = (Keypoints(torch.rand(1, 37, 2) - 0.5) for _ in range(2))
    with torch.no_grad():
        field = net.motion(torch.rand(1, 6, 32, 32), one, target)
    assert torch.allclose(field.from_source(one, target), field.motion.deformation, atol=1e-5)
    beside = Keypoints(one.position + torch.tensor([0.1, 0.0]))
    shift = field.from_source(beside, target) - field.from_source(one, target)
    assert field.masks is not None and torch.allclose(shift[..., 0], 0.1 * field.masks[:, 1:].sum(1), atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):  # as in training
        assert torch.allclose(field.from_source(one, target), field.motion.deformation, atol=1e-5)
    pictures = torch.rand(2, 1, 6, 48, 48)
    points = [Points(Keypoints(torch.rand(1, 4, 2) - 0.5), 0.9 * FRONT + 0.1 * n) for n in range(2)]
    with torch.no_grad():
        reference = net.reference([net.source(*of) for of in zip(pictures, points, strict=True)])
        at_target = net.moving(points[0])
        field = net.motion(reference.small, reference.points, at_target)
        flows = net._flows(reference, field, at_target)
    for flow, of in zip(flows, points, strict=True):
        assert torch.allclose(flow, field.from_source(net.moving(of), at_target), atol=1e-6)
    assert not torch.allclose(flows[0], flows[1], atol=1e-3)


def test_a_face_that_is_followed_stays_the_same_one() -> None:
    """A stand-in for the fine network finds the dot nearest to the middle of its square; the coarse one, the first dot."""
    net = LandmarkNet(LandmarkSettings("x", widths=(4, 8, 8, 8), n_blocks=1, last=4, expansion=1, passes=2)).eval()
    shape, seen = torch.tensor(FRONTAL)[None], []
    dots = torch.tensor([[40.0, 40.0], [90.0, 88.0]])

    def fine(square: Square, n: int) -> torch.Tensor:
        seen.append(square)
        at = dots[(dots - square.centre).norm(dim=-1).argmin()]
        return square.from_picture(shape * 20 + at)

    picture = torch.zeros(1, 6, 64, 64)
    net._coarse = lambda picture: shape * 20 + dots[0]  # type: ignore[method-assign]
    net._passes = lambda picture, found: [  # type: ignore[method-assign]
        found := square.to_picture(fine(square, 112)) for square in (square_around(found), square_around(found))
    ]
    anew = to_samples(net(picture), 128, 128)
    assert (anew.mean(1) - (shape * 20).mean(1) - dots[0]).norm() < 1
    before = from_samples(shape * 20 + dots[1] + 5.0, 128, 128)
    followed = to_samples(net.follow(picture, before), 128, 128)
    assert (followed.mean(1) - (shape * 20).mean(1) - dots[1]).norm() < 1
    outside = from_samples(shape * 200 + dots[1], 128, 128)
    net._passes = lambda picture, found: [found, found]  # type: ignore[method-assign]
    lost = to_samples(net.follow(picture, outside), 128, 128)
    assert (lost - shape * 20 - dots[0]).norm() < 1, "what has grown beyond the picture is found anew"


# -- streams ---------------------------------------------------------------------------------------------------------


pytestmark = pytest.mark.usefixtures("tiny_weights")


@pytest.mark.parametrize("coder", ["adaptive", "huffman", "prior"])
@pytest.mark.parametrize(
    ("network", "how"),
    [
        ("learned", {"refresh": "rd", "refresh_price": 10.0}),
        ("spade", {"intra_period": 3}),
        ("frontal", {"refresh": "rd", "refresh_price": 1e-6, "sources": 3, "intra_period": 5}),
        ("frontal", {"refresh": "psnr", "threshold_db": 99.0, "sources": 3, "chosen_from": "clip"}),
        ("learned", {"refresh": "rd", "refresh_price": 1e-6, "chosen_from": "clip"}),
    ],
)
def test_a_decoder_has_the_points_and_references_that_its_encoder_means(
    network: str, how: dict[str, Any], coder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = moving_clip(8, 96, 96)
    monkeypatch.setattr("hdac.codecs.source_choice.landmarks_of", lambda *of: turned_faces())
    monkeypatch.setattr("hdac.codecs.point_animator.DOUBT", np.inf)  # a student of random weights jumps all the time
    meant: list[tuple[Values, list[Values]]] = []

    def sent(coder: Any) -> Values:
        symbols = coder.coder.last if isinstance(coder, points._PriorPointEncoder) else coder.last
        found = coder.settings.dequantise(symbols)
        return Values.of(found) if isinstance(found, dict) else found

    for name in ("first", "next"):
        original = getattr(mobile._Sender, name)

        def watched(self, *when, original=original):  # type: ignore[no-untyped-def]
            unit = original(self, *when)
            meant.append((sent(self.coder), [one.values for one in self.animator.sources]))
            return unit

        monkeypatch.setattr(mobile._Sender, name, watched)
    stream = replace(MOBILE, network=f"tiny-{network}", motion_coder=coder, **how).encode(clip)

    decoders, animators, last = [], [], []
    for kind in (points._TableDecoder, points._PriorPointDecoder):
        for name in ("start", "decode"):
            original = getattr(kind, name)

            def noted(self, *given, original=original):  # type: ignore[no-untyped-def]
                last[:] = [original(self, *given)]
                decoders.append(self)
                return last[0]

            monkeypatch.setattr(kind, name, noted)
    animate = PointAnimator.__init__
    monkeypatch.setattr(PointAnimator, "__init__", lambda self, *a, **b: (animators.append(self), animate(self, *a, **b))[0])
    had = [
        (last[0], [one.values for one in animators[0].sources])
        for _ in mobile._tasks(Reader(io.BytesIO(stream)), fine_tune=0, int8=False)
    ]
    assert len(set(map(id, decoders))) == len(animators) == 1
    assert len(had) == len(meant) == clip.n_frames
    for (values_had, rests_had), (values_meant, rests_meant) in zip(had, meant, strict=True):
        assert same(values_had, values_meant) and len(rests_had) == len(rests_meant)
        assert all(map(same, rests_had, rests_meant))
    kinds = [unit.reference[0] for unit in units_of(stream) if unit.reference is not None]
    assert len(kinds) > 1 and (max(kinds) > 1) == ("chosen_from" in how or how.get("sources", 1) > 1)
    assert (max(len(rests) for _, rests in had) > 1) == ("sources" in how)


TURNED = (0.3, 0.1, -0.2, 0.02, 0.4, 0.0, -0.5, 0.2)


def turned_faces() -> Any:
    """Landmarks of eight frames; the eyes are shut in frame 5."""
    faces = np.tile(np.array(FRONTAL, np.float32), (8, 1, 1))
    faces[:, NOSE_TIP, 0] += np.array(TURNED, np.float32) * 0.6
    faces[5][[37, 38, 43, 44]] = faces[5][[41, 40, 47, 46]]
    return faces


@pytest.mark.parametrize("hold", [(0.5, 1.0), (0.0, 2.0)])
def test_a_decoder_is_never_farther_off_than_what_is_held_still(hold: tuple[float, float]) -> None:
    settings = PointSettings(3, 20, hold=hold)
    rng = np.random.default_rng(1)
    coder = points.encoder("adaptive", settings, np.zeros(0, np.uint8), np.zeros((0, 0), np.int32))
    path = rng.uniform(-0.5, 0.5, (23, 2)) + rng.normal(0, 0.4 / settings.step, (200, 23, 2)).cumsum(0)
    given = [Values(learned=one[:3].astype(np.float32), landmarks=one[3:].astype(np.float32)) for one in np.clip(path, -1, 1)]
    coder.start(given[0])
    off = np.zeros((2, len(given)))
    for t, one in enumerate(given[1:], 1):
        _, had = coder.encode(one)
        for number, (a, b) in enumerate(((had.learned, one.learned), (had.landmarks, one.landmarks))):
            assert a is not None and b is not None
            off[number, t] = settings.step * float(np.abs(a - b).max())
    for worst, held in zip(off.max(1), hold, strict=True):
        assert 0.9 * max(held, 0.5) < worst <= max(held, 0.5) + 1e-3
    assert not any([coder.encode(given[-1])[0] for _ in range(3)])
    with_jacobians = PointSettings(1, 0, jacobians=True, hold=hold)
    last, j = [np.zeros((1, 6), np.int32)], np.zeros((1, 2, 2), np.float32)
    for steps, stays in ((0.9 * hold[1], True), (1.1 * hold[1], False)):
        moved = Values(learned=np.full((1, 2), steps / with_jacobians.step, np.float32), jacobians=j)
        assert (not with_jacobians.steady(moved, last)[0].any()) == stays


def test_labels_stay_where_another_one_is_hardly_likelier(monkeypatch: pytest.MonkeyPatch) -> None:
    animator = PointAnimator(by_name("tiny-segface", PointNet), None, 32, True)
    scores = torch.zeros(1, 15, 48, 48)
    scores[:, 3] = 1
    monkeypatch.setattr(animator, "segmenter", lambda packed, side: scores.clone())
    packed = torch.zeros(1, 6, 32, 32)
    assert (labels_in(animator, packed) == 3).all()
    scores[:, 5, :24] = 1 + 0.9 * STAYS
    scores[:, 5, 24:] = 1 + 1.1 * STAYS
    assert (labels_in(animator, packed)[:24] == 3).all() and (labels_in(animator, packed)[24:] == 5).all()


def labels_in(animator: PointAnimator, packed: torch.Tensor) -> Any:
    found = animator._segmented(packed)
    assert found is not None
    return found


def same(a: Values, b: Values) -> bool:
    return all((x is None) == (y is None) and (x is None or np.array_equal(x, y)) for x, y in zip(a, b, strict=True))


def test_further_references_come_where_a_rule_asks_for_them_and_no_more_than_allowed() -> None:
    clip = moving_clip(8, 96, 96)
    codec = replace(MOBILE, network="tiny-frontal", refresh="psnr", threshold_db=99.0, sources=MAX_SOURCES)
    stream = codec.encode(clip)
    kinds = [(unit.reference or b"-")[:1] for unit in units_of(stream)]
    assert systems.decode(stream).n_frames == 8
    assert kinds == [b"\0", b"\1", b"\1"] + [b"-"] * 5
    alone = replace(codec, network="tiny-learned", sources=1)
    assert {(unit.reference or b"-")[:1] for unit in units_of(alone.encode(clip))} == {b"\0"}
    every = replace(codec, intra_period=4, refresh="never", sources=1)
    assert [(unit.reference or b"-")[:1] for unit in units_of(every.encode(clip))] == ([b"\0"] + [b"-"] * 3) * 2


def still_then_another(n_still: int, n_other: int) -> Clip:
    """A picture that stays, then another one that stays."""
    one, other = moving_clip(1, 96, 96), moving_clip(1, 96, 96, seed=2)
    both = zip((one.y, one.u, one.v), (other.y, other.u, other.v), strict=True)
    y, u, v = (np.concatenate([np.repeat(a, n_still, 0), np.repeat(b, n_other, 0)]) for a, b in both)
    return replace(one, y=y, u=u, v=v)


@pytest.mark.parametrize(
    ("network", "low", "high"), [("tiny-frontal", 0.25, 1.0), ("tiny-fomm", 1.0, 4.0), ("tiny-learned", 1.0, 4.0)]
)
def test_a_further_reference_is_sent_once_it_has_paid_for_itself(
    network: str, low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hdac.codecs.point_animator.DOUBT", np.inf)  # a student of random weights jumps all the time
    codec = replace(MOBILE, network=network, refresh="rd", sources=MAX_SOURCES)
    still = units_of(codec.encode(still_then_another(12, 0)))
    assert [t for t, unit in enumerate(still) if unit.reference] == [0], "what has not changed gains nothing"
    clip = still_then_another(4, 20)
    sent = {}
    for price in (low, high):
        units = units_of(replace(codec, refresh_price=price).encode(clip))
        sent[price] = [(t, unit.reference[0]) for t, unit in enumerate(units) if unit.reference]
    assert all(len(found) == 2 and found[1][0] > 4 and found[1][1] == 3 for found in sent.values()), sent
    assert sent[low][1][0] < sent[high][1][0], "a dearer one comes later"
    shown = systems.decode(replace(codec, refresh_price=low).encode(clip))
    assert psnr_y(clip[-1:], shown[-1:]) > psnr_y(clip[4:5], shown[4:5]) + 0.5


def test_of_a_whole_clip_the_pictures_that_pay_are_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdac.codecs.source_choice.landmarks_of", lambda *of: turned_faces()[[3, 3, 3, 3, 4, 4, 4, 4]])
    clip = still_then_another(4, 4)
    codec = replace(MOBILE, network="tiny-fomm", refresh="rd", sources=MAX_SOURCES, chosen_from="clip")
    for price, expected in ((1e-3, [(0, 0), (1, 3)]), (1e6, [(0, 0)])):
        units = units_of(replace(codec, refresh_price=price).encode(clip))
        assert [(t, unit.reference[0]) for t, unit in enumerate(units) if unit.reference] == expected


def test_references_of_other_frames_are_chosen_from_the_whole_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = SourceChoice(turned_faces())
    assert choice.frontal == 3 and choice.extreme(0) == 4 and choice.extreme(2) == 6
    monkeypatch.setattr("hdac.codecs.source_choice.landmarks_of", lambda *of: turned_faces())
    clip = moving_clip(8, 96, 96)
    codec = replace(MOBILE, network="tiny-frontal", refresh="psnr", threshold_db=99.0, sources=MAX_SOURCES, chosen_from="clip")
    for pays, further in ((1e9, 3), (-1e9, 1)):
        monkeypatch.setattr(mobile, "PAYS", pays)
        units = units_of(codec.encode(clip))
        kinds = [unit.reference[0] for unit in units if unit.reference]
        sent = {t for t, unit in enumerate(units) if unit.reference}
        assert kinds[0] == 2 and 2 <= len(kinds) <= MAX_SOURCES
        assert set(kinds[1:]) == {further}, "of the frames that are turned farthest, or of the frames at hand"
        assert 0 in sent and systems.decode(codec.encode(clip)).n_frames == 8


@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize("rule", ["rd", "distance"])
def test_a_reference_is_not_sent_again_while_it_is_there(rule: str, sources: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdac.codecs.source_choice.landmarks_of", lambda *of: turned_faces())
    monkeypatch.setattr(mobile, "MIN_GAP", 1)
    monkeypatch.setattr(mobile, "PAYS", 1e9)
    codec = replace(MOBILE, network="tiny-fomm", refresh=rule, refresh_price=1e-6, tau=1e-6, sources=sources)
    sent, before = [], mobile._Sender._reference
    monkeypatch.setattr(mobile._Sender, "_reference", lambda self, *how: sent.append(how[1]) or before(self, *how))
    replace(codec, chosen_from="clip").encode(moving_clip(8, 96, 96))
    assert sent[0] == 3 and len(sent) > 1
    assert all(a != b for a, b in zip(sent, sent[1:], strict=False))
    if sources == 2:
        assert len(sent) == len(set(sent)) == 2


def test_a_new_reference_comes_where_points_are_far_from_those_of_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = moving_clip(6, 96, 96)
    for tau, gap, sources, n_expected in ((1e-6, 1, 3, 3), (1e6, 1, 3, 1), (1e-6, 3, 3, 2), (1e-6, 2, 1, 3)):
        monkeypatch.setattr(mobile, "MIN_GAP", gap)
        codec = replace(MOBILE, network="tiny-learned", refresh="distance", tau=tau, sources=sources)
        assert sum(unit.reference is not None for unit in units_of(codec.encode(clip))) == n_expected, (tau, gap)
    resting = replace(codec, when_far="rest")
    units = units_of(resting.encode(clip))
    assert all(unit.reference is None and not unit.keypoints for unit in units[1:])
    shown = systems.decode(resting.encode(clip))
    assert np.array_equal(shown.y[1], shown.y[5])


def test_motion_is_played_back_and_forth_where_points_are_far(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [Values(learned=np.full((1, 2), x, np.float32)) for x in (0.1, 0.2, 0.3, 9, 9, 9, 9, 9, 0.4, 9)]
    sender = mobile._Sender.__new__(mobile._Sender)
    sender.codec = replace(MOBILE, refresh="distance", when_far="replay", tau=30.0)
    sender.replay = Replay()
    sender.animator = type("A", (), {"nearest": lambda self, values: Values(learned=np.zeros((1, 2), np.float32))})()  # type: ignore[assignment]
    sent = [round(float(sender._instead(values).learned[0, 0]), 3) for values in said]  # type: ignore[index]
    assert sent == [0.1, 0.2, 0.3, 0.2, 0.1, 0.2, 0.3, 0.2, 0.4, 0.3]
    sender.replay = Replay()
    assert sender._instead(said[3]).learned[0, 0] == 0, "nothing to play: a still face"  # type: ignore[index]


def test_a_network_without_points_has_no_use_for_what_they_decide() -> None:
    for wrong in ({"refresh": "distance"}, {"refresh": "rd", "sources": 2}):
        with pytest.raises(InputError, match="has no points"):
            replace(MOBILE, network="tiny-segface", **wrong).encode(moving_clip(2, 96, 96))


def test_of_several_references_the_nearest_is_animated(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    nearest = PointAnimator._nearest
    monkeypatch.setattr(PointAnimator, "_nearest", lambda self, values: chosen.append(nearest(self, values)) or chosen[-1])
    clip = moving_clip(6, 96, 96)
    back = replace(clip, y=clip.y[[0, 5, 0, 5, 0, 5]], u=clip.u[[0, 5, 0, 5, 0, 5]], v=clip.v[[0, 5, 0, 5, 0, 5]])
    codec = replace(MOBILE, network="tiny-fomm", refresh="psnr", threshold_db=99.0, sources=2)
    systems.decode(codec.encode(back))
    assert chosen[-4:] == [0, 1, 0, 1]


def test_keypoints_are_followed_from_the_reference_that_is_animated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tracked networks, and with references whose own keypoints lie at different places of the same face."""
    shown: list[tuple[int, bool]] = []
    nearest = PointAnimator._nearest

    def watched(self: PointAnimator, values: Values) -> int:
        number = nearest(self, values)
        if values.landmarks is None and values.expression is None and len(self.sources) == 2:
            mine = [np.abs(values.learned - one.values.learned).max() for one in self.sources]  # type: ignore[operator]
            shown.append((number, bool(mine[number] == min(mine))))
        return number

    monkeypatch.setattr(PointAnimator, "_nearest", watched)
    clip = moving_clip(6, 96, 96)
    back = replace(clip, y=clip.y[[0, 5, 0, 5, 0, 5]], u=clip.u[[0, 5, 0, 5, 0, 5]], v=clip.v[[0, 5, 0, 5, 0, 5]])
    codec = replace(MOBILE, network="tiny-learned", refresh="psnr", threshold_db=99.0, sources=2)
    stream = codec.encode(back)
    shown.clear()
    decoded = systems.decode(stream)
    assert [number for number, _ in shown] == [0, 1, 0, 1] and all(near for _, near in shown)
    for t in (2, 4):
        assert psnr_y(back[t : t + 1], decoded[t : t + 1]) > psnr_y(back[1:2], decoded[t : t + 1])


def test_a_frontalizer_follows_the_keypoints_of_its_first_reference() -> None:
    clip, network = moving_clip(6, 96, 96), by_name("tiny-frontal", PointNet)
    students = by_name("tiny-landmarks", LandmarkNet)
    found = []
    for references in ((0,), (0, 5)):
        animator = PointAnimator(network, students, 36, True)
        for n, t in enumerate(references):
            animator.rest_at(animator.refer_to((clip.y[t], clip.u[t], clip.v[t]), beside=n > 0))
        found.append(animator.values((clip.y[4], clip.u[4], clip.v[4])))
    assert np.array_equal(found[0].learned, found[1].learned)  # type: ignore[arg-type]


@pytest.mark.parametrize("network", ["tiny-spade", "tiny-direct", "tiny-nth"])
def test_landmarks_follow_the_picture_and_not_when_they_jump(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are drawn to where they were, as the picture is still; one that is drawn from them says nothing of those that
    jump."""
    clip = moving_clip(1, 96, 96)
    picture = clip.y[0], clip.u[0], clip.v[0]
    moves = {"a little": torch.tensor([0.01, 0.0]), "far": torch.tensor([0.2, 0.1])}
    found = {}
    for name, move in moves.items():
        animator = PointAnimator(by_name(network, PointNet), by_name("tiny-landmarks", LandmarkNet), 36, True)
        animator.rest_at(animator.refer_to(picture))
        at_rest = animator.sources[0].values.landmarks
        monkeypatch.setattr(animator.student, "follow", lambda picture, before, move=move: before + move)
        found[name] = animator.values(picture).landmarks - at_rest  # type: ignore[operator]
        again = animator.values(picture).landmarks - at_rest  # type: ignore[operator]
        assert np.allclose(again, 2 * found[name], atol=1e-3), "it goes on from there"
    assert np.allclose(found["a little"], [0.01 * (1 - STEADY), 0.0], atol=1e-3)
    assert np.allclose(found["far"], moves["far"] if network == "tiny-nth" else 0.0, atol=1e-3)


def test_what_a_reference_of_another_frame_loses_is_counted_of_that_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what the animated frame loses, with which it is sent."""
    monkeypatch.setattr("hdac.codecs.source_choice.landmarks_of", lambda *of: turned_faces())
    monkeypatch.setattr(mobile, "PAYS", 1e9)
    floors: list[float] = []
    refreshed = Refresh.refreshed

    def watched(self: Refresh, source: Planes, shown: Planes, bits: int) -> None:
        refreshed(self, source, shown, bits)
        floors.append(self.floor)

    monkeypatch.setattr(Refresh, "refreshed", watched)
    clip = moving_clip(8, 96, 96)
    replace(MOBILE, qp=20, refresh="psnr", threshold_db=99.0, sources=3, chosen_from="clip").encode(clip)
    assert len(floors) >= 2 and max(floors) / clip.y[0].size < 20


def test_statistics_are_learnt_at_the_codecs_own_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdac.codecs.point_animator.by_name", lambda name, kind: by_name(f"tiny-{name}", kind))
    write_clip(moving_clip(8, 96, 96), tmp_path / "clip.y4m")
    path = tmp_path / "mine.safetensors"
    shutil.copy(weights.find("tiny-learned"), path)
    assert train(["tables", str(path), str(tmp_path / "clip.y4m")]) == 0
    network = of_kind(load(path), PointNet)
    clip = values(network, tmp_path / "clip.y4m")
    s = network.net.settings
    per_step = {
        step: learn_lengths([displacements(clip, PointSettings(s.n_learned, 0, step=step))]).tolist() for step in (64, 128)
    }
    assert per_step[Mobile.step] == network.net.huffman.tolist() != per_step[128]
    assert int(network.net.prior.sum(-1).min()) == 65536


def test_keypoints_that_are_followed_have_no_jacobians() -> None:
    with pytest.raises(InputError, match="no Jacobians"):
        AnimationSettings("wrong", jacobians=True)


@pytest.mark.parametrize("network", ["tiny-nth", "tiny-spade", "tiny-frontal"])
def test_fine_tuning_brings_a_network_nearer_to_its_references(network: str) -> None:
    clip = moving_clip(4, 96, 96)
    stream = replace(MOBILE, network=network, qp=20).encode(clip)
    plain, fitted = systems.decode(stream), decode_mobile(stream, 30)
    assert np.array_equal(plain.y[0], fitted.y[0])  # a reference is shown as it is
    errors = [float(np.abs(shown.y[1].astype(int) - clip.y[0]).mean()) for shown in (plain, fitted)]
    assert errors[1] < errors[0] - 0.1


def test_fine_tuning_that_cannot_be_is_refused() -> None:
    clip = moving_clip(2, 96, 96)
    of_maps = replace(MOBILE, network="tiny-segface").encode(clip)
    several = replace(MOBILE, network="tiny-fomm", refresh="psnr", threshold_db=99.0, sources=2).encode(moving_clip(5, 96, 96))
    assert decode_mobile(several, fine_tune=2).n_frames == 5  # each of its references by itself
    for stream, steps, said in (
        (of_maps, 3, "label maps"),
        (MOBILE.encode(clip), -1, "-1 steps"),
        (MOBILE.encode(clip), 10**6, "1000000 steps"),
        (Dac(qp=40, network="tiny", refresh="never").encode(clip), 3, "networks of dac"),
    ):
        with pytest.raises((InputError, BitstreamError), match=said):
            decode_mobile(stream, steps)


def test_polygons_are_seen_in_the_picture() -> None:
    codec = replace(MOBILE, network="tiny-spade")
    net = tiny_animation(TINY_ANIMATIONS["spade"])
    picture = pack_clip(moving_clip(1, 96, 96), slice(None), net.settings.multiple)
    labels = torch.from_numpy(label_map(np.array(FRONTAL, np.float32), 48, 48))[None]
    known = condition(None, torch.tensor([30.0]), torch.tensor([1.0]))
    with torch.no_grad():
        reference = net.reference([net.source(picture, Points(None, FRONT))])
        with_face, without = (net(reference, Points(None, FRONT, m), known).picture for m in (labels, torch.zeros_like(labels)))
    changed = (with_face - without).abs().amax(1)[0] > 0
    assert changed[labels[0] > 0].float().mean() > 0.5 and not changed[:4].any()
    assert systems.decode(codec.encode(moving_clip(3, 96, 96))).n_frames == 3


@pytest.mark.parametrize("coder", ["adaptive", "prior"])
def test_units_that_no_encoder_writes_are_refused(coder: str) -> None:
    stream = replace(MOBILE, motion_coder=coder).encode(moving_clip(4, 96, 96))
    first, *rest = units_of(stream)
    picture = (first.reference or b"")[1:]
    for wrong, match in (
        ([replace(first, reference=b"\1" + picture), *rest], "further reference"),
        ([replace(first, reference=b"\4" + picture), *rest], "reference layer"),
        ([replace(first, reference=b"\2" + picture, keypoints=None), *rest], "parit|without points"),
        ([replace(first, reference=b"\3" + picture), *rest], "further reference"),
        ([first, replace(rest[0], keypoints=None, reference=b"\0" + picture), *rest[1:]], "parities"),
        ([rest[0], first, *rest[1:]], "in front of"),
        ([replace(first, keypoints=(first.keypoints or b"") + b"\0"), *rest], "parit|does not send"),
    ):
        with pytest.raises(BitstreamError, match=match):
            systems.decode(rewritten(stream, wrong))


def test_settings_that_cannot_be_coded_are_refused() -> None:
    for wrong in (
        *({"sources": n} for n in (0, 2, 4)),
        {"motion_coder": "arithmetic"},
        {"step": 100},
        {"refresh": "always"},
        *({"hold": hold} for hold in ((-0.1, 1.0), (0.5, 5.0))),
        {"refresh": "distance", "when_far": "rest", "sources": 2},
        {"refresh": "distance", "when_far": "replay", "sources": 2},
    ):
        with pytest.raises(InputError):
            replace(MOBILE, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Jacobians"):
        replace(MOBILE, network="tiny-fomm", motion_coder="huffman").encode(moving_clip(2, 96, 96))
    with pytest.raises(InputError, match="not of a PointNet"):
        replace(MOBILE, network="tiny").encode(moving_clip(2, 96, 96))
