"""Networks in 8-bit integers: nearly the same pictures, from the weights they were made of and for the size they are for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.clip import Clip
from data.errors import CodecUnavailable, InputError
from data.io import write_clip
from hdac import systems, weights
from hdac.__main__ import main
from hdac.codecs.mobile import Mobile
from hdac.codecs.point_animator import PointAnimator
from hdac.decoder import decode_mobile
from hdac.int8 import SUFFIX
from hdac.nets.animation import PointNet
from hdac.nets.landmarks import LandmarkNet
from hdac.nets.segmentation import SegmentationNet
from hdac.network import by_name, load
from hdac.points import Values
from hdac.training.quantise import _animated, quantise
from tests.clips import moving_clip, psnr_y

pytest.importorskip("onnxscript", reason="networks are quantised with the packages of hdac[int8]")
pytestmark = pytest.mark.usefixtures("tiny_weights")

MOBILE = Mobile(qp=36, network="tiny-learned", landmark_network="tiny-landmarks", segmentation_network="tiny-segmentation")


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two clips of 96x96. Students are found by the names that those of the package have."""
    monkeypatch.setattr("hdac.codecs.point_animator.by_name", lambda name, kind: by_name(f"tiny-{name}", kind))
    paths = [tmp_path / f"{n}.y4m" for n in range(2)]
    for n, path in enumerate(paths):
        write_clip(moving_clip(4 + n, 96, 96), path)
    return paths


@pytest.mark.parametrize("name", ["tiny-light", "tiny-spade", "tiny-frontal", "tiny-direct", "tiny-bilayer", "tiny-segface"])
def test_pictures_are_nearly_those_of_the_network_itself(name: str, clips: list[Path]) -> None:
    codec = replace(MOBILE, network=name)
    out = weights.find(name).with_suffix(SUFFIX)
    n_frames = quantise(load(weights.find(name)), clips, out)
    assert n_frames == 8
    clip = moving_clip(5, 96, 96)
    stream = replace(codec, qp=24).encode(clip)  # calibration has seen coarser ones, too
    exact, small = systems.decode(stream), decode_mobile(stream, int8=True)
    assert (exact.y[0] == small.y[0]).all() and (exact.y[1:] != small.y[1:]).any()
    assert psnr_y(exact, small) > 30
    with pytest.raises(InputError, match="of 96x96 only"):
        decode_mobile(codec.encode(moving_clip(2, 128, 128)), int8=True)
    out.unlink()


@pytest.mark.parametrize("name", ["tiny-spade", "tiny-direct"])
def test_ranges_are_those_of_what_is_shown(name: str, clips: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdac.codecs.point_animator.DOUBT", -1.0)  # an encoder tries other landmarks in every frame
    recorded, _ = _animated(by_name(name, PointNet), clips)
    assert len(recorded["motion"][1].calls) == 8


@pytest.mark.parametrize(
    ("name", "finder"),
    [
        ("tiny-light", "tiny-light"),
        ("tiny-maps", "tiny-maps"),
        ("tiny-spade", "tiny-landmarks"),
        ("tiny-segface", "tiny-segmentation"),
    ],
)
def test_what_is_found_in_integers_is_nearly_the_same_and_needs_none_to_be_decoded(
    name: str, finder: str, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hdac.codecs.point_animator.DOUBT", np.inf)  # an untrained student is believed, too
    exact = replace(MOBILE, network=name)
    small, clip = replace(exact, int8=True), moving_clip(5, 96, 96)
    with pytest.raises(CodecUnavailable, match=finder):
        small.encode(clip)
    file = weights.find(finder).with_suffix(SUFFIX)
    assert quantise(load(weights.find(finder)), clips, file) == 8
    try:
        assert small.version != exact.version
        streams = exact.encode(clip), small.encode(clip)
        found = [values_of(name, clip, int8) for int8 in (False, True)]
    finally:
        file.unlink()
    for a, b in zip(*found, strict=True):
        assert (a is None) == (b is None)
        if a is not None and a.dtype == np.uint8:
            assert (a == b).mean() > 0.8
        elif a is not None:
            assert np.allclose(a, b, atol=0.05)
    assert any((a != b).any() for a, b in zip(*found, strict=True) if a is not None)
    shown = [systems.decode(stream) for stream in streams]
    assert (shown[0].y[0] == shown[1].y[0]).all() and psnr_y(*shown) > 25


def values_of(name: str, clip: Clip, int8: bool) -> Values:
    """What is said of the last frame, of which the first one is the reference."""
    network = by_name(name, PointNet)
    student, segmenter = by_name("tiny-landmarks", LandmarkNet), by_name("tiny-segmentation", SegmentationNet)
    s = network.net.settings
    students = student if s.landmarks_sent else None, segmenter if s.map_side else None
    animator = PointAnimator(network, students[0], 36, True, None, students[1], found_by_int8=int8)
    animator.rest_at(animator.refer_to((clip.y[0], clip.u[0], clip.v[0])))
    return animator.values((clip.y[-1], clip.u[-1], clip.v[-1]))


def test_files_of_other_weights_damaged_and_missing_ones_are_refused(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = MOBILE.encode(moving_clip(2, 96, 96))
    with pytest.raises(CodecUnavailable, match="tiny-learned.int8"):
        decode_mobile(stream, int8=True)
    of_others, out = tmp_path / "others.int8", weights.find("tiny-learned").with_suffix(SUFFIX)
    command = ["train", "quantise", "tiny-frontal", *map(str, clips), "--out", str(of_others)]
    assert main(command) == 0 and "calibrated on 8 frames" in capsys.readouterr().out
    assert main(command) == 1 and "exists" in capsys.readouterr().err
    write_clip(moving_clip(3, 128, 96), tmp_path / "wide.y4m")
    wide = ["train", "quantise", "tiny-frontal", str(tmp_path), "--out", str(of_others), "-f"]
    assert main(wide) == 1 and "of one size" in capsys.readouterr().err
    try:
        out.write_bytes(of_others.read_bytes())
        with pytest.raises(CodecUnavailable, match="made from other weights"):
            decode_mobile(stream, int8=True)
        out.write_bytes(b"nothing of the kind")
        with pytest.raises(InputError, match="holds no network"):
            decode_mobile(stream, int8=True)
        for option in (["--int8", "--tolerant"], ["--int8", "--rotate", "3,0,0"], ["--int8", "--fine-tune", "3"]):
            (tmp_path / "stream.hdac").write_bytes(stream)
            assert main(["decode", str(tmp_path / "stream.hdac"), str(tmp_path / "out.y4m"), *option]) == 1
            assert "--int8" in (said := capsys.readouterr().err) or "integers" in said
            assert not (tmp_path / "out.y4m").exists()
    finally:
        out.unlink()
    with pytest.raises(InputError, match="is not fine-tuned"):
        decode_mobile(stream, fine_tune=3, int8=True)
    assert main(["train", "quantise", "tiny", *map(str, clips)]) == 1 and "is not quantised" in capsys.readouterr().err
