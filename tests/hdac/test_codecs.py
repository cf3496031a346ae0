"""The layered codecs around a tiny network: bytes out, the encoder's own frames back, in a fresh process, or an error."""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.conventional import X265
from baselines.stills import WEIGHTS_VARIABLE
from data.clip import Clip, Colour
from data.errors import BitstreamError, CodecUnavailable, InputError, WeightsMismatch
from data.sequences import resolve
from hdac import network, systems, weights
from hdac.codecs import face_vid2vid, hdac, residual
from hdac.codecs.animator import Animator
from hdac.codecs.base_layer import BasePicture, Planes
from hdac.codecs.dac import Dac
from hdac.codecs.face_animator import FaceAnimator
from hdac.codecs.face_vid2vid import FADES, FaceVid2Vid
from hdac.codecs.hdac import Hdac
from hdac.codecs.layered import I_OFFSETS, TRIAL_PRICE, BaseLayerCodec, LayeredCodec, lagrange_multiplier
from hdac.codecs.mobile import Mobile
from hdac.codecs.refresh import PRICE, Refresh
from hdac.codecs.residual import ResidualCoder
from hdac.codecs.stripped import HevcStripped
from hdac.codecs.view import View
from hdac.container import Reader, Unit, Writer
from hdac.decoder import decode_tolerant, frames
from hdac.nets.hybrid import HybridNet
from hdac.nets.vid2vid import Vid2VidNet
from hdac.range_coder import RangeEncoder
from rd.cache import stream_key
from tests.clips import moving_clip, psnr_y
from tests.hdac.make_golden import source
from tests.hdac.nets import BENT, save_random_learned, save_tiny, tiny_face_net, tiny_net, trained_residual_net
from tests.hdac.streams import rewritten, units_of, written

pytestmark = pytest.mark.usefixtures("tiny_weights", "residuals_always_sent")

HYBRID = Hdac(qp=40, network="tiny", preset="ultrafast", i_offset=12, lean=True)
FACE = FaceVid2Vid(qp=40, network="tiny-tracked", residual_network="tiny-residual")
MOBILE = Mobile(qp=40, network="tiny-learned", landmark_network="tiny-landmarks", segmentation_network="tiny-segmentation")
CODECS: list[LayeredCodec] = [
    MOBILE,
    replace(MOBILE, network="tiny-fomm", refresh="rd", intra_period=4),
    replace(MOBILE, network="tiny-fomm", refresh="psnr", threshold_db=99.0, sources=2, motion_coder="prior"),
    replace(MOBILE, network="tiny-light", best_look=False, step=64),
    replace(MOBILE, network="tiny-spade", motion_coder="huffman"),
    replace(MOBILE, network="tiny-spade", intra_period=3),
    replace(MOBILE, network="tiny-frontal", refresh="rd", refresh_price=0.01, sources=3),
    replace(MOBILE, network="tiny-frontal", motion_coder="prior"),
    replace(MOBILE, network="tiny-direct", refresh="psnr", threshold_db=99.0, sources=3),
    replace(MOBILE, network="tiny-frontal", refresh="distance", tau=1e-4, sources=2, chosen_from="clip", motion_coder="prior"),
    replace(MOBILE, network="tiny-nth", sources=2, refresh="psnr", threshold_db=99.0),
    replace(MOBILE, network="tiny-bilayer", motion_coder="huffman"),
    replace(MOBILE, network="tiny-segface", intra_period=4),
    replace(MOBILE, network="tiny-segface", intra_period=3, chosen_from="clip"),
    replace(MOBILE, network="tiny-frontal", refresh="psnr", threshold_db=99.0, sources=2, chosen_from="clip"),
    HevcStripped(qp=40, preset="ultrafast"),
    HYBRID,
    replace(HYBRID, send_keypoints=True, intra_period=4),
    replace(HYBRID, best_look=True),
    replace(Hdac.paper(38, intra_period=4), preset="ultrafast", network="tiny", checksum_interval=5),
    Dac(qp=40, network="tiny", refresh="never"),
    Dac(qp=40, network="tiny", refresh="rd", intra_period=4),
    Dac(qp=40, network="tiny", refresh="psnr", best_look=True),
    HevcStripped(qp=40, preset="ultrafast", base_every=2, base_half=True),
    replace(HYBRID, base_every=3, base_half=True, send_keypoints=True, checksum_interval=3),
    replace(HYBRID, base_every=2, base_codec="vvc", preset="faster", intra_period=4),
    replace(HYBRID, base_every=2, reference_qp=38, reference_codec="vvc", always_fused=True, base_half=True),
    Dac(qp=40, network="tiny", refresh="never", reference_codec="vvc"),
    Dac(qp=40, network="tiny-heeding", refresh="never", residual=True, residual_network="tiny-residual"),
    replace(HYBRID, residual=True, residual_network="tiny-residual"),
    replace(HYBRID, residual=True, residual_network="tiny-residual", send_keypoints=True, base_every=2, intra_period=4),
    replace(HYBRID, residual=True, residual_network="tiny-residual", send_keypoints=True, reference_qp=38, always_fused=True),
    FACE,
    replace(FACE, network="tiny-face", step=64),
    replace(FACE, motion_coder="paper", keypoints=3),
    replace(FACE, residual="rd", refresh="rd"),
    replace(FACE, residual="period", intra_period=2, best_look=False),
]
by_label = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.label)


@by_label
@pytest.mark.parametrize(("n_frames", "width", "height"), [(7, 96, 96), (1, 96, 96), (3, 99, 81)])
def test_streams_keep_size_count_and_rate_and_account_for_every_byte(
    codec: LayeredCodec, n_frames: int, width: int, height: int
) -> None:
    clip = moving_clip(n_frames, width, height)
    stream = codec.encode(clip)
    decoded = systems.decode(stream)
    assert decoded.y.shape == clip.y.shape and decoded.u.shape == clip.u.shape and decoded.fps == clip.fps
    assert sum(systems.ledger(stream).totals.values()) == len(stream)
    assert codec.encode(clip) == stream


WITH_RESIDUALS = pytest.mark.parametrize("codec", [c for c in CODECS if "residual" in c.label], ids=lambda codec: codec.label)


@WITH_RESIDUALS
def test_encoder_and_decoder_enhance_the_same_pictures(codec: LayeredCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    before, results = ResidualCoder.enhanced, []

    def seen(self: ResidualCoder, shown: Planes, sent: residual.Residual) -> Planes:
        results.append(before(self, shown, sent))
        return results[-1]

    monkeypatch.setattr(ResidualCoder, "enhanced", seen)
    stream = codec.encode(moving_clip(6, 96, 96))
    tried = {planes[0].tobytes() for planes in results}
    results.clear()
    systems.decode(stream)
    assert results and {planes[0].tobytes() for planes in results} <= tried


@WITH_RESIDUALS
def test_residuals_are_sent_change_the_picture_and_are_the_next_reference(codec: LayeredCodec) -> None:
    clip = moving_clip(6, 96, 96)
    stream = codec.encode(clip)
    units = units_of(stream)
    sent = [t for t, unit in enumerate(units) if unit.residual is not None]
    assert sent and all(len(units[t].residual or b"") > 20 for t in sent)
    shown = systems.decode(stream)
    empty = bytes((0,)) + RangeEncoder().frame_bytes()
    without = systems.decode(rewritten(stream, (replace(u, residual=empty if u.residual else None) for u in units)))
    same = [np.array_equal(shown.y[t], without.y[t]) for t in range(6)]
    assert all(same[: sent[0]]) and not same[sent[0]]


def test_motion_of_face_vid2vid_is_sent_and_fewer_deformations_where_they_do_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_vid2vid, "TRY_EVERY", 1)
    clip = moving_clip(12, 96, 96)
    plain = replace(FACE, network="tiny-face")  # where flow is followed, every deformation pays
    for codec in (plain, replace(plain, motion_coder="paper")):
        chosen, whole = (units_of(replace(codec, keypoints=k).encode(clip)) for k in (None, 6))
        sizes, of_all = ([len(unit.keypoints or b"") for unit in units[1:]] for units in (chosen, whole))
        assert sum(size > 3 for size in of_all) > 6 and sum(sizes) < sum(of_all)


@pytest.mark.parametrize("residual", ["period", "never"])
def test_a_switch_of_face_vid2vid_takes_some_frames_and_a_scene_cut_none(residual: str) -> None:
    clip = moving_clip(7, 96, 96)
    codec = replace(FACE, qp=48, residual=residual, intra_period=4, keypoints=6)
    streams = {n: replace(codec, fade=n).encode(clip) for n in FADES}
    assert len({len(stream) for stream in streams.values()}) == 1  # it takes no bytes
    at_once, two = (systems.decode(streams[n]).y.astype(int) for n in (0, 2))
    assert np.array_equal(at_once[:4], two[:4]) and np.array_equal(at_once[6], two[6])
    assert not np.array_equal(at_once[4], two[4]) and not np.array_equal(at_once[5], two[5])
    before = at_once[4] + (two[4] - at_once[4]) * 1.5  # two[4] is a third of at_once[4] and two thirds of it
    assert -1 < before.min() and before.max() < 256
    if codec.residual == "period":  # what an empty residual shows is what was there before
        empty = bytes((0,)) + RangeEncoder().frame_bytes()
        units = (replace(u, residual=u.residual and empty) for u in units_of(streams[0]))
        assert np.abs(systems.decode(rewritten(streams[0], units)).y[4] - before).max() <= 0.75
    y = clip.y.copy()
    y[4:] = 255 - y[4:, ::-1]
    cut = replace(codec, qp=36, fade=4, residual="never").encode(replace(clip, y=y))
    assert [unit.strength for unit in units_of(cut)] == [2] * 4 + [0] + [2] * 2


def test_frames_that_are_wanted_are_seen_from_elsewhere_as_among_all() -> None:
    codec = replace(FACE, residual="period", intra_period=2)
    clip = moving_clip(6, 96, 96)
    stream = codec.encode(clip)
    turned, own = View((15.0, 0.0, 0.0)), systems.decode(stream)
    whole, some = codec.decode_view(stream, turned), codec.decode_view(stream, turned, [1, 4])
    assert whole.n_frames == 6 and np.array_equal(some.y, whole.y[[1, 4]]) and np.array_equal(some.v, whole.v[[1, 4]])
    assert not np.array_equal(whole.y, own.y) and np.array_equal(codec.decode_view(stream, View()).y, own.y)
    with pytest.raises(InputError, match="6"):
        codec.decode_view(stream, turned, [6, 9])


def test_a_switch_is_faded_when_seen_from_elsewhere_too() -> None:
    codec = replace(FACE, qp=48, intra_period=3, keypoints=6)
    clip, turned = moving_clip(6, 96, 96), View((15.0, 0.0, 0.0))
    at_once, two = (codec.decode_view(replace(codec, fade=n).encode(clip), turned).y.astype(int) for n in (0, 2))
    assert [np.array_equal(a, b) for a, b in zip(at_once, two, strict=True)] == [True] * 3 + [False] * 2 + [True]


def test_at_cuts_only_a_frame_far_worse_than_those_before_it_wants_a_new_reference() -> None:
    rule = Refresh("cut", 40, 33.0, PRICE)
    black: Any = tuple(np.zeros(shape, np.uint8) for shape in ((64, 64), (32, 32), (32, 32)))

    def wants_new(db: float) -> bool:
        return rule.wants_new(black, 255.0**2 * 64 * 64 / 10 ** (db / 10))

    rule.refreshed(black, black, 1000)
    assert not any(wants_new(db) for db in (25, 24, 26, 21, 18, 15, 12))  # however much worse it gets, little by little
    assert wants_new(3)
    rule.refreshed(black, black, 1000)
    assert not wants_new(24) and wants_new(11)


def test_an_old_reference_is_faded_out_where_the_face_has_gone() -> None:
    """The shipped network: the points of the new reference are followed into the old one, which shows its frame as well as if
    its own points had been tracked."""
    clip = resolve(["sample/occluder"], frames=31)[0].load()
    before, now = ((clip.y[t], clip.u[t], clip.v[t]) for t in (0, 30))
    size = clip.height, clip.width
    animator = FaceAnimator(network.by_name("face-vid2vid", Vid2VidNet), 34, best_look=True)
    animator.refer_to(before)
    tracked = animator.task(animator.motion(now), size)()
    old = animator.reference
    assert old is not None
    animator.refer_to(now, fade=4)
    apart = animator._shown(old, animator.at_rest, size, View())
    pictures = apart, animator.left(size)(), tracked
    quality = [psnr_y(clip[30:], Clip(y[None], u[None], v[None], clip.fps, clip.colour)) for y, u, v in pictures]
    assert quality[1] > quality[0] + 0.5 and quality[1] > quality[2] - 1


@pytest.mark.parametrize("qp", [26, 46])
def test_enhanced_references_are_sharpened_less(qp: int) -> None:
    """The shipped network draws its own pictures anew, six times over, as it does where residuals follow each other."""
    clip = resolve(["sample/occluder"], frames=1)[0].load()
    first, size = (clip.y[0], clip.u[0], clip.v[0]), (clip.height, clip.width)
    face = network.by_name("face-vid2vid", Vid2VidNet)
    once, more = {}, {}
    for least_error in (False, True):
        animator = FaceAnimator(face, qp, best_look=True, enhanced_least_error=least_error)
        animator.refer_to(first)
        planes = once[least_error] = animator.task(animator.at_rest, size)()
        motion = animator.at_rest
        for _ in range(6):
            animator.refer_to(planes, motion)
            planes = animator.task(motion, size)()
        more[least_error] = roughness(planes[0]) / roughness(once[least_error][0])
    assert np.array_equal(once[False][0], once[True][0])  # of a picture that was sent
    assert more[True] - 1 < (more[False] - 1) / 2


def roughness(y: np.ndarray) -> float:
    """Mean second difference."""
    levels = y.astype(np.float64)
    return float(np.abs(np.diff(levels, 2, axis=0)).mean() + np.abs(np.diff(levels, 2, axis=1)).mean())


def test_a_new_picture_is_sent_where_a_residual_pays_less(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = weights.folders()[0]
    monkeypatch.undo()  # the true rule
    monkeypatch.setenv("HDAC_WEIGHTS", str(folder))
    clip = moving_clip(8, 96, 96)
    dac = Dac(qp=24, network="tiny", refresh_price=0.01, residual=True)
    for codec in (dac, replace(FACE, qp=24, refresh="rd", refresh_price=0.01, residual="rd")):
        units = units_of(replace(codec, residual_network="tiny-residual").encode(clip))
        assert sum(len(unit.reference or b"") > 1 for unit in units) > 2 and all(unit.residual is None for unit in units)


def test_a_residual_that_does_not_pay_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = weights.folders()[0]
    monkeypatch.undo()  # the true rule
    monkeypatch.setenv("HDAC_WEIGHTS", str(folder))
    clip = moving_clip(6, 96, 96)
    dac = Dac(qp=40, network="tiny", refresh="never", residual=True)
    for codec in (replace(HYBRID, residual=True), dac, replace(FACE, residual="rd")):
        one = replace(codec, residual_network="tiny-residual")  # noise: it makes nothing better
        assert all(unit.residual is None for unit in units_of(one.encode(clip)))


def test_the_stripped_stream_shows_the_pictures_of_x265_in_fewer_bytes() -> None:
    clip = moving_clip(20, 128, 128)
    codec = HevcStripped(qp=45, i_offset=6, lean=False)
    whole, stripped = codec.base_encoder.encode(clip), codec.encode(clip)
    assert systems.decode(stripped).sha256() == codec.base_encoder.decode(whole).sha256()
    assert len(stripped) < len(whole) - 8 * 20


def bent_net() -> HybridNet:
    """Its Jacobians are not the identity, which they are before training, and follow the picture."""
    net = tiny_net(settings=BENT)
    assert net.detector.jacobian is not None
    torch.nn.init.normal_(net.detector.jacobian.weight, std=0.1)
    return net


@pytest.mark.parametrize("codec", [replace(HYBRID, send_keypoints=True, always_fused=True), Dac(qp=40, refresh="never")])
def test_jacobians_are_sent_where_the_network_has_them(codec: Hdac | Dac) -> None:
    network.save(bent_net(), weights.folders()[0] / "bent.safetensors", {})
    clip = moving_clip(6, 96, 96)
    plain, bent = (replace(codec, network=name).encode(clip) for name in ("tiny", "bent"))
    assert not Reader(io.BytesIO(plain)).header.jacobians and Reader(io.BytesIO(bent)).header.jacobians
    sizes = [[len(unit.keypoints or b"") for unit in units_of(stream)] for stream in (plain, bent)]
    assert sizes[0][0] == 1 and sizes[1][0] == 3  # parities of 4 keypoints with 2 or 6 components
    assert sum(sizes[1]) > 1.5 * sum(sizes[0])
    shown = systems.decode(bent)
    still = copy.deepcopy(network.by_name("bent", HybridNet))  # finds the identity instead, which the decoder must notice
    assert shown.n_frames == 6 and still.net.detector.jacobian is not None
    torch.nn.init.zeros_(still.net.detector.jacobian.weight)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "by_name", lambda name, kind: still)
        straight = replace(codec, network="bent").encode(clip)
    assert systems.decode(straight).sha256() != shown.sha256()


def test_a_stream_and_its_network_agree_on_jacobians() -> None:
    stream = replace(HYBRID, send_keypoints=True).encode(moving_clip(3, 96, 96))
    reader = Reader(io.BytesIO(stream))
    broken = Writer(replace(reader.header, jacobians=True))
    parts = [broken.header, *(broken.add(received.unit) for received in reader.units()), broken.finish()]
    with pytest.raises(BitstreamError, match="jacobians=True"):
        systems.decode(b"".join(parts))


def test_what_is_left_open_is_chosen_by_error_against_bits() -> None:
    """A still clip is worth a fine intra picture, a moving one is not; each of the four wins or loses by its own cost."""
    chosen = set()
    still = moving_clip(1, 96, 96)
    for clip in (moving_clip(8, 96, 96), Clip(*(np.repeat(getattr(still, plane), 150, axis=0) for plane in "yuv"), still.fps)):
        for codec in (HevcStripped(qp=45, preset="ultrafast"), HevcStripped(qp=45, preset="ultrafast", i_offset=9)):
            settled, pictures = codec.settled(clip)
            costs = {}
            for offset in I_OFFSETS if codec.i_offset is None else (9,):
                for lean in (True, False):
                    one = replace(codec, i_offset=offset, lean=lean)
                    decoded = systems.decode(one.encode(clip))
                    error = sum(((getattr(clip, p).astype(float) - getattr(decoded, p)) ** 2).sum() for p in "yuv")
                    bits = 8 * sum(len(picture.payload) for picture in one.base_pictures(clip))
                    costs[one] = error + TRIAL_PRICE * lagrange_multiplier(45) * bits
            assert settled == min(costs, key=lambda one: costs[one])
            assert codec.encode(clip) == settled.encode(clip) and pictures[0].payload == settled.base_pictures(clip)[0].payload
            chosen.add(settled.i_offset)
    assert chosen == {6, 12, 9}


def test_no_base_layer_is_tried_where_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    coded, base_pictures = [], BaseLayerCodec.base_pictures

    def counted(self: BaseLayerCodec, clip: Clip) -> list[BasePicture]:
        coded.append(self)
        return base_pictures(self, clip)

    monkeypatch.setattr(BaseLayerCodec, "base_pictures", counted)
    small, large = moving_clip(2, 64, 64), moving_clip(2, 520, 520)
    vvc = Hdac(qp=45, base_codec="vvc", preset="faster", network="tiny")
    for codec, clip, offset in (
        (HevcStripped(qp=45, preset="ultrafast"), large, 12),
        (HevcStripped(qp=45, preset="ultrafast", intra_period=32), large, 6),
        (vvc, small, 12),
        (Hdac(qp=45, preset="ultrafast", intra_period=32, best_look=True), small, 12),  # least error is not what is wanted
    ):
        settled, _ = codec.settled(clip)
        assert settled == replace(codec, i_offset=offset, lean=True) and coded == [settled]
        assert "the best of" not in codec.command(clip)
        coded.clear()
    separate = Hdac(qp=45, reference_qp=30, preset="ultrafast")
    assert separate.settled(small)[0].i_offset == 0 and len(coded) == 2  # its intra pictures are not shown
    coded.clear()
    assert HevcStripped(qp=45, preset="ultrafast").settled(small) and len(coded) == 4
    assert "the best of 4" in HevcStripped(qp=45, preset="ultrafast").command(small)


def test_dac_that_never_refreshes_does_not_look_at_its_animation(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, clip = Dac(qp=40, network="tiny", refresh="never"), moving_clip(5, 96, 96)
    stream = codec.encode(clip)

    def refuse(*_: object) -> None:
        raise AssertionError("a picture was made")

    monkeypatch.setattr(Animator, "_unrounded", refuse)
    assert codec.encode(clip) == stream
    with pytest.raises(AssertionError, match="a picture was made"):
        replace(codec, refresh="rd").encode(clip)


def test_a_fresh_process_decodes_the_same_frames(tmp_path: Path) -> None:
    clip, files, here = moving_clip(5, 96, 96), [], []
    for i, codec in enumerate(CODECS):
        stream = codec.encode(clip)
        files.append(tmp_path / f"{i}.hdac")
        files[-1].write_bytes(stream)
        here.append(systems.decode(stream).sha256())
    program = "import sys; from hdac.systems import decode\nfor s in sys.argv[1:]: print(decode(open(s, 'rb').read()).sha256())"
    found = subprocess.run(
        [sys.executable, "-c", program, *map(str, files)], capture_output=True, text=True, env=os.environ, check=True
    )
    assert found.stdout.split() == here


@pytest.mark.parametrize(
    "codec",
    [
        HYBRID,
        replace(HYBRID, base_every=2),
        replace(HYBRID, base_every=3, base_half=True, send_keypoints=True),
        replace(HYBRID, base_codec="vvc", preset="faster", base_half=True),
    ],
    ids=lambda codec: codec.label,
)
def test_hdac_is_never_worse_than_its_base_layer(codec: Hdac) -> None:
    clip = moving_clip(6, 96, 96)
    pictures = [codec.base_pictures(clip)[t // codec.base_every].planes for t in range(clip.n_frames)]
    base = Clip(*(np.stack([picture[plane] for picture in pictures]) for plane in range(3)), clip.fps)

    def squared_error(shown: Clip) -> float:
        planes = ((clip.y, shown.y), (clip.u, shown.u), (clip.v, shown.v))
        return sum(float(((a.astype(float) - b) ** 2).sum()) for a, b in planes)

    for seed in range(4):
        save_tiny(weights.folders()[0], f"seed{seed}", seed)
        stream = replace(codec, network=f"seed{seed}").encode(clip)
        assert squared_error(systems.decode(stream)) <= squared_error(base)


def test_a_base_layer_of_vvc_shows_the_pictures_of_the_anchor() -> None:
    network.save(tiny_net(correction=0.0), weights.folders()[0] / "zero.safetensors", {})
    codec, clip = Hdac(qp=45, base_codec="vvc", preset="fast", network="zero"), moving_clip(12, 128, 128)
    whole, stream = codec.base_encoder.encode(clip), codec.encode(clip)
    assert systems.decode(stream).sha256() == codec.base_encoder.decode(whole).sha256()
    assert len(stream) < len(whole) - 130 - 5 * 12  # parameter sets; start code and NAL unit header of every picture


def test_a_frame_without_a_base_picture_is_a_byte_where_a_picture_is_repeated() -> None:
    still = moving_clip(1, 96, 96)
    clip = Clip(*(np.repeat(getattr(still, plane), 7, axis=0) for plane in "yuv"), still.fps)
    for codec in (HevcStripped(qp=40, base_every=3), replace(HYBRID, base_every=3)):
        stream = replace(codec, checksum_interval=0).encode(clip)
        decoded, spent = systems.decode(stream), systems.ledger(stream).frames
        for t in (1, 2, 4, 5):
            assert spent[t] == 1 and np.array_equal(decoded.y[t], decoded.y[t // 3 * 3])


def test_keypoints_animate_frames_without_a_base_picture() -> None:
    network.save(tiny_net(correction=0.0), weights.folders()[0] / "zero.safetensors", {})
    codec = replace(HYBRID, base_every=3, send_keypoints=True, network="zero", checksum_interval=0)
    units = [received.unit for received in Reader(io.BytesIO(codec.encode(moving_clip(13, 96, 96)))).units()]
    between = [unit for t, unit in enumerate(units) if t % 3]
    assert any(unit.keypoints for unit in between) and not any(unit.base for unit in between)
    assert all((unit.keypoints is None) == (unit.repeated is not None) for unit in between)


def test_base_pictures_are_fewer_or_smaller() -> None:
    clip = moving_clip(9, 128, 128)
    sizes = [systems.ledger(codec.encode(clip)).totals["base"] for codec in (
        HevcStripped(qp=36), HevcStripped(qp=36, base_every=3), HevcStripped(qp=36, base_half=True)
    )]  # fmt: skip
    assert sizes[1] < sizes[0] and sizes[2] < sizes[0]


@pytest.mark.parametrize("codec", [replace(HYBRID, reference_qp=38), Dac(qp=38, network="tiny", refresh="never")])
def test_a_learned_reference(codec: Hdac | Dac, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small random network in the place of the learned still codec's."""
    codec, clip = replace(codec, reference_codec="learned"), moving_clip(3, 96, 80)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "none"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(CodecUnavailable, match="mbt2018-mean-3"):
        codec.encode(clip)
    (tmp_path / "learned").mkdir()
    torch.manual_seed(0)
    save_random_learned("mbt2018-mean", tmp_path / "learned", quality=3)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "learned"))
    stream = codec.encode(clip)
    decoded, sizes = systems.decode(stream), systems.ledger(stream)
    assert decoded.y.shape == clip.y.shape and sum(sizes.totals.values()) == len(stream)
    assert sizes.layers["reference"][0] > 10 and "mbt2018-mean" not in codec.label and "LEARNED" in codec.label
    damaged = bytearray(stream)
    damaged[sizes.header + 20] ^= 1
    with pytest.raises(BitstreamError):
        systems.decode(bytes(damaged))
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(CodecUnavailable, match="mbt2018-mean-3"):
        systems.decode(stream)


def test_a_network_without_correction_leaves_the_base_layer_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    network.save(tiny_net(correction=0.0), weights.folders()[0] / "zero.safetensors", {})
    monkeypatch.setattr(hdac._LeastError, "__call__", lambda *_: hdac.FULL)  # show what the network makes of it
    codec, clip = replace(HYBRID, network="zero"), moving_clip(4, 96, 96)
    assert systems.decode(codec.encode(clip)).sha256() == codec.base_encoder.decode(codec.base_encoder.encode(clip)).sha256()


@pytest.mark.parametrize(
    "codec",
    [
        replace(HYBRID, send_keypoints=True),
        replace(HYBRID, send_keypoints=True, base_every=3, base_half=True),
        replace(HYBRID, base_every=2, base_codec="vvc", preset="faster"),
    ],
    ids=lambda codec: codec.label,
)
def test_a_decoder_shows_what_the_encoder_chose(codec: Hdac, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    choose, choose_without_base = hdac._LeastError.__call__, Hdac._without_base

    def watched(self, source, at):  # type: ignore[no-untyped-def]
        choice = choose(self, source, at)
        seen.append(at[choice][0])
        return choice

    def watched_without_base(*arguments):  # type: ignore[no-untyped-def]
        best = choose_without_base(*arguments)
        seen.append(best[0])
        return best

    monkeypatch.setattr(hdac._LeastError, "__call__", watched)
    monkeypatch.setattr(Hdac, "_without_base", watched_without_base)
    clip = moving_clip(8, 96, 96)
    assert np.array_equal(systems.decode(codec.encode(clip)).y, np.stack(seen))


@pytest.mark.parametrize(("size", "fade"), [*(((96, 96), fade) for fade in FADES), ((420, 380), 4)])
@pytest.mark.parametrize(
    "codec",
    [
        replace(FACE, residual="period", intra_period=3),
        replace(FACE, residual="period", intra_period=3, motion_coder="paper", keypoints=4),
        replace(FACE, residual="rd", refresh="rd", keypoints=6, network="tiny-conditioned"),
        replace(FACE, intra_period=5, network="tiny-face"),
    ],
    ids=["period", "paper", "rd", "pictures"],
)
def test_a_decoder_of_face_vid2vid_has_the_references_and_shows_the_pictures_of_its_encoder(
    codec: FaceVid2Vid, size: tuple[int, int], fade: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    references: list[np.ndarray] = []
    sent: list[np.ndarray] = []
    refer_to, accept = FaceAnimator.refer_to, face_vid2vid._Sender.accept

    def watched(self, planes, *rest, **named):  # type: ignore[no-untyped-def]
        references.extend(plane.copy() for plane in planes)
        return refer_to(self, planes, *rest, **named)

    def accepted(self, one):  # type: ignore[no-untyped-def]
        sent.append(one.shown[0])
        accept(self, one)

    monkeypatch.setattr(FaceAnimator, "refer_to", watched)
    monkeypatch.setattr(face_vid2vid._Sender, "accept", accepted)
    clip = moving_clip(8, *size)
    stream = replace(codec, fade=fade).encode(clip)
    of_encoder, references[:] = list(references), []
    shown = systems.decode(stream)
    assert len(of_encoder) == len(references) > 3
    assert all(np.array_equal(a, b) for a, b in zip(of_encoder, references, strict=True))
    units = units_of(stream)
    alone = [t for t, unit in enumerate(units) if unit.reference is None]  # without a new picture
    assert len(alone) == len(sent)
    for t, picture in zip(alone, sent, strict=True):
        if units[t].residual is None:
            assert np.array_equal(shown.y[t], picture), t


HEEDING = Dac(qp=48, network="tiny-heeding", refresh="never", residual=True, residual_network="tiny-residual")
HEEDING_FACE = replace(FACE, network="tiny-conditioned", residual="period", intra_period=4, fade=0)


@pytest.mark.parametrize("codec", [HEEDING, HEEDING_FACE], ids=lambda codec: codec.name)
def test_a_header_says_how_enhanced_pictures_are_animated(codec: Dac | FaceVid2Vid) -> None:
    """Without the bit the same units show other pictures, from the first residual on."""
    stream = codec.encode(source())
    header, units = Reader(io.BytesIO(stream)).header, units_of(stream)
    first = next(t for t, unit in enumerate(units) if unit.residual)
    new, old = (systems.decode(written(one, units)).y for one in (header, replace(header, enhanced_apart=False)))
    assert np.array_equal(new[: first + 1], old[: first + 1])
    if codec is HEEDING:  # residuals in all frames; the first ones round to the same levels
        assert not np.array_equal(new[first + 1 :], old[first + 1 :])
    else:
        assert not np.array_equal(new[first + 1], old[first + 1])


@pytest.mark.parametrize("codec", [HEEDING, HEEDING_FACE], ids=lambda codec: codec.name)
@pytest.mark.parametrize("as_sent", [False, True])
def test_what_the_encoder_is_told_of_enhanced_pictures_is_in_the_header(codec: Dac | FaceVid2Vid, as_sent: bool) -> None:
    one = replace(codec, enhanced_as_sent=as_sent)
    assert Reader(io.BytesIO(one.encode(moving_clip(1, 96, 96)))).header.enhanced_apart != as_sent


def test_what_was_sent_is_animated_as_such_when_dac_returns_to_it() -> None:
    """Both are in the buffer: the picture that was sent, and what residuals have made of it."""
    stream = HEEDING.encode(source())
    header, units = Reader(io.BytesIO(stream)).header, units_of(stream)[:4]
    units[3] = Unit(keypoints=units[3].keypoints, reference=bytes((2,)))  # the third in the order of use
    whole = replace(header, stream=replace(header.stream, n_frames=4))
    never, returned = (systems.decode(written(whole, these)).y for these in ([*units[:1], *map(plain, units[1:])], units))
    assert np.array_equal(never[3], returned[3]) and not np.array_equal(never[2], returned[2])


def plain(unit: Unit) -> Unit:
    """The same without residual and reference."""
    return Unit(keypoints=unit.keypoints)


@pytest.mark.parametrize("qp", [36, 46])
def test_six_residuals_in_a_row_do_not_blur_dac(qp: int) -> None:
    """The shipped network draws its own pictures anew, as it does where residuals follow each other; what residuals themselves
    add is left out."""
    clip = resolve(["sample/occluder"], frames=1)[0].load()
    first, size = (clip.y[0], clip.u[0], clip.v[0]), (clip.height, clip.width)
    lite = network.by_name("lite", HybridNet)
    left = {}
    for best_look in (False, True):
        animator = Animator(lite, None, qp, best_look=False, enhanced_best_look=best_look)
        keypoints = animator.refer_to(first)
        planes = once = animator.task(None, keypoints, size)()
        for _ in range(6):
            animator.refer_to(planes, enhanced=True)
            animator.rest_at(keypoints)
            planes = animator.task(None, keypoints, size)()
        left[best_look] = roughness(planes[0]) / roughness(once[0])
    assert left[False] < 0.7 and 0.85 < left[True] < 1.15


@pytest.mark.parametrize(("residual", "same"), [("never", True), ("rd", False)])
def test_how_enhanced_pictures_are_animated_is_part_of_the_keys_of_streams_that_have_some(residual: str, same: bool) -> None:
    codec = FaceVid2Vid(qp=40, residual=residual)
    keys = {stream_key("", one) for one in (codec, replace(codec, enhanced_as_sent=True))}
    assert len(keys) == 2 - same


@pytest.mark.parametrize("codec", [replace(FACE, residual="rd", fade=0), Dac(qp=40, network="tiny", residual=True)])
@pytest.mark.parametrize(("refresh", "expected"), [("rd", "prrprrpr"), ("never", "prr-----")])
def test_a_full_chain_of_residuals_ends_with_a_new_picture_where_there_may_be_one(
    codec: FaceVid2Vid | Dac, refresh: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residual, "MAX_CHAIN", 2)
    one = replace(codec, residual_network="tiny-residual", refresh=refresh, refresh_price=1e9)
    stream = one.encode(moving_clip(8, 96, 96))
    assert kinds_of(stream) == expected and systems.decode(stream).n_frames == 8


def kinds_of(stream: bytes) -> str:
    """Per unit: residual, picture, or neither."""
    return "".join("r" if unit.residual else "p" if len(unit.reference or b"") > 1 else "-" for unit in units_of(stream))


def with_something_new(n_frames: int = 10, begin: int = 3) -> Clip:
    """A grey clip, in which squares of 8 x 8 come up that stay."""
    squares = 100 + np.kron(np.random.default_rng(0).choice((-20, 20), (8, 8)), np.ones((8, 8)))
    y = np.full((n_frames, 128, 128), 100, np.uint8)
    y[begin:, :64, :64] = squares
    chroma = np.full((n_frames, 64, 64), 128, np.uint8)
    return Clip(y, chroma, chroma, Fraction(25), Colour())


@pytest.mark.parametrize(
    "codec",
    [
        Dac(qp=30, network="still", refresh="never", residual=True),
        replace(Hdac.paper(30), network="still", preset="ultrafast", residual=True),
        replace(FACE, qp=30, network="still-face", residual="rd", fade=0),
    ],
    ids=lambda codec: codec.name,
)
def test_a_residual_is_sent_where_it_pays(codec: LayeredCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the true rule, over networks that move pictures and do nothing else."""
    folder = weights.folders()[0]
    monkeypatch.undo()
    monkeypatch.setenv("HDAC_WEIGHTS", str(folder))
    for name, net in (("still", tiny_net()), ("still-face", tiny_face_net())):
        for parameter in net.last.parameters():
            torch.nn.init.zeros_(parameter)
        network.save(net, folder / f"{name}.safetensors", {})
    network.save(trained_residual_net(), folder / "seconds.safetensors", {})
    clip = with_something_new()
    without: Any = replace(codec, residual="never" if isinstance(codec, FaceVid2Vid) else False)  # type: ignore[call-arg]
    streams = [one.encode(clip) for one in (without, replace(codec, residual_network="seconds"))]  # type: ignore[call-arg]
    assert kinds_of(streams[1])[1:].count("r") >= 1 and "r" not in kinds_of(streams[1])[:3]
    errors = [((clip.y.astype(float) - systems.decode(stream).y) ** 2).sum() for stream in streams]
    assert errors[1] < 0.9 * errors[0]
    price = PRICE * lagrange_multiplier(30)
    costs = [error + price * 8 * len(stream) for error, stream in zip(errors, streams, strict=True)]
    assert costs[1] < costs[0]


def test_the_base_layer_lies_around_the_face_box_of_an_animated_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hdac, "_without_base", lambda self, source, base, candidates, box: candidates[-1])
    codec, clip = replace(HYBRID, base_every=2, send_keypoints=True, intra_period=0), moving_clip(4, 520, 300)
    stream = codec.encode(clip)
    box = Reader(io.BytesIO(stream)).header.face_box
    decoded, last = systems.decode(stream), codec.base_pictures(clip)[1].planes
    assert box is not None and box.x > 8
    assert np.array_equal(decoded.y[3][:, : box.x], last[0][:, : box.x])
    assert not np.array_equal(decoded.y[3], decoded.y[2])


def test_frames_come_out_before_later_ones_have_arrived() -> None:
    """Nearly those of the whole: networks have one thread there, and several pictures at once (`tests.hdac.test_threads`)."""
    for codec in CODECS:
        stream = replace(codec, checksum_interval=0).encode(moving_clip(6, 96, 96))
        whole = systems.decode(stream)
        sizes = systems.ledger(stream)
        upto = sizes.header + int(sizes.frames[:3].sum())
        arriving = frames(Reader(io.BytesIO(stream[:upto])))
        for t in range(3):
            exact = isinstance(codec, HevcStripped) or isinstance(codec, Dac) and t == 0
            assert np.abs(next(arriving)[0].astype(int) - whole.y[t]).max() <= (0 if exact else 1)


def test_dac_returns_to_a_reference_that_it_has() -> None:
    network.save(tiny_net(correction=0.0), weights.folders()[0] / "zero.safetensors", {})
    a, b = moving_clip(1, 96, 96), moving_clip(1, 96, 96, seed=9)
    planes = [np.concatenate([getattr(a, p)] * 3 + [getattr(b, p)] * 3 + [getattr(a, p)] * 3) for p in "yuv"]
    clip = Clip(*planes, a.fps)
    codec = Dac(qp=35, network="zero", refresh="rd")
    stream = codec.encode(clip)
    references = systems.ledger(stream).layers["reference"]
    assert [int(size) for size in references[[0, 3, 6]] > 1] == [1, 1, 0] and references[6] == 1, references
    assert psnr_y(clip, systems.decode(stream)) > 20


def test_more_refreshes_for_a_higher_threshold() -> None:
    clip = moving_clip(8, 96, 96)
    sizes = [len(Dac(qp=40, network="tiny", refresh="psnr", threshold_db=db).encode(clip)) for db in (5.0, 60.0)]
    assert sizes[0] < sizes[1]


def test_tolerant_decoding_gives_the_frames_in_front_of_the_damage() -> None:
    clip = moving_clip(6, 96, 96)
    stream = replace(HYBRID, checksum_interval=2).encode(clip)
    whole = systems.decode(stream)
    sizes = systems.ledger(stream)
    cut = sizes.header + int(sizes.frames[:4].sum()) + 1
    shown, error = decode_tolerant(io.BytesIO(stream[:cut]))
    assert shown.n_frames == 4 and np.array_equal(shown.y, whole.y[:4]) and isinstance(error, BitstreamError)
    assert decode_tolerant(io.BytesIO(stream))[1] is None


def test_other_weights_are_refused_by_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = HYBRID.encode(moving_clip(2, 96, 96))
    other = tmp_path / "other"
    other.mkdir()
    save_tiny(other, seed=2)
    monkeypatch.setenv("HDAC_WEIGHTS", str(other))
    with pytest.raises(WeightsMismatch, match="made with the weights"):
        systems.decode(stream)


def test_missing_weights_are_named() -> None:
    with pytest.raises(CodecUnavailable, match="nothere.safetensors"):
        replace(HYBRID, network="nothere").encode(moving_clip(2, 96, 96))


def test_a_file_that_holds_no_network_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"not at all")
    with pytest.raises(InputError, match="broken.safetensors"):
        replace(HYBRID, network="broken").encode(moving_clip(2, 96, 96))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Hdac(qp=5, i_offset=12),
        lambda: Hdac(qp=40, i_offset=-1),
        lambda: Hdac(qp=52),
        lambda: Hdac(qp=40, base_every=4),
        lambda: Hdac(qp=40, base_codec="av1"),
        lambda: Hdac(qp=40, base_codec="vvc", lean=False),
        lambda: Hdac(qp=40, reference_codec="vvc"),
        lambda: Hdac(qp=40, reference_codec="jpeg", reference_qp=30),
        lambda: Dac(qp=60),
        lambda: Dac(qp=64, reference_codec="vvc"),
        lambda: Dac(qp=40, refresh="maybe"),
        lambda: Dac(qp=40, keypoint_step=100),
        lambda: replace(HYBRID, keypoint_step=100),
        lambda: replace(FACE, step=100),
        lambda: replace(FACE, keypoints=-1),
        lambda: replace(FACE, residual="always"),
        lambda: replace(FACE, residual="period"),
        lambda: replace(FACE, motion_coder="huffman"),
        lambda: replace(FACE, fade=3),
    ],
)
def test_impossible_settings_are_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError):
        make()


def test_the_base_layer_is_x265_as_the_anchor_has_it() -> None:
    assert HYBRID.base_encoder == X265(qp=40, i_offset=12, preset="ultrafast")


def test_another_machine_may_round_a_pixel_otherwise_but_does_not_drift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine, played by weights that are off by 1e-6 under the same number."""
    hybrid = replace(HYBRID, send_keypoints=True, intra_period=8, always_fused=True)
    for codec in (hybrid, Dac(qp=40, network="tiny", refresh="never"), FACE):
        stream = codec.encode(moving_clip(16, 96, 96))
        here = systems.decode(stream)
        by_id = network.by_id

        def elsewhere(wanted: bytes, kind, by_id=by_id):  # type: ignore[no-untyped-def]
            net = copy.deepcopy(by_id(wanted, kind).net)
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.mul_(1 + 1e-6)
            return network.Network(net, wanted, "elsewhere")

        monkeypatch.setattr(network, "by_id", elsewhere)
        there = systems.decode(stream)
        monkeypatch.undo()
        monkeypatch.setenv("HDAC_WEIGHTS", str(tmp_path))
        for plane in "yuv":
            difference = np.abs(getattr(here, plane).astype(int) - getattr(there, plane))
            assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_layers_that_the_header_does_not_speak_of_are_refused() -> None:
    stream = HYBRID.encode(moving_clip(3, 96, 96))
    for change in ({"keypoints": b"k"}, {"reference": b"r"}, {"residual": b"x"}):
        other = rewritten(stream, (replace(unit, **change) for unit in units_of(stream)))
        with pytest.raises(BitstreamError, match="says nothing"):
            systems.decode(other)


def test_tolerant_decoding_shows_no_frame_that_no_checksum_vouches_for() -> None:
    codec = HevcStripped(qp=30, preset="ultrafast", checksum_interval=2)
    clip = moving_clip(8, 96, 96)
    stream = codec.encode(clip)
    whole, sizes = systems.decode(stream), systems.ledger(stream)
    at = sizes.header + int(sizes.frames[:4].sum()) + 5  # in the fifth frame
    for bit in range(8):
        damaged = bytearray(stream)
        damaged[at] ^= 1 << bit
        shown, error = decode_tolerant(io.BytesIO(bytes(damaged)))
        assert error is not None and shown.n_frames == 4 and np.array_equal(shown.y, whole.y[:4])


def test_pictures_too_large_for_the_networks_are_refused() -> None:
    with pytest.raises(InputError, match="2000x16"):
        HYBRID.encode(moving_clip(1, 2000, 16))


def test_pictures_too_small_for_half_of_them_are_refused() -> None:
    with pytest.raises(InputError, match="30x40"):
        replace(HYBRID, base_half=True).encode(moving_clip(1, 30, 40))


def test_a_frame_with_neither_picture_nor_keypoints_is_refused() -> None:
    reader = Reader(io.BytesIO(replace(HYBRID, base_every=2).encode(moving_clip(3, 96, 96))))
    first, _, last = (received.unit for received in reader.units())
    for unit, message in ((Unit(), "neither"), (Unit(keypoints=b"k"), "says nothing")):
        writer = Writer(reader.header)
        stream = writer.header + b"".join(map(writer.add, (first, unit, last))) + writer.finish()
        with pytest.raises(BitstreamError, match=message):
            systems.decode(stream)
