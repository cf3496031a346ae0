"""The weights that ship: small enough, with model cards that say where they are from, and each of them codes a picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hdac import systems, weights
from hdac.codecs.mobile import Mobile
from hdac.families import LAYERED, MOBILE
from tests.clips import moving_clip, psnr_y

SHIPPED = sorted(Path(weights.__file__).parent.glob("*.safetensors"))
MAX_BYTES = 60_000_000

pytestmark = pytest.mark.usefixtures("shipped_weights")


@pytest.fixture
def shipped_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """No others."""
    monkeypatch.delenv("HDAC_WEIGHTS", raising=False)


def test_all_weights_together_stay_small() -> None:
    assert len(SHIPPED) > 20 and sum(path.stat().st_size for path in SHIPPED) < MAX_BYTES


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_card_says_what_weights_were_trained_on_and_how_well(path: Path) -> None:
    card = json.loads(path.with_suffix(".json").read_text())
    assert {"network", "parameters", "data", "machine", "steps", "hours", "held_out"} <= set(card)
    assert card["network"] == path.stem and card["parameters"] > 1000 and card["steps"] > 0 and card["held_out"]


def test_no_network_of_the_family_is_missing_nor_any_weights_for_nothing() -> None:
    used = {name for family in LAYERED.values() for name in family.networks}
    assert not [name for name in MOBILE if LAYERED[name].missing()]
    assert {path.stem for path in SHIPPED} - used <= {"residual", "landmarks"}


@pytest.mark.parametrize("name", ["ultralight-5", "motion-spade-10u", "nth", "segface-48", "frontalizer-expr"])
def test_a_network_of_every_kind_codes_a_clip(name: str) -> None:
    (codec,) = LAYERED[name].candidates("one-intra", 1)
    assert isinstance(codec, Mobile)
    clip = moving_clip(3, 128, 128)
    shown = systems.decode(replace(codec, qp=30).encode(clip))
    assert shown.n_frames == 3 and psnr_y(clip[:1], shown[:1]) > 28
