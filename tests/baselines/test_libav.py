"""Encoders inside this process: one that stalls is started anew."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from baselines import libav
from data.clip import Clip
from data.errors import ExternalCodecError
from tests.clips import moving_clip

OPTIONS = {"preset": "12", "svtav1-params": "pred-struct=1:rc=0:lp=1:qp=40"}


class Stalling:
    """Packets of an encoder that stalls behind the second one, so many times."""

    def __init__(self, stalls: int) -> None:
        self.stalls, self.begun, self.forever = stalls, 0, threading.Event()
        self.real = libav._packets

    def __call__(self, encoder: str, options: dict[str, str], clip: Clip) -> Iterator[bytes]:
        self.begun += 1
        stalls = self.begun <= self.stalls
        for n, packet in enumerate(self.real(encoder, options, clip)):
            if stalls and n == 2:
                self.forever.wait()
                return
            yield packet


@pytest.mark.parametrize(("stalls", "begun"), [(0, 1), (1, 2), (2, 3)])
def test_an_encoder_that_stalls_is_started_anew(stalls: int, begun: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = moving_clip(6, 64, 64)
    expected = libav.encode_packets("libsvtav1", OPTIONS, clip)
    stalling = Stalling(stalls)
    monkeypatch.setattr(libav, "_packets", stalling)
    monkeypatch.setattr(libav, "STALL_S", 5.0)
    assert libav.encode_packets("libsvtav1", OPTIONS, clip) == expected
    assert stalling.begun == begun and len(expected) == 6
    stalling.forever.set()


def test_one_that_always_stalls_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stalling = Stalling(99)
    monkeypatch.setattr(libav, "_packets", stalling)
    monkeypatch.setattr(libav, "STALL_S", 1.0)
    with pytest.raises(ExternalCodecError, match=r"libsvtav1 .*no picture in 1 s, 3 times"):
        libav.encode_packets("libsvtav1", OPTIONS, moving_clip(4, 64, 64))
    stalling.forever.set()


def test_what_an_encoder_refuses_is_said_from_its_thread() -> None:
    with pytest.raises(ExternalCodecError, match="libsvtav1 failed"):
        libav.encode_packets("libsvtav1", {"svtav1-params": "qp=nothing:no-such-key=1", "preset": "99"}, moving_clip(2, 64, 64))
