"""VMAF and XPSNR, measured by ffmpeg's `libvmaf` and `xpsnr` filters.

Both look at motion, so a clip is measured in one run, never frame by frame, on its true 4:2:0 planes: they go to the
filter as raw video, and no conversion, scaling or second codec comes between.

VMAF      model vmaf_v0.6.1 (Netflix), pooled by the mean over the frames. Identical clips come close to 100, not all
          the way where there is little motion.
XPSNR     C. R. Helmrich, M. Siekmann, S. Becker, S. Bosse, D. Marpe, T. Wiegand, "XPSNR: a low-complexity extension of
          the perceptually weighted peak signal-to-noise ratio for high-resolution video quality assessment", ICASSP
          2020; luma. The clip's score is the filter's own average: the PSNR of the mean root of the frames' weighted
          squared errors, so not the mean of its frames. To the filter the frame before the first is black, which
          weakens the weights of frame 0. A frame without error is infinite to the filter; as in `rd.metrics.fidelity`
          it scores 10 log10(255^2 * samples), which is the filter's value at its smallest error.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ffmpeg
import numpy as np
from numpy.typing import NDArray

from baselines.programs import ffmpeg_program, run_program
from data.clip import Clip
from data.errors import CodecUnavailable, ExternalCodecError
from rd.metrics.fidelity import psnr_db
from rd.metrics.score import MetricUnavailable, Score, check_same_shape

VMAF_MODEL = "vmaf_v0.6.1"
SOURCE, DECODED, LOG = "source.yuv", "decoded.yuv", "scores"
VMAF_MIN_SIDE = 17  # measured: libvmaf crashes on smaller frames
START_S, S_PER_MEGAPIXEL = 60, 1  # chosen: a time limit of over ten times what either filter needs on one core


def measure(source: Clip, decoded: Clip, columns: Collection[str]) -> dict[str, Score | MetricUnavailable]:
    """The `vmaf` and `xpsnr` columns among `columns`; raises InputError where the clips do not match."""
    check_same_shape(source, decoded)
    scores: dict[str, Score | MetricUnavailable] = {}
    filters: dict[str, Callable[[Clip, Clip], Score]] = {"xpsnr_y": _xpsnr_y, "vmaf": _vmaf}
    for column, measured_by in filters.items():
        if column in columns:
            try:
                scores[column] = measured_by(source, decoded)
            except MetricUnavailable as reason:
                scores[column] = reason
    return scores


def vmaf_command(executable: str, clip: Clip) -> list[str]:
    """ffmpeg's arguments for VMAF of DECODED against SOURCE into LOG (JSON), in the current folder."""
    filtered = ffmpeg.filter(
        [_raw_input(DECODED, clip), _raw_input(SOURCE, clip)],  # the filter's order: distorted, reference
        "libvmaf",
        model=f"version={VMAF_MODEL}",
        log_fmt="json",
        log_path=LOG,
        n_threads=1,
    )
    return _null_command(executable, filtered)


def xpsnr_command(executable: str, clip: Clip) -> list[str]:
    """ffmpeg's arguments for XPSNR of DECODED against SOURCE into LOG (text), in the current folder.

    The order is the reverse of VMAF's: the filter takes its perceptual weights from the first input, whatever the
    names of its inputs say.
    """
    filtered = ffmpeg.filter([_raw_input(SOURCE, clip), _raw_input(DECODED, clip)], "xpsnr", stats_file=LOG)
    return _null_command(executable, filtered)


def _vmaf(source: Clip, decoded: Clip) -> Score:
    if min(source.width, source.height) < VMAF_MIN_SIDE:
        raise MetricUnavailable(f"libvmaf needs {VMAF_MIN_SIDE}x{VMAF_MIN_SIDE}, got {source.width}x{source.height}")
    log = _run(vmaf_command, source, decoded)
    try:
        frames = np.array([frame["metrics"]["vmaf"] for frame in json.loads(log)["frames"]], np.float64)
    except (ValueError, KeyError) as error:
        raise MetricUnavailable(f"libvmaf wrote no scores: {log[:80]!r}") from error
    _check_count(frames, source)
    return Score.mean(frames)


def _xpsnr_y(source: Clip, decoded: Clip) -> Score:
    _check_xpsnr_blocks(source.width, source.height)
    log = _run(xpsnr_command, source, decoded)
    frames = np.array(re.findall(r"^n: *\d+ +XPSNR y: *(\S+)", log, re.MULTILINE), np.float64)
    _check_count(frames, source)
    average = re.search(r"^XPSNR average, \d+ frames +y: *(\S+)", log, re.MULTILINE)
    if average is None:
        raise MetricUnavailable("ffmpeg's xpsnr filter wrote no average")
    best = float(psnr_db(0, source.y[0].size))
    return Score(min(float(average[1]), best), np.minimum(frames, best))


def _check_xpsnr_blocks(width: int, height: int) -> None:
    """Raises MetricUnavailable for sizes at which the filter writes a number that is no XPSNR.

    Below 2025 samples, where its block size rounds to 0, it falls back to the plain PSNR. Where the border cuts a block
    down to a row or column too thin for its activity filter, it weights the errors there by 1, many times what others
    weigh.
    """
    block = 4 * int(32 * math.sqrt(width * height / (3840 * 2160)) + 0.5)
    if not block:
        raise MetricUnavailable(f"frames of {width}x{height} are too small for XPSNR's blocks")
    margin = 2 if width * height > 2048 * 1152 else 1
    for side in (width, height):
        if 0 < side % block <= margin:
            raise MetricUnavailable(
                f"ffmpeg's xpsnr has no weight for the last {side % block} of {side} samples, in blocks of {block}"
            )


def _check_count(frames: NDArray[np.float64], source: Clip) -> None:
    if len(frames) != source.n_frames:
        raise MetricUnavailable(f"ffmpeg scored {len(frames)} of {source.n_frames} frames")


# -- ffmpeg ----------------------------------------------------------------------------------------------------------


def _raw_input(path: str, clip: Clip) -> Any:
    size = (clip.width, clip.height)
    return ffmpeg.input(path, format="rawvideo", pix_fmt="yuv420p", video_size=size, framerate=str(clip.fps))


def _null_command(executable: str, filtered: Any) -> list[str]:
    output = ffmpeg.output(filtered, "-", format="null", fps_mode="passthrough")
    quiet = output.global_args("-hide_banner", "-nostdin", "-nostats", "-loglevel", "error")
    return ffmpeg.compile(quiet.global_args("-filter_complex_threads", "1"), cmd=executable)


def _run(command: Callable[[str, Clip], list[str]], source: Clip, decoded: Clip) -> str:
    """What the filter of `command` wrote about the two clips; raises MetricUnavailable with ffmpeg's words."""
    limit_s = START_S + S_PER_MEGAPIXEL * source.y.size / 1e6
    with TemporaryDirectory(prefix="hdac-") as folder:
        _write(source, Path(folder, SOURCE))
        _write(decoded, Path(folder, DECODED))
        try:
            run_program(command(ffmpeg_program(), source), timeout_s=limit_s, folder=Path(folder))
        except (CodecUnavailable, ExternalCodecError) as error:
            raise MetricUnavailable(str(error)) from error
        log = Path(folder, LOG)
        return log.read_text() if log.exists() else ""


def _write(clip: Clip, path: Path) -> None:
    """The clip as raw I420, frame by frame: a second copy of a long 1080p clip would not fit a job's memory."""
    with path.open("wb") as file:
        for t in range(clip.n_frames):
            for plane in (clip.y, clip.u, clip.v):
                file.write(np.ascontiguousarray(plane[t]).data)
