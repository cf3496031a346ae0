"""What tests of several folders set up alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.paths import METRIC_WEIGHTS


@pytest.fixture
def no_metric_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, empty, where weights of metric networks are looked for; and no leave to download."""
    monkeypatch.setenv("HDAC_METRIC_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HDAC_CACHE", str(tmp_path))
    monkeypatch.delenv("HDAC_DOWNLOAD", raising=False)
    return tmp_path


@pytest.fixture
def shared_metric_weights(no_metric_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beside the repository, for tests that are marked `needs_shared`."""
    monkeypatch.setenv("HDAC_METRIC_WEIGHTS", str(METRIC_WEIGHTS))
