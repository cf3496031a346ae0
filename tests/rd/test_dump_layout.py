"""Dump pictures and videos: pixels land where they belong, errors get the right colours, files are what they say."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import matplotlib
import numpy as np
import pytest
from PIL import Image

from data.clip import Clip, Plane
from data.errors import InputError
from rd.dump_layout import GUTTER_PX, MARGIN_PX, MOST_COLUMNS, error_map, grid, side_by_side, strip, write_png, write_video


def frames(k: int = 2, height: int = 136, width: int = 144, seed: int = 0) -> Plane:
    return np.random.default_rng(seed).integers(0, 256, (k, height, width, 3), dtype=np.uint8)


def contains(page: Plane, picture: Plane, left: int) -> bool:
    """Whether the picture stands on the page, pixel by pixel, with its left edge at that column."""
    h, w = picture.shape[:2]
    column = page[:, left : left + w]
    return any(np.array_equal(column[y : y + h], picture) for y in range(page.shape[0] - h + 1))


def test_strip_holds_source_and_codec_frames_pixel_by_pixel() -> None:
    source, a, b = frames(seed=1), frames(seed=2), frames(seed=3)
    page = strip([("hevc\n10.1 kbps, 33.2 dB", a), ("vvc", b)], source, [0, 31])
    for i, column in enumerate((source, a, b)):
        for picture in column:
            assert contains(page, picture, MARGIN_PX + i * (144 + GUTTER_PX))


def test_many_codecs_are_below_each_other_each_beside_the_source() -> None:
    source = frames(seed=100)
    rows = [(f"codec {i}", frames(seed=i)) for i in range(MOST_COLUMNS + 3)]
    page = strip(rows, source, [0, 31])
    upper, lower = np.split(page, 2)
    assert page.shape[1] == strip(rows[:6], source, [0, 31]).shape[1], "6 and 5 of 11"
    for band, shown in ((upper, rows[:6]), (lower, rows[6:])):
        for i, column in enumerate((source, *(one for _, one in shown))):
            for picture in column:
                assert contains(band, picture, MARGIN_PX + i * (144 + GUTTER_PX))


def test_a_grid_holds_all_frames_pixel_by_pixel_and_refuses_what_does_not_match() -> None:
    a, b = frames(seed=1), frames(seed=2)
    page = grid([("as it is", a), ("20 deg left", b)], [3, 9])
    for i, column in enumerate((a, b)):
        for picture in column:
            assert contains(page, picture, MARGIN_PX + i * (144 + GUTTER_PX))
    with pytest.raises(InputError, match="20 deg left"):
        grid([("as it is", a), ("20 deg left", b[:1])], [3, 9])


def test_error_maps_of_all_codecs_share_one_scale() -> None:
    source = np.full((1, 136, 144, 3), 100, np.uint8)
    page = strip([("a", source + 10), ("b", source + 40), ("exact", source)], source, [7], error_peak=40)
    colours = matplotlib.colormaps["inferno"](np.array([round(10 / 40 * 255), 255, 0]), bytes=True)[:, :3]
    for i, colour in enumerate(colours):
        assert contains(page, np.broadcast_to(colour, (136, 144, 3)), MARGIN_PX + (i + 1) * (144 + GUTTER_PX))


def test_error_colours_grow_lighter_with_the_error_and_saturate() -> None:
    row = error_map(np.array([[0.0, 8.0, 16.0, 32.0, 64.0, 300.0]]), peak=64)[0]
    lightness = row @ np.array([0.299, 0.587, 0.114])
    assert np.all(np.diff(lightness[:5]) > 0) and np.array_equal(row[4], row[5])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 16), (33, 47), (90, 1080), (1080, 1920)])
def test_any_size_makes_a_strip_and_a_grid_of_moderate_size(height: int, width: int) -> None:
    source = frames(1, height, width)
    page = strip([("codec", source)], source, [0])
    assert page.dtype == np.uint8 and page.shape[2] == 3 and page.shape[1] <= 2 * 520 + 2 * MARGIN_PX
    picture = next(side_by_side([("codec", Clip.from_rgb(source, Fraction(25)))] * 5))
    assert picture.shape[0] % 2 == 0 and picture.shape[1] % 2 == 0


def test_labels_stay_inside_their_column() -> None:
    source = frames(1)
    plain = strip([("x", source), ("x", source)], source, [0])
    labelled = strip([("a very long name " * 6 + "w" * 200, source), ("x", source)], source, [0])
    second = MARGIN_PX + 2 * (144 + GUTTER_PX)
    assert labelled.shape[0] > plain.shape[0]
    head = labelled.shape[0] - plain.shape[0]
    assert np.array_equal(labelled[head + MARGIN_PX + 40 :, second:], plain[MARGIN_PX + 40 :, second:])
    assert (labelled[MARGIN_PX + 20 : head, second - GUTTER_PX :] == 255).all()


def test_strip_refuses_frames_that_do_not_match() -> None:
    with pytest.raises(InputError, match="'vvc'"):
        strip([("vvc", frames(1))], frames(2), [0, 1])
    with pytest.raises(InputError, match="1 frame numbers for 2 frames"):
        strip([], frames(2), [0])
    with pytest.raises(InputError, match="float64"):
        strip([], frames(1).astype(float), [0])


def test_video_grid_shows_each_clip_in_its_cell() -> None:
    colours = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (128, 128, 128), (240, 240, 20)]
    clips = [
        (f"{i}", Clip.from_rgb(np.full((3, 136, 144, 3), colour, np.uint8), Fraction(25)))
        for i, colour in enumerate(colours)
    ]
    pictures = list(side_by_side(clips))
    assert len(pictures) == 3
    height, width = pictures[0].shape[:2]
    assert width == 3 * (144 + GUTTER_PX) + GUTTER_PX  # five clips: three above, two below
    for i, colour in enumerate(colours):
        x = GUTTER_PX + (i % 3) * (144 + GUTTER_PX) + 72
        y = (height // 2) * (i // 3) + height // 4 + 20
        np.testing.assert_allclose(pictures[2][y, x].astype(int), colour, atol=3)


def test_clips_of_different_shape_are_refused_at_once() -> None:
    a, b = Clip.from_rgb(frames(2), Fraction(25)), Clip.from_rgb(frames(3), Fraction(25))
    with pytest.raises(InputError, match="'b'"):
        side_by_side([("a", a), ("b", b)])
    with pytest.raises(InputError, match="no clips"):
        side_by_side([])


def test_video_plays_back_with_count_rate_colours_and_index_in_front(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 96)
    picture = np.stack(np.broadcast_arrays(ramp[None, :], ramp[:64, None], 200.0), -1).round().astype(np.uint8)
    fps = Fraction(30000, 1001)
    path = tmp_path / "videos" / "a.mp4"
    write_video([np.roll(picture, t, axis=1) for t in range(7)], fps, path)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == fps
        decoded = list(container.decode(video=0))
    assert len(decoded) == 7 and decoded[0].format.name == "yuv420p"
    y, u, v = np.split(decoded[3].to_ndarray().ravel(), [64 * 96, 64 * 96 * 5 // 4])
    clip = Clip.from_yuv_bytes(b"".join(p.tobytes() for p in (y, u, v)), 96, 64, fps)
    expected = Clip.from_rgb(np.roll(picture, 3, axis=1)[None], fps)
    assert np.abs(clip.y.astype(int) - expected.y).mean() < 2
    assert np.abs(clip.u.astype(int) - expected.u).mean() < 2
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert [p.name for p in path.parent.iterdir()] == ["a.mp4"]


def test_failed_video_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    for wrong in ([], [np.zeros((63, 64, 3), np.uint8)], [np.zeros((64, s, 3), np.uint8) for s in (64, 32)]):
        with pytest.raises(InputError):
            write_video(wrong, Fraction(25), path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_png_is_lossless(tmp_path: Path) -> None:
    picture = frames(1)[0]
    write_png(picture, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as read:
        assert np.array_equal(np.asarray(read), picture)
