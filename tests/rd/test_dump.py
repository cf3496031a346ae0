"""Dumps of a real small sweep: what is shown is what the stored streams decode to, at rates that are truly near."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from baselines.conventional import X265
from data.clip import Clip, Plane
from data.io import write_clip
from hdac.codecs.view import View
from hdac.systems import decode
from rd import dump, sweep
from rd.cache import Cache
from rd.dump_layout import GUTTER_PX, MARGIN_PX
from rd.isolate import JobCrashed
from rd.table import read_points
from tests.clips import moving_clip, psnr_y

PLUGIN = str(Path(__file__).with_name("faulty.py"))
WORST = 9
CODECS = ("quick", "ladder")


def noisy_frame(clip: Clip, t: int) -> Clip:
    """The clip with noise over one frame, which no codec has the bits for."""
    y = clip.y.copy()
    y[t] = np.random.default_rng(t).integers(0, 256, y[t].shape, dtype=np.uint8)
    return replace(clip, y=y)


SOURCES = {
    "long": noisy_frame(moving_clip(40, 128, 64, Fraction(30000, 1001), seed=1), WORST),
    "short": moving_clip(6, 128, 64, seed=2),
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a sweep with its cache. Tests that dump into it do so one after the other."""
    folder = tmp_path_factory.mktemp("sweep")
    for name, clip in SOURCES.items():
        write_clip(clip, folder / "clips" / f"{name}.y4m")
    arguments = ["--sequences", str(folder / "clips"), "--codecs", *CODECS, "--plugin", PLUGIN, "--metrics", "psnr_y"]
    assert sweep.main([*arguments, "--jobs", "2", "--no-report", "--out", str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def index(out: Path) -> Iterator[dict[tuple[str, str], dict[str, Any]]]:
    """The entries of the dumps of the whole sweep at its default rates, by sequence and regime."""
    assert dump.main([str(out)]) == 0
    entries = json.loads((out / "dumps" / "index.json").read_text())
    kept = out.parent / "dumps"
    (out / "dumps").rename(kept)  # later dumps go elsewhere
    yield {(entry["sequence"], entry["regime"]): {**entry, "folder": kept} for entry in entries}


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "encodes.log"
    path.touch()
    monkeypatch.setenv("HDAC_TEST_LOG", str(path))
    return path


def encodes(log: Path) -> int:
    return len(log.read_text().splitlines())


def stream_of(out: Path, sequence: str, shown: dict[str, Any]) -> bytes:
    """The stream in the cache that an entry of the index speaks of, found by its setting and rate."""
    seconds = float(SOURCES[sequence].seconds)
    cache = Cache(out / "cache")
    for path in (out / "cache" / "streams").rglob("*.json"):
        entry = cache.load_entry(path.stem)
        assert entry is not None
        if entry["label"] == shown["setting"] and round(8 * entry["bytes"] / seconds / 1000, 3) == shown["kbps"]:
            return cache.load_stream(entry["key"])
    raise AssertionError(f"no stream of {shown['setting']} at {shown['kbps']} kbit/s")


def tops(page: Plane, picture: Plane, left: int) -> list[int]:
    """Rows at which the picture stands on the page, pixel by pixel, with its left edge at that column."""
    h, w = picture.shape[:2]
    column = page[:, left : left + w]
    return [y for y in range(page.shape[0] - h + 1) if np.array_equal(column[y : y + h], picture)]


# -- the index ---------------------------------------------------------------------------------------------------------


def test_every_sequence_and_regime_has_an_entry_with_its_files_and_codecs(
    index: dict[tuple[str, str], dict[str, Any]],
) -> None:
    assert set(index) == {(name, regime) for name in SOURCES for regime in ("one-intra", "short-gop")}
    for (name, regime), entry in index.items():
        assert [codec["codec"] for codec in entry["codecs"]] == list(CODECS)
        assert (entry["strip"], entry["video"]) == (f"{name}.{regime}.png", f"{name}.{regime}.mp4")
    folder = next(iter(index.values()))["folder"]
    written = {entry[key] for entry in index.values() for key in ("strip", "video")}
    assert {path.name for path in folder.iterdir()} == {*written, "index.json"}


def test_target_is_the_lowest_rate_that_all_codecs_reach(out: Path, index: dict[tuple[str, str], dict[str, Any]]) -> None:
    points = read_points(out)
    for (name, regime), entry in index.items():
        rows = points[(points["sequence"] == name) & (points["regime"] == regime)]
        lowest = [rows[rows["codec"] == codec]["kbps"].min() for codec in CODECS]
        assert entry["target_kbps"] == round(max(lowest), 3)


def test_rates_are_within_5_percent_of_the_target_where_it_says_so(index: dict[tuple[str, str], dict[str, Any]]) -> None:
    for entry in index.values():
        for codec in entry["codecs"]:
            distance = abs(codec["kbps"] / entry["target_kbps"] - 1)
            assert codec["within_5_percent"] == (distance <= 0.05)
        assert all(codec["within_5_percent"] for codec in entry["codecs"])  # a QP step of x265 is finer than that here


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_strip_shows_the_decoded_frames_pixel_by_pixel_in_their_place(
    out: Path, index: dict[tuple[str, str], dict[str, Any]]
) -> None:
    for (name, _), entry in index.items():
        page = np.asarray(Image.open(entry["folder"] / entry["strip"]))
        clips = [SOURCES[name], *(decode(stream_of(out, name, codec)) for codec in entry["codecs"])]
        rows = [tops(page, SOURCES[name].rgb(slice(t, t + 1))[0], MARGIN_PX) for t in entry["frames"]]
        assert all(len(found) == 1 for found in rows)
        assert rows == sorted(rows)  # from top to bottom by frame number
        for column, clip in enumerate(clips):
            left = MARGIN_PX + column * (128 + GUTTER_PX)
            for t, (top,) in zip(entry["frames"], rows, strict=True):
                picture = clip.rgb(slice(t, t + 1))[0]
                assert np.array_equal(page[top : top + 64, left : left + 128], picture)


def test_frames_are_the_middle_the_worst_and_those_around_the_refresh(
    out: Path, index: dict[tuple[str, str], dict[str, Any]]
) -> None:
    for (name, regime), entry in index.items():
        source = SOURCES[name]
        decoded = [decode(stream_of(out, name, codec)) for codec in entry["codecs"]]
        quality = [np.mean([psnr_y(source[t : t + 1], clip[t : t + 1]) for clip in decoded]) for t in range(source.n_frames)]
        expected = {source.n_frames // 2, int(np.argmin(quality))}
        if name == "long":
            assert int(np.argmin(quality)) == WORST
            expected |= {31, 32} if regime == "short-gop" else set()
        assert entry["frames"] == sorted(expected)


def test_video_has_the_clips_frame_count_and_rate(index: dict[tuple[str, str], dict[str, Any]]) -> None:
    for (name, _), entry in index.items():
        with av.open(str(entry["folder"] / entry["video"])) as container:
            stream = container.streams.video[0]
            assert stream.average_rate == SOURCES[name].fps
            frames = list(container.decode(stream))
        assert len(frames) == SOURCES[name].n_frames
        assert frames[0].width >= 3 * 128


# -- rates between the points ------------------------------------------------------------------------------------------


def test_a_rate_between_the_points_is_coded_once_and_then_found(out: Path, log: Path) -> None:
    rates = read_points(out).query("sequence == 'short' and codec == 'quick' and regime == 'one-intra'")["kbps"]
    low, high = sorted(rates)
    target = (low * high) ** 0.5
    assert target / low > 1.2  # no point is near
    command = [str(out), "--sequences", "short", "--regime", "one-intra", "--kbps", str(target), "--no-video"]
    assert dump.main([*command, "--codecs", "quick"]) == 0
    first = encodes(log)
    assert 1 <= first <= dump.MAX_ENCODES + 6
    (entry,) = json.loads((out / "dumps" / "index.json").read_text())
    (shown,) = entry["codecs"]
    assert shown["within_5_percent"] and abs(shown["kbps"] / target - 1) <= 0.05
    assert entry["video"] is None and not list((out / "dumps").glob("*.mp4"))
    assert psnr_y(SOURCES["short"], decode(stream_of(out, "short", shown))) == pytest.approx(shown["psnr_y"], abs=0.1)

    assert dump.main([*command, "--codecs", "quick"]) == 0
    assert encodes(log) == first
    assert json.loads((out / "dumps" / "index.json").read_text()) == [entry]


def test_a_rate_that_no_setting_reaches_is_shown_at_the_closest_and_said(out: Path) -> None:
    command = [str(out), "--sequences", "short", "--regime", "one-intra", "--codecs", "quick", "--no-video"]
    assert dump.main([*command, "--kbps", "1"]) == 0
    (entry,) = json.loads((out / "dumps" / "index.json").read_text())
    (shown,) = entry["codecs"]
    assert not shown["within_5_percent"] and shown["kbps"] > 1.05
    lowest = read_points(out).query("sequence == 'short' and regime == 'one-intra' and codec == 'ladder'")["kbps"].min()
    assert shown["kbps"] <= lowest + 0.001  # it went beyond its own points, to the standard's last quantisers


def test_an_extra_encode_that_fails_leaves_the_closest_stream(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(*_: object) -> None:
        raise JobCrashed("the process of the job died (SIGSEGV)")

    monkeypatch.setattr(dump, "submit_job", crash)
    command = [str(out), "--sequences", "short", "--regime", "one-intra", "--codecs", "ladder", "--no-video"]
    assert dump.main([*command, "--kbps", "3000"]) == 0
    said = capsys.readouterr().err
    assert said.startswith("failed: ladder on short near 3000.00 kbps: ") and said.count("\n") == 1
    (entry,) = json.loads((out / "dumps" / "index.json").read_text())
    highest = read_points(out).query("sequence == 'short' and codec == 'ladder' and regime == 'one-intra'")["kbps"].max()
    assert entry["codecs"][0]["kbps"] == round(highest, 3) and not entry["codecs"][0]["within_5_percent"]


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "name", "there"),
    [("--sequences", "nobody", "long"), ("--codecs", "vvc", "quick"), ("--regime", "all-intra", "short-gop")],
)
def test_names_that_are_not_in_the_sweep_are_one_line_of_error(
    out: Path, capsys: pytest.CaptureFixture[str], option: str, name: str, there: str
) -> None:
    assert dump.main([str(out), option, name]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert repr(name) in said and there in said


def test_a_cache_without_the_streams_is_named(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dump.main([str(out), "--cache", str(tmp_path / "empty"), "--sequences", "short"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and str(tmp_path / "empty") in said and said.count("\n") == 1


def test_a_folder_without_a_sweep_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dump.main([str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and str(tmp_path) in said and said.count("\n") == 1


# -- units -------------------------------------------------------------------------------------------------------------


def quality(n_frames: int, worst: int, codecs: int = 2) -> NDArray[np.float64]:
    """PSNR of that many codecs; the worst frame is so on average only."""
    psnr = np.full((codecs, n_frames), 35.0)
    psnr[:, worst] = 30 + 4 * (-1.0) ** np.arange(codecs)
    psnr[0, (worst + 1) % n_frames] = 27.0 if n_frames > 1 else 35.0
    return psnr


@pytest.mark.parametrize(
    ("n_frames", "worst", "regime", "chosen"),
    [
        (1, 0, "short-gop", [0]),
        (32, 3, "short-gop", [3, 16]),  # there is no refresh in 32 frames
        (33, 3, "short-gop", [3, 16, 31, 32]),
        (33, 3, "one-intra", [3, 16]),
        (100, 32, "short-gop", [31, 32, 50]),
        (100, 50, "one-intra", [50]),
    ],
)
def test_chosen_frames(n_frames: int, worst: int, regime: str, chosen: list[int]) -> None:
    assert dump.choose_frames(quality(n_frames, worst), regime) == chosen


@pytest.mark.parametrize(
    ("rates", "common"),
    [
        ({"a": [30, 8, 20], "b": [12, 40]}, 12),  # b does not go lower
        ({"a": [1, 8], "b": [2, 9]}, dump.LEAST_KBPS),
        ({"a": [7.5]}, 7.5),
    ],
)
def test_common_rate_is_what_every_codec_reaches(rates: dict[str, list[float]], common: float) -> None:
    rows = pd.DataFrame([{"codec": codec, "kbps": rate} for codec, some in rates.items() for rate in some])
    assert dump.common_rate(rows) == common


def test_a_codec_that_shows_faces_from_elsewhere_gets_a_picture_of_that(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def turned(codec: X265, stream: bytes, view: View, wanted: list[int]) -> Clip:
        clip = codec.decode(stream)
        level = 100 + view.angles[0] + 2 * view.angles[1]  # stands for a network
        grey = np.full_like(clip.u[wanted], 128)
        return replace(clip, y=np.full_like(clip.y[wanted], level), u=grey, v=grey)

    monkeypatch.setattr(X265, "decode_view", turned, raising=False)
    (entry,) = dump.write_dumps(out, out / "cache", ["short"], ["one-intra"], ["ladder"], video=False, plugins=[PLUGIN])
    assert entry["views"] == ["short.one-intra.ladder.views.png"]
    page = np.asarray(Image.open(out / "dumps" / entry["views"][0]))
    assert page.shape[1] == 2 * MARGIN_PX + (1 + len(dump.VIEWS)) * (128 + GUTTER_PX) - GUTTER_PX
    middle = page[-MARGIN_PX - GUTTER_PX - 32]
    seen = [middle[MARGIN_PX + i * (128 + GUTTER_PX) :][:128].mean() for i in range(7)]
    assert seen[1:] == pytest.approx([(y - 16) * 255 / 219 for y in (80, 90, 110, 120, 124, 76)], abs=1.5)
