"""Where tests find what is not part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("HDAC_SHARED", Path(__file__).resolve().parents[2] / "shared"))
TEST_CLIPS = SHARED / "data" / "talkingheads" / "test"
TRAIN_CLIPS = SHARED / "data" / "talkingheads" / "train"
METRIC_WEIGHTS = SHARED / "weights"

needs_shared = pytest.mark.skipif(
    not TEST_CLIPS.is_dir() or not METRIC_WEIGHTS.is_dir(),
    reason=f"the clips and metric weights are not part of the repository and not at {SHARED}",
)
