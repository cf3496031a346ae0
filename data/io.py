"""Reading and writing clips, with no lossy step on the way.

    suffix                                   how                                 what is kept
    .y4m                                     own reader and writer               everything
    .yuv .rgb                                raw planes; size, format and rate   samples
                                             given or read from the file's name
    .mp4 .mkv .webm .avi .264 .265 ...       PyAV (libavformat, libavcodec)      everything
    a folder, or one .png .jpg .webp ...     PyAV, one picture per frame         samples as the picture holds them

8-bit 4:2:0 planes are taken byte for byte as the decoder left them; no swscale is involved anywhere. Everything else
(4:2:2, 4:4:4, gray, RGB, more bits) goes through one conversion, `data.frames.to_420_8bit`.

Rules where a file says nothing:
- matrix: BT.601 for pictures of fewer than 720 lines, BT.709 for others; range: limited, but full for JPEG and PNG;
- chroma siting: left, but centre for JPEG and for y4m's 4:2:0 without a suffix (libavcodec's siting tag cannot be
  seen through PyAV, so a "topleft" of others' files is read as "left"; files that `write_clip` made keep theirs);
- frame rate: never guessed for video. Only picture folders have a default, `PICTURE_FPS`, and say so in the log.

Refused, with a message that says what to do: variable frame rate, interlaced frames, HDR transfer functions, mirrored
or skewed display matrices, transparency, a picture size that changes, damaged or missing frames.
"""

from __future__ import annotations

import os
import tempfile
from fractions import Fraction
from pathlib import Path

from data.clip import Clip
from data.errors import InputError
from data.files import atomic_path
from data.frames import Window, parse_rate
from data.planar import read_raw, read_y4m, write_y4m, write_yuv
from data.video import PICTURE_SUFFIXES, read_pictures, read_video, write_ffv1, write_pngs, write_x264

RAW_SUFFIXES = (".yuv", ".rgb")
VIDEO_SUFFIXES = (
    ".y4m", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".ivf", ".obu",
    ".264", ".h264", ".265", ".h265", ".hevc", ".266", ".vvc",
)  # fmt: skip
CLIP_SUFFIXES = VIDEO_SUFFIXES + RAW_SUFFIXES


def read_clip(
    path: str | os.PathLike[str],
    *,
    width: int | None = None,
    height: int | None = None,
    pix_fmt: str | None = None,
    fps: Fraction | int | str | None = None,
    start: int = 0,
    frames: int | None = None,
    name: str | None = None,
) -> Clip:
    """A clip from a video file, a raw planar file, a folder of pictures or one picture.

    width, height, pix_fmt: of raw files only, as ffmpeg names formats (yuv420p, yuv422p10le, gray, gbrp, ...; also
             "rgbp": planar R, G, B). Without them they are read from a name like foo_256x256_25_8bit_420.yuv.
    fps:     frame rate of raw files, elementary streams and pictures. For files whose frames have times (mp4, mkv, ..)
             it asks for a resampling to that rate: each output frame is the one on show in the middle of its interval.
    start, frames: the first frame wanted and how many at most.
    name:    of the clip; without it, the stem of the path.

    Raises InputError, naming the file, for everything that is missing, damaged, or has no exact meaning here.
    """
    path = Path(path)
    rate = None if fps is None else parse_rate(fps, path)
    if start < 0 or (frames is not None and frames < 1):
        raise InputError(f"{path}: cannot read {frames} frames from frame {start}")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    suffix = path.suffix.lower()
    window = Window(start, frames)
    if path.is_file() and suffix in RAW_SUFFIXES:
        clip = read_raw(path, width, height, pix_fmt, rate, window)
    elif width is not None or height is not None or pix_fmt is not None:
        raise InputError(f"{path}: width, height and pix_fmt are for raw files; this one carries its own")
    elif path.is_dir() or suffix in PICTURE_SUFFIXES:
        clip = read_pictures(path, rate, window)
    elif suffix == ".y4m":
        clip = read_y4m(path, rate, window)
    else:
        clip = read_video(path, rate, window)
    return clip.renamed(path.stem if name is None else name)


def write_clip(clip: Clip, path: str | os.PathLike[str], force: bool = False) -> None:
    """Writes a clip so that `read_clip` gives the same samples back. The file appears whole or not at all.

    .y4m .mkv (FFV1) .mp4 (x264 lossless, even sizes only): samples, frame rate and colour description.
    .yuv: samples alone (I420).
    A path without suffix: a folder of PNG pictures, R'G'B' by `Clip.rgb`, for the eye: 4:2:0 does not come back from
    it exactly.

    Raises InputError where the path exists and `force` is not set, and for an unknown suffix.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    writers = {".y4m": write_y4m, ".yuv": write_yuv, ".mkv": write_ffv1, ".mp4": write_x264}
    if suffix and suffix not in writers:
        raise InputError(f"{path}: cannot write {suffix}; use .y4m, .yuv, .mkv, .mp4 or a folder name without suffix")
    if path.exists():
        if not force:
            raise InputError(f"{path}: exists already; not overwritten without force")
        if path.is_dir() and any(entry.suffix.lower() != ".png" for entry in path.iterdir()):
            raise InputError(f"{path}: not overwritten, it is a folder that holds other things than PNG pictures")
    if suffix:
        with atomic_path(path) as temporary:
            writers[suffix](clip, temporary)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name[:40]}.") as scratch:
        write_pngs(clip, Path(scratch, "new"))
        if path.exists():
            os.replace(path, Path(scratch, "old"))
        os.replace(Path(scratch, "new"), path)
