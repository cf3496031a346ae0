"""Pictures too large for the networks; with a face, with three, with none; a scene cut: coded as the rule says."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from baselines.bits import write_ue7
from data.clip import Clip
from data.crop import Box
from data.errors import BitstreamError
from hdac import network, systems, weights
from hdac.codecs import face_box, hdac
from hdac.codecs.animator import Animator, Reference
from hdac.codecs.base_layer import Planes
from hdac.codecs.dac import Dac
from hdac.codecs.hdac import Hdac
from hdac.codecs.layered import LayeredCodec
from hdac.codecs.mobile import Mobile
from hdac.container import FULL, LayeredHeader, Reader
from hdac.nets.hybrid import HybridNet
from tests.clips import moving_clip, psnr_y
from tests.hdac.nets import save_tiny, tiny_net

HYBRID = Hdac(qp=40, network="tiny", preset="ultrafast", i_offset=12, lean=True)
MOBILE = Mobile(
    qp=44, network="tiny-learned", landmark_network="tiny-landmarks", segmentation_network="tiny-segmentation"
)
CODECS: list[LayeredCodec] = [
    HYBRID,
    replace(Hdac.paper(38, intra_period=2), preset="ultrafast", network="tiny"),
    Dac(qp=44, network="tiny", refresh="never"),
    MOBILE,
    replace(MOBILE, network="tiny-frontal"),
    replace(MOBILE, network="tiny-nth"),
]
by_label = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.label)


@pytest.fixture(autouse=True)
def _tiny_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDAC_WEIGHTS", str(tmp_path))
    save_tiny(tmp_path)
    network.save(tiny_net(correction=0.0), tmp_path / "zero.safetensors", {})


def head(scale: int = 1) -> NDArray[np.uint8]:
    """Head and shoulders of NASA's portrait of Eileen Collins, (300, 260, 3) divided by `scale`."""
    return np.ascontiguousarray(skimage.data.astronaut()[0:300:scale, 100:360:scale])


FACE = (124, 108)
"""Centre (x, y) of the face in `head`; it is about 100 wide and high."""


def wall(*heads: tuple[NDArray[np.uint8], int, int], size: tuple[int, int] = (640, 480), n_frames: int = 3) -> Clip:
    """Heads, each with the column and row of its corner, on a grey wall of (width, height); they move 2 pixels a frame."""
    frames = np.full((n_frames, size[1], size[0], 3), 90, np.uint8)
    for t in range(n_frames):
        for picture, x, y in heads:
            frames[t, y : y + picture.shape[0], x + 2 * t : x + 2 * t + picture.shape[1]] = picture
    return Clip.from_rgb(frames, Fraction(25))


def header_of(stream: bytes) -> LayeredHeader:
    return Reader(io.BytesIO(stream)).header


def joined(*clips: Clip) -> Clip:
    y, u, v = (np.concatenate([getattr(clip, plane) for clip in clips]) for plane in "yuv")
    return Clip(y, u, v, clips[0].fps)


def still(n_frames: int, seed: int, width: int = 96, height: int = 96) -> Clip:
    return joined(*[moving_clip(1, width, height, seed=seed)] * n_frames)


# -- where the box is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(256, 256), (352, 288), (512, 256), (301, 333)])
def test_pictures_that_networks_see_whole_have_no_box(size: tuple[int, int]) -> None:
    assert face_box.find(moving_clip(2, *size)) is None


def test_the_box_is_a_square_that_holds_the_face_in_every_frame() -> None:
    clip = wall((head(), 300, 120), n_frames=12)
    box = face_box.find(clip)
    assert box is not None and box.width == box.height >= 256
    for t in (0, 11):
        x, y = 300 + FACE[0] + 2 * t, 120 + FACE[1]
        assert box.x <= x - 50 and x + 50 <= box.x + box.width and box.y <= y - 50 and y + 50 <= box.y + box.height


def test_of_three_faces_the_largest_has_the_box() -> None:
    clip = wall((head(2), 10, 10), (head(), 190, 170), (head(2), 470, 40))
    box = face_box.find(clip)
    assert box is not None
    assert abs(box.x + box.width / 2 - (190 + FACE[0])) < 30 and abs(box.y + box.height / 2 - (170 + FACE[1])) < 30


def test_of_two_faces_alike_one_has_the_box_not_the_gap_between_them() -> None:
    box = face_box.find(wall((head(), 20, 60), (head(), 420, 60), size=(720, 480), n_frames=6))
    assert box is not None
    assert min(abs(box.x + box.width / 2 - (left + FACE[0])) for left in (20, 420)) < 40


@pytest.mark.parametrize(("size", "expected"), [((640, 481), Box(80, 0, 480, 480)), ((483, 642), Box(0, 80, 482, 482))])
def test_without_a_face_it_is_the_largest_square_in_the_middle(size: tuple[int, int], expected: Box) -> None:
    assert face_box.find(wall(size=size)) == expected


def test_the_box_does_not_depend_on_the_detectors_that_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = wall((head(), 300, 120))
    monkeypatch.delenv("HDAC_METRIC_WEIGHTS", raising=False)
    without = face_box.find(clip)
    (tmp_path / "face_detect").mkdir()
    (tmp_path / "face_detect" / "yunet_n_dynamic.onnx").write_bytes(b"would be loaded, and fail")
    monkeypatch.setenv("HDAC_METRIC_WEIGHTS", str(tmp_path))
    assert face_box.find(clip) == without is not None


# -- streams -----------------------------------------------------------------------------------------------------------


@by_label
@pytest.mark.parametrize("size", [(641, 483), (480, 577)])
def test_large_pictures_of_any_size_come_back_with_every_byte_accounted_for(
    codec: LayeredCodec, size: tuple[int, int]
) -> None:
    clip = wall((head(), 160, 120), size=size)
    stream = codec.encode(clip)
    decoded = systems.decode(stream)
    assert decoded.y.shape == clip.y.shape and decoded.u.shape == clip.u.shape
    assert sum(systems.ledger(stream).totals.values()) == len(stream)
    assert header_of(stream).face_box == face_box.find(clip) is not None
    assert codec.encode(clip) == stream


@pytest.mark.parametrize("codec", [CODECS[0], CODECS[2]], ids=["hdac", "dac"])
def test_networks_never_see_more_than_512_a_side(codec: LayeredCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    forward, refer = HybridNet.forward, HybridNet.reference

    def watched_forward(self, reference, target, base, *rest, **more):  # type: ignore[no-untyped-def]
        seen.append(tuple(reference.picture.shape[-2:]))
        if base is not None:
            seen.append(tuple(base.shape[-2:]))
        return forward(self, reference, target, base, *rest, **more)

    def watched_reference(self, picture):  # type: ignore[no-untyped-def]
        seen.append(tuple(picture.shape[-2:]))
        return refer(self, picture)

    monkeypatch.setattr(HybridNet, "forward", watched_forward)
    monkeypatch.setattr(HybridNet, "reference", watched_reference)
    clip = moving_clip(2, 1919, 1079)
    stream = codec.encode(clip)
    seen.clear()
    assert systems.decode(stream).y.shape == clip.y.shape
    assert header_of(stream).face_box == Box(420, 0, 1078, 1078)
    assert seen and set(seen) == {(256, 256)}  # packed: of 512x512


@pytest.mark.parametrize("network", ["tiny-frontal", "tiny-nth", "tiny-bilayer", "tiny-segface"])
def test_what_a_network_draws_is_seen_in_a_box_that_it_sees_smaller(network: str) -> None:
    clip = moving_clip(3, 1300, 1100)
    decoded = systems.decode(replace(MOBILE, network=network).encode(clip))
    inside, outside = (slice(1, 3), slice(300, 800), slice(400, 900)), (slice(1, 3), slice(None), slice(0, 60))
    assert np.abs(decoded.y[inside].astype(int) - decoded.y[0][inside[1:]]).mean() > 1
    assert (decoded.y[outside] == decoded.y[0][outside[1:]]).all()
    coarse = decoded.y[1][inside[1:]].reshape(50, 10, 50, 10).mean((1, 3))  # a picture, not what two of them differ by
    assert coarse.std() > 0.1 and abs(coarse.mean() - 128) < 100


@by_label
def test_damage_is_an_error_and_nothing_else(codec: LayeredCodec) -> None:
    stream = replace(codec, checksum_interval=50).encode(moving_clip(2, 512, 300))
    rng = random.Random(4)
    header = len(header_of(stream).pack())
    for position in [*range(header), *(rng.randrange(header, len(stream)) for _ in range(10))]:
        damaged = bytearray(stream)
        damaged[position] ^= 1 << rng.randrange(8)
        with pytest.raises(BitstreamError):
            systems.decode(bytes(damaged))


@pytest.mark.parametrize("numbers", [(0, 0, 16, 16), (200, 0, 100, 100), (0, 100, 90, 90), (1 << 30, 0, 64, 64)])
def test_a_box_that_cannot_be_is_refused(numbers: tuple[int, ...]) -> None:
    stream = Dac(qp=44, network="tiny").encode(moving_clip(1, 512, 300))
    header = header_of(stream)
    behind = len(header.pack())
    box = header.face_box
    assert box is not None
    sent = b"".join(write_ue7(number // 2) for number in (box.x, box.y, box.width, box.height))
    assert stream[:behind].endswith(sent)
    with pytest.raises(BitstreamError, match="face box|not inside"):
        Reader(io.BytesIO(stream[: behind - len(sent)] + b"".join(map(write_ue7, numbers)) + stream[behind:]))


# -- composition -------------------------------------------------------------------------------------------------------


def flat(level: int, width: int, height: int) -> Planes:
    chroma = (height + 1) // 2, (width + 1) // 2
    return np.full((height, width), level, np.uint8), np.full(chroma, level, np.uint8), np.full(chroma, level, np.uint8)


@pytest.mark.parametrize("levels", [(100, 180), (180, 100), (0, 255)])
def test_there_is_no_seam(levels: tuple[int, int]) -> None:
    around, inside = levels
    box = Box(20, 12, 64, 64)
    for whole, part in zip(face_box.compose(flat(around, 101, 91), flat(inside, 64, 64), box), (1, 2, 2), strict=True):
        row = whole[(12 + 32) // part].astype(int)
        steps = np.diff(row)
        assert row[0] == row[-1] == around and row[(20 + 32) // part] == inside
        assert np.abs(steps).max() <= np.ceil(abs(inside - around) * part / face_box.FEATHER)
        rise = steps[: (20 + 32) // part]
        assert (rise * np.sign(inside - around) >= 0).all()  # straight from one to the other
        assert np.count_nonzero(whole != around) <= 64 * 64 / part**2


def test_at_the_edges_of_the_picture_nothing_is_faded() -> None:
    y, u, v = face_box.compose(flat(10, 80, 70), flat(200, 80, 70), Box(0, 0, 80, 70))
    assert (y == 200).all() and (u == 200).all() and (v == 200).all()


def test_what_does_not_change_stays_bit_by_bit_and_the_picture_around_is_not_written_to() -> None:
    clip, box = moving_clip(1, 131, 117), Box(10, 20, 64, 72)
    planes: Planes = (clip.y[0], clip.u[0], clip.v[0])
    before = [plane.copy() for plane in planes]
    same = face_box.compose(planes, face_box.cut(planes, box), box)
    face_box.compose(planes, flat(3, 64, 72), box)
    for a, b, c in zip(same, before, planes, strict=True):
        assert np.array_equal(a, b) and np.array_equal(b, c)


# -- H-DAC -------------------------------------------------------------------------------------------------------------


def fused_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdac._LeastError, "__call__", lambda *_: FULL)


def base_of(codec: Hdac, clip: Clip) -> Clip:
    return codec.base_encoder.decode(codec.base_encoder.encode(clip))


def test_outside_of_the_box_the_base_layer_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    fused_always(monkeypatch)
    clip = wall((head(), 160, 120), size=(643, 485))
    stream = HYBRID.encode(clip)
    shown, base, box = systems.decode(stream), base_of(HYBRID, clip), header_of(stream).face_box
    assert box is not None
    for part, name in ((1, "y"), (2, "u"), (2, "v")):
        changed = np.argwhere((getattr(shown, name) != getattr(base, name)).any(0)) * part
        assert len(changed) and (changed >= (box.y, box.x)).all() and (changed < (box.y + box.height, box.x + box.width)).all()


@pytest.mark.parametrize("size", [(520, 300), (801, 701)])
def test_a_network_without_correction_leaves_the_base_layer_bit_by_bit(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    fused_always(monkeypatch)
    codec, clip = replace(HYBRID, network="zero"), moving_clip(2, *size)
    assert systems.decode(codec.encode(clip)).sha256() == base_of(codec, clip).sha256()


def test_hdac_is_never_worse_than_its_base_layer() -> None:
    for seed, size in ((0, (520, 300)), (2, (640, 530))):
        save_tiny(weights.folders()[0], f"seed{seed}", seed)
        codec, clip = replace(HYBRID, network=f"seed{seed}"), moving_clip(3, *size)

        def squared_error(shown: Clip, clip: Clip = clip) -> float:
            return sum(float(((getattr(clip, p).astype(float) - getattr(shown, p)) ** 2).sum()) for p in "yuv")

        assert squared_error(systems.decode(codec.encode(clip))) <= squared_error(base_of(codec, clip))


@dataclass(frozen=True)
class Fixed:
    """In place of what the networks give."""

    full: Planes
    base: Planes

    def at(self, strength: int = FULL) -> Planes:
        y, u, v = (
            np.clip(np.rint(b + (f.astype(float) - b) * strength / FULL), 0, 255).astype(np.uint8)
            for f, b in zip(self.full, self.base, strict=True)
        )
        return y, u, v


def test_looks_are_compared_inside_of_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks clearly worse than the base layer there is not shown because it is the same everywhere else."""
    codec, clip = replace(HYBRID, best_look=True), moving_clip(2, 1200, 400)
    box, frames = Box(400, 0, 400, 400), iter(range(2))
    whole, inside = [], []

    def show(self: Animator, reference: object, base: Planes, *_: object) -> Fixed:
        t = next(frames)
        y, u, v = base[0].copy(), base[1], base[2]
        y[:30, 500:528] = 128
        for ratios, part in ((whole, None), (inside, box)):
            source = face_box.cut((clip.y[t], clip.u[t], clip.v[t]), part)
            worse, better = (hdac._dissimilarity(source, face_box.cut(shown, part)) for shown in ((y, u, v), base))
            ratios.append(worse / better)
        return Fixed((y, u, v), base)

    monkeypatch.setattr(Animator, "_unrounded", show)
    monkeypatch.setattr(hdac, "at_once", lambda: 1)  # one by one: they are counted
    stream = codec.encode(clip)
    assert header_of(stream).face_box == box
    assert max(whole) < hdac.TOLERATED < min(inside), (whole, inside)
    assert not any(received.unit.strength for received in Reader(io.BytesIO(stream)).units())


def test_at_a_scene_cut_the_base_layer_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network that shows the fine reference again, which is right until the cut and wrong from there on."""

    def show(self: Animator, reference: Reference, base: Planes, *_: object) -> Fixed:
        return Fixed(reference.planes, base)

    monkeypatch.setattr(Animator, "_unrounded", show)
    codec = replace(HYBRID, qp=48, i_offset=0, reference_qp=20)
    clip = joined(still(4, seed=1), still(4, seed=2))
    stream = codec.encode(clip)
    fused = [received.unit.strength > 0 for received in Reader(io.BytesIO(stream)).units()]
    assert fused == [False, True, True, True, False, False, False, False]
    shown, base = systems.decode(stream), base_of(codec, clip)
    assert np.array_equal(shown.y[4:], base.y[4:]) and psnr_y(clip[:4], shown[:4]) > psnr_y(clip[:4], base[:4]) + 3


# -- DAC ---------------------------------------------------------------------------------------------------------------


def test_outside_of_the_box_the_reference_is_shown() -> None:
    clip = wall((head(), 160, 120), size=(643, 485))
    stream = Dac(qp=40, network="tiny", refresh="never").encode(clip)
    shown, box = systems.decode(stream), header_of(stream).face_box
    assert box is not None
    changed = np.argwhere(shown.y[2] != shown.y[0])
    assert len(changed) and (changed >= (box.y, box.x)).all() and (changed < (box.y + box.height, box.x + box.width)).all()


def test_a_large_reference_is_animated_at_its_full_size() -> None:
    """A still picture of fine texture, whose box the network sees reduced, keeps its texture."""
    noise = np.random.default_rng(3).integers(60, 200, (560, 570, 3)).astype(np.uint8)
    clip = Clip.from_rgb(np.stack([noise, noise]), Fraction(25))
    shown = systems.decode(Dac(qp=20, network="zero", refresh="never").encode(clip))
    difference = shown.y[1].astype(int) - shown.y[0]
    assert shown.y[0].std() > 10 and np.abs(difference).mean() < 1


@pytest.mark.parametrize("rule", ["rd", "psnr", "never"])
@pytest.mark.parametrize("size", [(96, 96), (520, 300)])
def test_at_a_scene_cut_adaptive_refresh_sends_a_new_reference(rule: str, size: tuple[int, int]) -> None:
    clip = joined(still(2, 1, *size), still(2, 2, *size))
    codec = Dac(qp=28, network="zero", refresh=rule, threshold_db=30)
    stream = codec.encode(clip)
    sent = [t for t, size_bytes in enumerate(systems.ledger(stream).layers["reference"]) if size_bytes > 1]
    shown = systems.decode(stream)
    assert sent == ([0] if rule == "never" else [0, 2])
    assert shown.n_frames == 4 and (psnr_y(clip[2:], shown[2:]) > 30) == (rule != "never")
