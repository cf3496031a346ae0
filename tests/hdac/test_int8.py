"""Networks in 8-bit integers: nearly the same pictures, from the weights they were made of and for the size they are for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from data.errors import CodecUnavailable, InputError
from data.io import write_clip
from hdac import systems, weights
from hdac.__main__ import main
from hdac.codecs.mobile import Mobile
from hdac.decoder import decode_mobile
from hdac.int8 import SUFFIX
from hdac.nets.animation import PointNet
from hdac.network import by_name
from hdac.training.quantise import quantise
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


@pytest.mark.parametrize("name", ["tiny-light", "tiny-spade", "tiny-frontal", "tiny-bilayer", "tiny-segface"])
def test_pictures_are_nearly_those_of_the_network_itself(name: str, clips: list[Path]) -> None:
    codec = replace(MOBILE, network=name)
    out = weights.find(name).with_suffix(SUFFIX)
    n_frames = quantise(by_name(name, PointNet), clips, out)
    assert n_frames == 8
    clip = moving_clip(5, 96, 96)
    stream = replace(codec, qp=24).encode(clip)  # calibration has seen coarser ones, too
    exact, small = systems.decode(stream), decode_mobile(stream, int8=True)
    assert (exact.y[0] == small.y[0]).all() and (exact.y[1:] != small.y[1:]).any()
    assert psnr_y(exact, small) > 30
    with pytest.raises(InputError, match="of 96x96 only"):
        decode_mobile(codec.encode(moving_clip(2, 128, 128)), int8=True)
    out.unlink()


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
