"""What tests of the layered codecs set up alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hdac.nets import save_tiny
from tests.hdac.streams import always_send_residuals


@pytest.fixture
def tiny_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where weights are looked for, with those of the tiny networks (`tests.hdac.nets.save_tiny`)."""
    monkeypatch.setenv("HDAC_WEIGHTS", str(tmp_path))
    save_tiny(tmp_path)
    return tmp_path


@pytest.fixture
def residuals_always_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """See `tests.hdac.streams.always_send_residuals`."""
    always_send_residuals(monkeypatch)
