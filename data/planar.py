"""Files of bare planes: raw .yuv and .rgb, and YUV4MPEG2 (.y4m).

Y4M: https://wiki.multimedia.cx/index.php/YUV4MPEG2, with more than 8 bits and XCOLORRANGE as ffmpeg writes them.
XHDACMATRIX is ours: the format has no parameter for the matrix, and other readers pass over X parameters that they do
not know.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from data.clip import Clip, Colour, Plane
from data.errors import InputError
from data.frames import Frames, Window, default_colour, parse_rate, standard_rate, to_420_8bit

_Y4M_FORMATS = {  # the C parameter: (chroma subsampling in x, in y; None = no chroma), siting
    "420jpeg": ((2, 2), "center"), "420mpeg2": ((2, 2), "left"), "420paldv": ((2, 2), "topleft"),
    "420": ((2, 2), "center"), "422": ((2, 1), "left"), "444": ((1, 1), "left"), "mono": (None, "left"),
}  # fmt: skip
_Y4M_SITING = {"center": "420jpeg", "left": "420mpeg2", "topleft": "420paldv"}


@dataclass(frozen=True)
class _Layout:
    """How the samples of one picture follow each other in a raw or y4m file."""

    shapes: tuple[tuple[int, int], ...]
    """(height, width) of each plane."""
    bits: int
    rgb_order: tuple[int, int, int] | None = None
    """Where the planes R, G and B are; None for Y'CbCr."""
    interleaved: bool = False

    @property
    def frame_bytes(self) -> int:
        return sum(h * w for h, w in self.shapes) * (1 if self.bits == 8 else 2)

    def picture(self, data: bytes, colour: Colour, path: Path) -> tuple[Plane, Plane, Plane]:
        samples = np.frombuffer(data, np.uint8 if self.bits == 8 else "<u2")
        if self.bits not in (8, 16) and int(samples.max()) >> self.bits:
            raise InputError(f"{path}: holds sample {samples.max()}, which does not fit its {self.bits} bits")
        planes, at = [], 0
        for h, w in self.shapes:
            planes.append(samples[at : at + h * w].reshape(h, w))
            at += h * w
        if self.interleaved:
            (h, w3), pixels = self.shapes[0], planes[0]
            planes = list(np.moveaxis(pixels.reshape(h, w3 // 3, 3), -1, 0))
        if self.rgb_order:
            return to_420_8bit(tuple(planes[i] for i in self.rgb_order), self.bits, colour, rgb=True)
        return to_420_8bit(tuple(planes), self.bits, colour)


def _yuv_layout(width: int, height: int, subsampling: tuple[int, int] | None, bits: int) -> _Layout:
    if subsampling is None:
        return _Layout(((height, width),), bits)
    chroma = (-(-height // subsampling[1]), -(-width // subsampling[0]))
    return _Layout(((height, width), chroma, chroma), bits)


def _raw_layout(width: int, height: int, pix_fmt: str, path: Path) -> _Layout:
    """Layout of a raw file by ffmpeg's name of its format."""
    match = re.fullmatch(r"(yuv420p|yuv422p|yuv444p|gray|gbrp|rgbp|rgb24)(?:(9|10|12|14|16)(?:le)?)?", pix_fmt)
    if not match or (match[1] == "rgb24" and match[2]):
        raise InputError(
            f"{path}: raw format {pix_fmt!r} is not yuv420p, yuv422p, yuv444p, gray, gbrp, rgbp (each also with 10le, "
            "12le, 16le) or rgb24"
        )
    kind, bits = match[1], int(match[2] or 8)
    if kind == "rgb24":
        return _Layout(((height, 3 * width),), 8, (0, 1, 2), interleaved=True)
    if kind in ("gbrp", "rgbp"):
        return _Layout(((height, width),) * 3, bits, (2, 0, 1) if kind == "gbrp" else (0, 1, 2))
    subsampling = {"yuv420p": (2, 2), "yuv422p": (2, 1), "yuv444p": (1, 1), "gray": None}[kind]
    return _yuv_layout(width, height, subsampling, bits)


def read_raw(
    path: Path, width: int | None, height: int | None, pix_fmt: str | None, fps: Fraction | None, window: Window
) -> Clip:
    said = _parse_raw_name(path)
    width, height = width or said.get("width"), height or said.get("height")
    pix_fmt, fps = pix_fmt or said.get("pix_fmt"), fps or said.get("fps")
    if not (width and height and pix_fmt and fps):
        raise InputError(
            f"{path}: a raw file does not say its size, format and frame rate; give width, height, pix_fmt and fps, "
            "or name it like foo_256x256_25_8bit_420.yuv"
        )
    layout = _raw_layout(width, height, pix_fmt, path)
    size = path.stat().st_size
    if not size or size % layout.frame_bytes:
        raise InputError(
            f"{path}: {size} bytes are no whole number of {width}x{height} {pix_fmt} frames of {layout.frame_bytes}"
        )
    colour = default_colour(height)
    count = window.size(size // layout.frame_bytes, path)
    gathered = Frames(count, path)
    with path.open("rb") as file:
        file.seek(window.start * layout.frame_bytes)
        for _ in range(count):
            gathered.append(layout.picture(_read_exactly(file, layout.frame_bytes, path), colour, path))
    return gathered.clip(fps, colour)


def _parse_raw_name(path: Path) -> dict[str, Any]:
    """What a name like VOXCELEB_001_256x256_25_8bit_420.yuv says; every part is optional."""
    said: dict[str, Any] = {}
    if size := re.search(r"(?:^|_)(\d+)x(\d+)(?=_|$)", path.stem):
        said["width"], said["height"] = int(size[1]), int(size[2])
    if rate := re.search(r"\d+x\d+_(\d+(?:\.\d+)?)(?:fps|Hz)?(?=_|$)", path.stem):
        said["fps"] = standard_rate(parse_rate(rate[1], path))
    if sampling := re.search(r"_(?:(\d+)bit_?)?(400|420|422|444)(?=_|$)", path.stem):
        kind = "rgbp" if path.suffix.lower() == ".rgb" else "gray" if sampling[2] == "400" else f"yuv{sampling[2]}p"
        bits = sampling[1] or "8"
        said["pix_fmt"] = kind if bits == "8" else f"{kind}{bits}le"
    return said


def _read_exactly(file: BinaryIO, size: int, path: Path) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise InputError(f"{path}: ends {size - len(data)} bytes before the end of a frame")
    return data


def write_yuv(clip: Clip, path: Path) -> None:
    with path.open("wb") as file:
        for i in range(clip.n_frames):
            file.write(clip[i : i + 1].yuv_bytes())


# -- y4m -----------------------------------------------------------------------------------------------------------


def read_y4m(path: Path, fps: Fraction | None, window: Window) -> Clip:
    with path.open("rb") as file:
        header = file.readline(1024)
        if not header.startswith(b"YUV4MPEG2 ") or not header.endswith(b"\n"):
            raise InputError(f"{path}: not a YUV4MPEG2 file")
        layout, own_fps, colour = _parse_y4m_header(header.decode("ascii", "replace").split()[1:], path)
        rate = fps or own_fps
        if rate is None:
            raise InputError(f"{path}: its header has no frame rate; give fps")
        left = path.stat().st_size - len(header)
        gathered = Frames(window.size(max(1, left // (layout.frame_bytes + 6)), path), path)  # 6: b"FRAME\n"
        index = 0
        while window.stop is None or index < window.stop:
            marker = file.readline(1024)
            if not marker:
                break
            if not marker.startswith(b"FRAME") or not marker.endswith(b"\n"):
                raise InputError(f"{path}: no FRAME marker before frame {index}, but {marker[:16]!r}")
            if index < window.start:
                file.seek(layout.frame_bytes, os.SEEK_CUR)
            else:
                gathered.append(layout.picture(_read_exactly(file, layout.frame_bytes, path), colour, path))
            index += 1
    if not gathered.count:
        raise InputError(f"{path}: holds {index} frames, frame {window.start} was asked for")
    return gathered.clip(rate, colour)


def _parse_y4m_header(parameters: list[str], path: Path) -> tuple[_Layout, Fraction | None, Colour]:
    width = height = 0
    fps, sampling, colour_range, matrix = None, "420jpeg", "limited", None
    for key, value in ((p[0], p[1:]) for p in parameters):
        if key in "WH" and value.isdigit():
            width, height = (int(value), height) if key == "W" else (width, int(value))
        elif key == "F":
            top, _, bottom = value.partition(":")
            fps = None if "0" in (top, bottom) else parse_rate(f"{top}/{bottom or 1}", path)
        elif key == "I" and value not in ("p", "?"):
            raise InputError(f"{path}: is interlaced (I{value}); deinterlace it first, for example ffmpeg -vf bwdif")
        elif key == "C":
            sampling = value
        elif key == "X" and value.startswith("COLORRANGE="):
            colour_range = value.partition("=")[2].lower()
        elif key == "X" and value.startswith("HDACMATRIX="):
            matrix = value.partition("=")[2]
    if not width or not height:
        raise InputError(f"{path}: its header has no picture size")
    match = re.fullmatch(r"(420jpeg|420mpeg2|420paldv|420|422|444|mono)(?:p?(9|10|12|14|16))?", sampling)
    if not match:
        raise InputError(f"{path}: y4m format C{sampling} is not supported; convert it to C420, C422, C444 or Cmono")
    subsampling, siting = _Y4M_FORMATS[match[1]]
    bits = int(match[2] or 8)
    if bits > 8 and match[1] == "420":
        siting = "left"  # C420 of 8 bits follows C420jpeg; C420p10 is what is left of an H.26x default
    colour = default_colour(height, siting, colour_range)
    if matrix:
        colour = Colour(matrix, colour_range, siting)
    return _yuv_layout(width, height, subsampling, bits), fps, colour


def write_y4m(clip: Clip, path: Path) -> None:
    with path.open("wb") as file:
        file.write(y4m_header(clip))
        for i in range(clip.n_frames):
            file.write(y4m_frame(clip[i : i + 1]))


def y4m_frame(frame: Clip) -> bytes:
    """A clip of one frame as y4m has it."""
    return b"FRAME\n" + frame.yuv_bytes()


def y4m_header(clip: Clip) -> bytes:
    """What a y4m file of such a clip begins with."""
    colour = clip.colour
    header = (
        f"YUV4MPEG2 W{clip.width} H{clip.height} F{clip.fps.numerator}:{clip.fps.denominator} Ip A1:1 "
        f"C{_Y4M_SITING[colour.siting]} XYSCSS={_Y4M_SITING[colour.siting].upper()} XCOLORRANGE={colour.range.upper()}"
    )
    if colour.matrix != default_colour(clip.height).matrix:
        header += f" XHDACMATRIX={colour.matrix}"
    return header.encode() + b"\n"
