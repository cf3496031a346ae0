"""Stored streams still decode to the stored pictures, and are still what is written: the format does not change silently.

A format that changes on purpose has other streams: `python -m tests.hdac.make_golden` writes them.
"""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest

from baselines import nal
from hdac import systems
from hdac.container import Reader
from hdac.slim_hevc import SlimHevcDecoder, SlimHevcEncoder
from hdac.slim_vvc import SlimVvcDecoder, SlimVvcEncoder
from tests.hdac.make_golden import GOLDEN, STREAMS, source
from tests.hdac.streams import rewritten, units_of

by_name = pytest.mark.parametrize("name", STREAMS)


@pytest.fixture(autouse=True)
def _golden_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDAC_WEIGHTS", str(GOLDEN))


def stored(name: str) -> bytes:
    return (GOLDEN / f"{name}.hdac").read_bytes()


def test_the_stripped_stream_decodes_to_the_stored_planes() -> None:
    assert systems.decode(stored("hevc-stripped")).sha256() == (GOLDEN / "hevc-stripped.sha256").read_text().strip()


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "hevc-stripped"])
def test_streams_with_a_network_decode_to_the_stored_planes_but_for_rounding(name: str) -> None:
    shown = systems.decode(stored(name))
    with np.load(GOLDEN / f"{name}.npz") as expected:
        for plane in "yuv":
            difference = np.abs(getattr(shown, plane).astype(int) - expected[plane])
            assert difference.max() <= 1 and (difference > 0).mean() < 0.01


@by_name
def test_stored_streams_are_what_a_writer_writes(name: str) -> None:
    assert rewritten(stored(name), units_of(stored(name))) == stored(name)


@by_name
def test_stored_headers_are_what_the_codec_writes(name: str) -> None:
    codec, stream = STREAMS[name], stored(name)
    header = Reader(io.BytesIO(stream)).header_bytes
    one_frame = Reader(io.BytesIO(codec.encode(source()[:1]))).header
    said = dataclasses.replace(one_frame, stream=dataclasses.replace(one_frame.stream, n_frames=source().n_frames))
    assert said.pack() == stream[:header]


@pytest.mark.parametrize(
    ("name", "decoder", "encoder", "n_pictures"),
    [
        ("hevc-stripped", SlimHevcDecoder(), SlimHevcEncoder(), 8),
        ("hdac", SlimHevcDecoder(), SlimHevcEncoder(), 8),
        ("hdac-paper", SlimHevcDecoder(), SlimHevcEncoder(), 8),
        ("hdac-vvc", SlimVvcDecoder(32, 32), SlimVvcEncoder(32, 32), 4),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_stored_base_layers_are_what_the_stripper_makes(
    name: str, decoder: SlimHevcDecoder | SlimVvcDecoder, encoder: SlimHevcEncoder | SlimVvcEncoder, n_pictures: int
) -> None:
    pictures = [(unit.plain, unit.base) for unit in units_of(stored(name)) if unit.base is not None]
    assert len(pictures) == n_pictures
    assert [encoder.pack(nal.split(decoder.unpack(*picture))) for picture in pictures] == pictures


def test_stored_streams_hold_every_kind_of_unit() -> None:
    """Or they would guard less than they seem to."""
    units = {name: units_of(stored(name)) for name in STREAMS}
    assert {unit.strength for unit in units["hdac"]} == {0, 1, 2, 3} and all(unit.keypoints for unit in units["hdac"])
    assert {unit.plain for unit in units["hevc-stripped"]} == {True, False}
    assert [bool(unit.reference) for unit in units["hdac-paper"]] == [True, False, False, False] * 2
    said = Reader(io.BytesIO(stored("hdac-vvc"))).header
    assert (said.base_codec, said.base_every, said.base_half, said.reference_codec) == ("vvc", 2, True, "vvc")
    sizes = [len(unit.reference or b"") for unit in units["dac"]]
    assert sum(size > 1 for size in sizes) > 1 and 1 in sizes and 0 in sizes  # new ones, a return, none
    assert [bool(unit.residual) for unit in units["dac-residual"]] == [False] + 7 * [True]
    assert [bool(unit.residual) for unit in units["dac-enhanced"]] == [False] + 7 * [True]
    assert [bool(unit.residual) for unit in units["face-vid2vid"]] == [False, False, False, True, False, False, True, False]
    assert all(len(unit.residual or b"long enough, or not there") > 20 for unit in units["face-vid2vid"])
    assert sum(len(unit.keypoints or b"") > 3 for unit in units["face-vid2vid"]) > 3
    strengths = [{unit.strength for unit in units[name]} for name in ("face-vid2vid", "face-vid2vid-fade")]
    assert strengths == [{0}, {1}]
    switches = [unit.strength for unit in units["face-vid2vid-switch"] if unit.reference]
    assert len(switches) == 4 and 2 in switches[1:]  # over a reference picture that is faded in
    assert sum(bool(unit.reference) for unit in units["face-vid2vid-paper"]) > 1
    kinds = {name: {unit.reference[0] for unit in units[name] if unit.reference} for name in STREAMS if "mobile" in name}
    of_now = {"mobile": {0}, "mobile-huffman": {0}, "mobile-texture": {0}, "mobile-prior": {0, 1}}
    shipped = {"mobile-fomm": {0}, "mobile-learned": {0}, "mobile-drawn": {0}, "mobile-maps": {0, 3}, "mobile-codes": {0, 3}}
    assert kinds == {**of_now, "mobile-labels": {0, 2}, "mobile-direct": {0, 3}, "mobile-styles": {0, 3}, **shipped}
    assert all(sum(bool(unit.keypoints) for unit in units[name]) > 4 for name in shipped)
    assert sum(bool(unit.reference) for unit in units["mobile"]) > 1


def test_the_stored_files_are_small_and_no_others() -> None:
    networks = ["tiny", "tiny-heeding", "tiny-face", "tiny-tracked", "tiny-conditioned", "tiny-residual", "tiny-landmarks"]
    networks += ["tiny-segmentation", "tiny-light", "tiny-segface", "tiny-spade", "tiny-sup", "tiny-direct", "tiny-nth"]
    networks += ["tiny-bilayer", "tiny-fomm", "tiny-maps", "tiny-learned", "tiny-drawn", "tiny-codes"]
    expected = {f"{name}.{kind}" for name in networks for kind in ("safetensors", "json")} | {"hevc-stripped.sha256"}
    expected |= {f"{name}.hdac" for name in STREAMS} | {f"{name}.npz" for name in STREAMS if name != "hevc-stripped"}
    files: list[Path] = list(GOLDEN.iterdir())
    assert {path.name for path in files} == expected and sum(path.stat().st_size for path in files) < 5_300_000
