"""Damage of any kind gives BitstreamError, or frames in front of it: never a crash, a hang, wrong frames or much memory.

What is done to the streams, and what is checked of each, is in `tests.hdac.faults`.
"""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from baselines.conventional import X265
from baselines.stream import LAYERED_STANDARDS, MAGIC
from data.errors import BitstreamError, InputError, UnsupportedVersion, WeightsMismatch
from hdac import decoder, systems
from hdac.codecs.layered import LayeredCodec
from hdac.container import VERSION, Reader
from hdac.decoder import decode_tolerant
from tests.clips import moving_clip
from tests.hdac import faults

MAX_BYTES = 1_000_000_000
"""Of memory, the libraries included."""

pytestmark = pytest.mark.usefixtures("tiny_weights")
STANDSTILL_S = 1200
"""For all of a codec: twenty times what it takes; more is a standstill, however busy the machine is."""

by_name = pytest.mark.parametrize("name", faults.CODECS)


@pytest.mark.slow
@by_name
def test_every_cut_and_340_random_corruptions_are_an_error_or_a_clip_within_a_gigabyte(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.hdac.faults", name, str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, timeout=STANDSTILL_S)
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout)
    assert report["cuts_noticed"] == report["sizes"][0] > 200
    assert len(report["cuts_shown"]) == report["sizes"][1] and report["cuts_shown"] == sorted(report["cuts_shown"])
    assert set(report["cuts_shown"]) == {0, 2, 4}
    # without checksums some damage goes unseen, or shows as other pixels
    assert faults.N_CORRUPTIONS // 2 < report["corruptions_noticed"] < faults.N_CORRUPTIONS
    assert len(report["corruptions_shown"]) == faults.N_CORRUPTIONS
    # most bytes are the references': of what is between two of them chance may leave nothing damaged
    assert {0} < set(report["corruptions_shown"]) <= {0, 2, 4, 6}
    assert report["oversized_noticed"] and all(report["oversized_noticed"])
    assert report["peak_bytes"] < MAX_BYTES


# -- headers that say something else -------------------------------------------------------------------------------------


def stream_of(codec: LayeredCodec, n_frames: int = 2) -> bytes:
    return codec.encode(moving_clip(n_frames, 64, 64))


def with_header(data: bytes, **changes: Any) -> bytes:
    """The stream behind a header of which these fields are others."""
    reader = Reader(io.BytesIO(data))
    return dataclasses.replace(reader.header, **changes).pack() + data[reader.header_bytes :]


def assert_refused(stream: bytes, error: type[BitstreamError] = BitstreamError, match: str | None = None) -> None:
    """Also by tolerant decoding: there is no frame in front of the header."""
    with pytest.raises(error, match=match):
        systems.decode(stream)
    with pytest.raises(error, match=match):
        decode_tolerant(io.BytesIO(stream))


@by_name
def test_a_stream_of_other_weights_is_refused(name: str) -> None:
    stream = stream_of(faults.CODECS[name])
    if name == "hevc-stripped":
        with pytest.raises(InputError, match="weights id of 0 bytes"):  # there is no place for one
            with_header(stream, weights_id=b"none")
    else:
        assert_refused(with_header(stream, weights_id=b"none"), WeightsMismatch, "made with the weights 6e6f6e65")


@by_name
def test_a_stream_of_another_version_is_refused(name: str) -> None:
    stream = stream_of(faults.CODECS[name])
    at = len(Reader(io.BytesIO(stream)).header.stream.pack())
    for version in (0, VERSION + 1, 255):
        other = stream[:at] + bytes((version,)) + stream[at + 1 :]
        assert_refused(other, UnsupportedVersion, f"version {version} ")


@by_name
def test_a_stream_under_the_name_of_another_system_is_refused(name: str) -> None:
    stream = stream_of(faults.CODECS[name])
    for system, number in LAYERED_STANDARDS.items():
        if system != faults.CODECS[name].name:
            assert_refused(bytes((MAGIC, number)) + stream[2:])


def test_a_stream_of_a_conventional_codec_is_refused_by_name() -> None:
    stream = X265(qp=40, preset="ultrafast").encode(moving_clip(2, 64, 64))
    for decode in (decoder.decode, lambda data: decode_tolerant(io.BytesIO(data))):
        with pytest.raises(BitstreamError, match="a stream of hevc, expected one of hevc-stripped, dac, hdac"):
            decode(stream)


@by_name
def test_no_frames_are_refused_by_encoder_and_decoder(name: str) -> None:
    stream = stream_of(faults.CODECS[name])
    at = len(Reader(io.BytesIO(stream)).header.stream.pack()) - 1
    assert stream[at] == 2  # frames
    assert_refused(stream[:at] + b"\0" + stream[at + 1 :], BitstreamError, "must be positive")
    with pytest.raises(InputError, match="at least one frame"):
        moving_clip(2, 64, 64)[2:]


@by_name
def test_one_frame_is_a_stream_of_its_own(name: str) -> None:
    clip = moving_clip(1, 64, 64)
    stream = faults.CODECS[name].encode(clip)
    whole = systems.decode(stream)
    assert whole.y.shape == (1, 64, 64) and whole.fps == clip.fps
    shown, error = decode_tolerant(io.BytesIO(stream))
    assert shown.equals(whole) and error is None
    for _, cut in [*faults.truncated(stream)][::10]:
        assert_refused(cut)


@by_name
def test_a_frame_more_or_less_than_the_header_says_is_refused(name: str) -> None:
    stream = stream_of(faults.CODECS[name])
    said = Reader(io.BytesIO(stream)).header.stream
    for n_frames in (1, 3):
        other = with_header(stream, stream=dataclasses.replace(said, n_frames=n_frames))
        with pytest.raises(BitstreamError):
            systems.decode(other)
