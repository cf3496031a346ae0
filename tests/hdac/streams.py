"""Streams of the `.hdac` container taken apart and put together again, for tests."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace

import pytest

from hdac.codecs.refresh import ResidualRule
from hdac.codecs.residual import ALL
from hdac.container import LayeredHeader, Reader, Unit, Writer


def units_of(stream: bytes) -> list[Unit]:
    return [received.unit for received in Reader(io.BytesIO(stream)).units()]


def written(header: LayeredHeader, units: Iterable[Unit]) -> bytes:
    """The stream of these units, with its checksums."""
    writer = Writer(header)
    return writer.header + b"".join(map(writer.add, units)) + writer.finish()


def rewritten(stream: bytes, units: Iterable[Unit]) -> bytes:
    """A stream with the same header and other units."""
    return written(Reader(io.BytesIO(stream)).header, units)


def at_all_strengths(stream: bytes) -> bytes:
    """An H-DAC stream that shows its frames at the strengths 0, 1, 2, 3, 0, .. of the networks' correction."""
    return rewritten(stream, (replace(unit, strength=t % 4) for t, unit in enumerate(units_of(stream))))


def always_send_residuals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of networks that were not trained, no residual pays: send one in every frame, whole, as far as the chain of them may
    be."""
    monkeypatch.setattr(ResidualRule, "lacks", lambda self, error, switching=False: True)
    monkeypatch.setattr(ResidualRule, "multiplier", ALL)

    def cheapest(self: ResidualRule, error: float, options: dict[str, tuple[int, float]]) -> str:
        """A residual, or what is possible without."""
        return next(name for name in ("residual", "nothing", "picture") if name in options)

    monkeypatch.setattr(ResidualRule, "cheapest", cheapest)
