"""The cache: whole entries or none, and keys that hold all that a result depends on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from baselines.conventional import X265
from baselines.stream import Ledger
from data.errors import InputError
from rd.cache import Cache, scores_key, stream_key
from tests.clips import moving_clip


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def stored(cache: Cache) -> tuple[str, bytes]:
    codec, clip = X265(qp=40, preset="ultrafast"), moving_clip(3)
    stream = codec.encode(clip)
    key = stream_key(clip.sha256(), codec)
    cache.store_stream(key, stream, codec.ledger(stream), {"label": codec.label, "psnr_y": 30.0})
    return key, stream


def test_a_stream_comes_back_with_its_ledger(cache: Cache) -> None:
    key, stream = stored(cache)
    entry = cache.load_entry(key)
    assert entry is not None and entry["bytes"] == len(stream)
    assert entry["header_bytes"] + sum(map(sum, entry["layers"].values())) == len(stream)
    assert cache.load_stream(key) == stream


def test_key_changes_with_samples_rate_colour_settings_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, codec = moving_clip(3), X265(qp=40)
    keys = {stream_key(clip.sha256(), codec)}
    changed = clip.y.copy()
    changed[1, 2, 3] ^= 1
    for other in (
        dataclasses.replace(clip, y=changed),
        dataclasses.replace(clip, fps=clip.fps + 1),
        dataclasses.replace(clip, colour=dataclasses.replace(clip.colour, matrix="bt709")),
        clip[:2],
    ):
        keys.add(stream_key(other.sha256(), codec))
    for setting in (X265(qp=41), X265(qp=40, lean=False), X265(qp=40, i_offset=6), X265(qp=40, intra_period=32)):
        keys.add(stream_key(clip.sha256(), setting))
    monkeypatch.setattr("baselines.conventional.CODE_VERSION", 99999)
    keys.add(stream_key(clip.sha256(), codec))
    assert len(keys) == 10
    assert stream_key(clip.renamed("other").sha256(), codec) in keys  # a name is no part of the contents


def test_key_of_scores_changes_with_stream_columns_and_versions() -> None:
    first = {"psnr_y": "1", "psnr_u": "1"}
    keys = [scores_key(stream, first) for stream in "ab"]
    keys += [scores_key("a", versions) for versions in ({"vmaf": "1"}, {"psnr_y": "1"}, {"psnr_y": "1", "psnr_u": "2"})]
    assert len(set(keys)) == 5


@pytest.mark.parametrize("damage", ["flip a bit", "cut", "empty", "no json", "json of something else"])
def test_a_damaged_entry_counts_as_missing(cache: Cache, damage: str) -> None:
    key, stream = stored(cache)
    path = cache.stream_path(key)
    if damage == "flip a bit":
        path.write_bytes(bytes([stream[0] ^ 1]) + stream[1:])
    elif damage == "cut":
        path.write_bytes(stream[:-1])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no json":
        path.with_suffix(".json").write_text("{")
    else:
        path.with_suffix(".json").write_text(json.dumps([1, 2]))
    assert cache.load_entry(key) is None
    with pytest.raises(InputError, match=key):
        cache.load_stream(key)


def test_scores_come_back_with_their_gaps(cache: Cache) -> None:
    cache.store_scores("ab12", {"psnr_y": 30.5}, {"psnr_y": np.array([30.0, np.nan, 31.0])}, {"vmaf": "no model"}, 1.5)
    scores = cache.load_scores("ab12")
    assert scores is not None
    assert scores["values"] == {"psnr_y": 30.5} and scores["missing"] == {"vmaf": "no model"}
    np.testing.assert_array_equal(scores["frames"]["psnr_y"], [30.0, np.nan, 31.0])
    path = cache.scores_path("ab12")
    path.write_text(path.read_text().replace("30.5", "31.5"))
    assert cache.load_scores("ab12") is None
    assert cache.load_scores("cd34") is None


def test_ledger_totals_include_the_header() -> None:
    ledger = Ledger({"intra": np.array([9, 0]), "inter": np.array([0, 5])}, header=3)
    assert ledger.totals == {"header": 3, "intra": 9, "inter": 5}
    assert ledger.frames.tolist() == [9, 5]
