"""Pictures and videos to look at: source, decoded clips and error maps side by side, labelled.

Only layout is here: what comes in are decoded frames and the words to put on them, what goes out are RGB pixels.

    strip:         header   source       hevc         vvc             side_by_side, each frame:
                            4.9 kbps ..  5.1 kbps ..                    source    hevc     vvc
                   frame 3  picture      picture      picture           picture   picture  picture
                            scale        |error|      |error|
                   frame 57 ..

    Of more than MOST_COLUMNS codecs one such strip is below the other.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from data.clip import MATRICES, Clip, Plane
from data.errors import InputError
from data.files import atomic_path, write_atomic

GUTTER_PX = 4
MARGIN_PX = 10
FONT_PX = 14
LINE_PX = 18
LEAST_CELL_PX = 128  # chosen: narrower pictures are zoomed, so that a label has room
MOST_CELL_PX = 512  # chosen: wider pictures are scaled down
MOST_COLUMNS = 8  # chosen: more codecs than these go below each other, each band with the source
PAPER, INK, MUTED = (255, 255, 255), (20, 22, 25), (95, 101, 110)
ERROR_COLOURS = "inferno"  # matplotlib's: perceptually uniform, black where there is no error
VIDEO_CRF = 14  # chosen: no visible loss beside clips of 2 to 60 kbit/s


def strip(
    rows: Sequence[tuple[str, Plane]], source: Plane, frame_numbers: Sequence[int], error_peak: int | None = None
) -> Plane:
    """Chosen frames as one picture: a column for the source and one per codec, under each codec's frame its error map.

    rows:          (label, frames) of each codec; frames are uint8 (k, H, W, 3) R'G'B', the chosen ones only. The label
                   may have several lines: "hevc", "10.1 kbps, 33.2 dB", ..
    source:        uint8 (k, H, W, 3), the same frames of the source.
    frame_numbers: k numbers to print.
    error_peak:    absolute luma error, in 8-bit levels, that gets the last colour; one scale for the whole picture, its
                   legend under the source. None: the 99.5th percentile of all errors, rounded up to a multiple of 8.
    Returns uint8 (h, w, 3). Pictures between LEAST_CELL_PX and MOST_CELL_PX wide are kept pixel by pixel.
    Raises InputError where frames do not match the source.
    """
    _check_frames("source", source)
    if len(frame_numbers) != len(source):
        raise InputError(f"{len(frame_numbers)} frame numbers for {len(source)} frames")
    for label, frames in rows:
        if frames.shape != source.shape or frames.dtype != np.uint8:
            raise InputError(
                f"frames of {label!r} are {frames.dtype} {frames.shape}, those of the source {source.shape}"
            )

    errors = [np.abs(_luma(frames) - _luma(source)) for _, frames in rows]
    if error_peak is None:
        typical = max((float(np.percentile(error, 99.5)) for error in errors), default=0.0)
        error_peak = max(8, 8 * int(np.ceil(typical / 8)))
    if len(rows) > MOST_COLUMNS:
        n_bands = -(-len(rows) // MOST_COLUMNS)
        ends = [-(-len(rows) * band // n_bands) for band in range(n_bands + 1)]
        bands = [strip(rows[a:b], source, frame_numbers, error_peak) for a, b in zip(ends, ends[1:], strict=False)]
        width = max(band.shape[1] for band in bands)
        blank = [((0, 0), (0, width - band.shape[1]), (0, 0)) for band in bands]
        padded = [np.pad(band, edges, constant_values=255) for band, edges in zip(bands, blank, strict=True)]
        return np.concatenate(padded)
    cell_w, cell_h = _cell_size(source.shape[2], source.shape[1])
    labels = [_wrap(label, cell_w - GUTTER_PX) for label in ("source", *(label for label, _ in rows))]
    head = LINE_PX * max(len(lines) for lines in labels) + GUTTER_PX
    block = LINE_PX + cell_h + (GUTTER_PX + cell_h + LINE_PX if rows else 0) + 2 * GUTTER_PX
    width = 2 * MARGIN_PX + len(labels) * (cell_w + GUTTER_PX) - GUTTER_PX
    page = Image.new("RGB", (width, 2 * MARGIN_PX + head + len(source) * block), PAPER)
    draw = ImageDraw.Draw(page)

    lefts = [MARGIN_PX + i * (cell_w + GUTTER_PX) for i in range(len(labels))]
    for left, lines in zip(lefts, labels, strict=True):
        for i, line in enumerate(lines):
            draw.text((left, MARGIN_PX + i * LINE_PX), line, INK if i == 0 else MUTED, _font())
    for k, frame_number in enumerate(frame_numbers):
        top = MARGIN_PX + head + k * block
        draw.text((lefts[0], top), f"frame {frame_number}", INK, _font())
        top += LINE_PX
        page.paste(_scaled(source[k], cell_w, cell_h), (lefts[0], top))
        below = top + cell_h + GUTTER_PX
        if rows:
            _draw_legend(page, lefts[0], below, cell_w, cell_h, error_peak)
        for left, (_, frames), error in zip(lefts[1:], rows, errors, strict=True):
            page.paste(_scaled(frames[k], cell_w, cell_h), (left, top))
            page.paste(_scaled(error_map(error[k], error_peak), cell_w, cell_h), (left, below))
            draw.text((left, below + cell_h + 1), f"mean |error| {error[k].mean():.2f}", MUTED, _font())
    return np.asarray(page)


def grid(columns: Sequence[tuple[str, Plane]], frame_numbers: Sequence[int]) -> Plane:
    """Chosen frames as one picture: a column for each of (label, frames), a row for each frame.

    frames: uint8 (k, H, W, 3), of all columns alike. frame_numbers: k numbers to print.
    Returns uint8 (h, w, 3). Raises InputError where columns differ in shape.
    """
    first = columns[0][1]
    for label, frames in columns:
        _check_frames(label, frames)
        if frames.shape != first.shape or len(frame_numbers) != len(frames):
            raise InputError(f"{label!r}: {frames.shape}, the first one {first.shape}, {len(frame_numbers)} frame numbers")
    cell_w, cell_h = _cell_size(first.shape[2], first.shape[1])
    labels = [_wrap(label, cell_w) for label, _ in columns]
    head = LINE_PX * max(map(len, labels)) + GUTTER_PX
    block = LINE_PX + cell_h + GUTTER_PX
    width = 2 * MARGIN_PX + len(columns) * (cell_w + GUTTER_PX) - GUTTER_PX
    page = Image.new("RGB", (width, 2 * MARGIN_PX + head + len(frame_numbers) * block), PAPER)
    draw = ImageDraw.Draw(page)
    for column, (lines, (_, frames)) in enumerate(zip(labels, columns, strict=True)):
        left = MARGIN_PX + column * (cell_w + GUTTER_PX)
        for i, line in enumerate(lines):
            draw.text((left, MARGIN_PX + i * LINE_PX), line, INK if i == 0 else MUTED, _font())
        for k, frame_number in enumerate(frame_numbers):
            top = MARGIN_PX + head + k * block
            if column == 0:
                draw.text((left, top), f"frame {frame_number}", INK, _font())
            page.paste(_scaled(frames[k], cell_w, cell_h), (left, top + LINE_PX))
    return np.asarray(page)


def error_map(error: NDArray[np.float64], peak: int) -> Plane:
    """Absolute errors (H, W) as colours, uint8 (H, W, 3): black at 0, the last colour from `peak` on."""
    level = np.clip(np.rint(error * (255.0 / peak)), 0, 255).astype(np.uint8)
    return _error_colours()[level]


def side_by_side(clips: Sequence[tuple[str, Clip]]) -> Iterator[Plane]:
    """The frames of a video that shows clips next to each other under their labels; more than four go into a grid.

    clips: (label, clip), all of one size, length and frame rate.
    Yields uint8 (h, w, 3), h and w even. Raises InputError, at once, where clips differ in shape.
    """
    if not clips:
        raise InputError("no clips to show side by side")
    first = clips[0][1]
    for label, clip in clips:
        if clip.y.shape != first.y.shape or clip.fps != first.fps:
            raise InputError(f"{label!r} is {clip!r}, the first one {first!r}: they cannot play side by side")
    return _side_by_side(clips)


def _side_by_side(clips: Sequence[tuple[str, Clip]]) -> Iterator[Plane]:
    first = clips[0][1]
    n_rows = -(-len(clips) // 4)
    n_columns = -(-len(clips) // n_rows)
    cell_w, cell_h = _cell_size(first.width, first.height)
    labels = [_wrap(label, cell_w) for label, _ in clips]
    head = LINE_PX * max(len(lines) for lines in labels) + GUTTER_PX
    width = n_columns * (cell_w + GUTTER_PX) + GUTTER_PX
    height = n_rows * (head + cell_h + GUTTER_PX) + GUTTER_PX
    page = Image.new("RGB", (width + width % 2, height + height % 2), PAPER)
    draw = ImageDraw.Draw(page)
    corners = []
    for i, lines in enumerate(labels):
        left = GUTTER_PX + i % n_columns * (cell_w + GUTTER_PX)
        top = GUTTER_PX + i // n_columns * (head + cell_h + GUTTER_PX)
        for j, line in enumerate(lines):
            draw.text((left, top + j * LINE_PX), line, INK if j == 0 else MUTED, _font())
        corners.append((left, top + head))
    for t in range(first.n_frames):
        for (_, clip), corner in zip(clips, corners, strict=True):
            page.paste(_scaled(clip.rgb(slice(t, t + 1))[0], cell_w, cell_h), corner)
        yield np.array(page)


def write_png(picture: Plane, path: str | os.PathLike[str]) -> None:
    """Writes uint8 (h, w, 3) as PNG, atomically."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    write_atomic(path, buffer.getvalue())


def write_video(frames: Iterable[Plane], fps: Fraction, path: str | os.PathLike[str], crf: int = VIDEO_CRF) -> None:
    """Writes R'G'B' frames as H.264 in MP4 for looking at: yuv420p, BT.601 limited range, index in front; atomically.

    frames: uint8 (h, w, 3), h and w even, all of one size. Raises InputError for other frames, or none.
    """
    with atomic_path(path) as temporary:
        _encode(frames, fps, temporary, crf)


def _encode(frames: Iterable[Plane], fps: Fraction, path: Path, crf: int) -> None:
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = None
        for frame in frames:
            if stream is None:
                if frame.ndim != 3 or frame.shape[0] % 2 or frame.shape[1] % 2:
                    raise InputError(
                        f"video frames have an even height and width and three channels, got {frame.shape}"
                    )
                stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": "medium"})
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
                context = stream.codec_context  # H.273: 6 is BT.601 with 525 lines; range 1 is limited
                context.colorspace = context.color_primaries = context.color_trc = 6
                context.color_range = 1
            elif frame.shape[:2] != (stream.height, stream.width):
                raise InputError(f"a frame of {frame.shape} in a video of {stream.width}x{stream.height}")
            planes = Clip.from_rgb(frame[None], fps).yuv_bytes()
            picture = np.frombuffer(planes, np.uint8).reshape(-1, stream.width)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        if stream is None:
            raise InputError("a video needs at least one frame")
        container.mux(stream.encode())


# -- parts of a picture ------------------------------------------------------------------------------------------------


def _check_frames(label: str, frames: Plane) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise InputError(f"expected {label} frames as uint8 (k, H, W, 3), got {frames.dtype} {frames.shape}")


def _luma(frames: Plane) -> NDArray[np.float64]:
    """BT.601 luma of R'G'B', in full-range 8-bit levels: (k, H, W)."""
    kr, kb = MATRICES["bt601"]
    return frames.astype(np.float64) @ np.array([kr, 1 - kr - kb, kb])


def _error_colours() -> Plane:
    """The colour table: uint8 (256, 3)."""
    return matplotlib.colormaps[ERROR_COLOURS](np.arange(256), bytes=True)[:, :3]


def _cell_size(width: int, height: int) -> tuple[int, int]:
    """Size on the page of a width x height picture: whole-number zoom of small ones, large ones scaled down."""
    if width > MOST_CELL_PX:
        return MOST_CELL_PX, max(1, round(height * MOST_CELL_PX / width))
    zoom = -(-LEAST_CELL_PX // width)
    return width * zoom, height * zoom


def _scaled(picture: Plane, width: int, height: int) -> Image.Image:
    image = Image.fromarray(picture)
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.BOX if image.width > width else Image.Resampling.NEAREST)


def _draw_legend(page: Image.Image, left: int, top: int, width: int, height: int, peak: int) -> None:
    """The colour scale of the error maps, in the free cell under the source."""
    draw = ImageDraw.Draw(page)
    bar = min(14, max(4, height // 6))
    lines = _wrap("luma error, 8-bit levels", width)
    if height < bar + (len(lines) + 2) * LINE_PX:
        lines = []
    for i, line in enumerate(lines):
        draw.text((left, top + i * LINE_PX), line, MUTED, _font())
    top += len(lines) * LINE_PX + 2
    ramp = np.linspace(0, 255, width).round().astype(np.uint8)
    page.paste(Image.fromarray(np.tile(_error_colours()[ramp], (bar, 1, 1))), (left, top))
    for text, x, anchor in (
        ("0", left, "la"),
        (str(peak // 2), left + width // 2, "ma"),
        (f"{peak}+", left + width, "ra"),
    ):
        draw.text((x, top + bar + 3), text, INK, _font(), anchor=anchor)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_PX)


def _wrap(text: str, width: int) -> list[str]:
    """The text in lines that fit into `width` pixels; a single word that does not fit is cut."""
    font, lines = _font(), []
    for paragraph in text.splitlines() or [""]:
        line = ""
        for word in paragraph.split():
            while font.getlength(word) > width and len(word) > 1:
                word = word[:-1]
            joined = f"{line} {word}".strip()
            if line and font.getlength(joined) > width:
                lines.append(line)
                line = word
            else:
                line = joined
        lines.append(line)
    return lines
