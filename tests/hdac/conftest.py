"""What tests of the layered codecs set up alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from hdac.codecs.refresh import ResidualRule
from hdac.codecs.residual import ALL
from tests.hdac.nets import save_tiny


@pytest.fixture
def tiny_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where weights are looked for, with those of the tiny networks (`tests.hdac.nets.save_tiny`)."""
    monkeypatch.setenv("HDAC_WEIGHTS", str(tmp_path))
    save_tiny(tmp_path)
    return tmp_path


@pytest.fixture
def residuals_always_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of networks that were not trained, no residual pays: send one in every frame, whole, as far as the chain of them may
    be."""
    monkeypatch.setattr(ResidualRule, "lacks", lambda self, error, switching=False: True)
    monkeypatch.setattr(ResidualRule, "multiplier", ALL)

    def cheapest(self: ResidualRule, error: float, options: dict[str, tuple[int, float]]) -> str:
        """A residual, or what is possible without."""
        return next(name for name in ("residual", "nothing", "picture") if name in options)

    monkeypatch.setattr(ResidualRule, "cheapest", cheapest)
