"""What tests of the layered codecs set up alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hdac.nets import save_tiny


@pytest.fixture
def tiny_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where weights are looked for, with those of the network "tiny"."""
    monkeypatch.setenv("HDAC_WEIGHTS", str(tmp_path))
    save_tiny(tmp_path)
    return tmp_path
