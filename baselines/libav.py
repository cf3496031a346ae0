"""libav's encoders and decoders inside this process (PyAV), on one thread, fed and read frame by frame."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, cast

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 writes its settings to stderr otherwise; 1 = errors only

import av
import av.error
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from data.clip import Clip, Plane
from data.errors import BitstreamError, ExternalCodecError

_ALIGNMENT = 128
"""Samples by which libav may count a picture's sides longer than they are shown: coding blocks, and its rows in memory."""

_DECODERS = {"h264": "h264", "hevc": "hevc", "vvc": "vvc", "av1": "libdav1d", "vp9": "vp9"}


STALL_S = 120.0
"""An encoder of _MAY_STALL that has given no packet for so long will never give one."""
_TRIES = 3
_MAY_STALL = ("libsvtav1",)
"""SVT-AV1 (3.1 to 4.1 at least): once in thousands of clips all of its threads wait for each other."""


def encode_packets(encoder: str, options: dict[str, str], clip: Clip) -> list[bytes]:
    """Packets of an encoder at constant frame rate; raises ExternalCodecError where it refuses, fails, or keeps stalling.

    encoder: libav's name of it. options: its private ones. The clip is fed as it is, 8-bit 4:2:0.
    """
    if encoder not in _MAY_STALL:
        return list(_packets(encoder, options, clip))
    for _ in range(_TRIES):
        found = _watched(partial(_packets, encoder, options, clip))
        if found is not None:
            return found
    raise ExternalCodecError([encoder], None, f"no picture in {STALL_S:.0f} s, {_TRIES} times")


def _packets(encoder: str, options: dict[str, str], clip: Clip) -> Iterator[bytes]:
    """As they come."""
    try:
        context = cast(VideoCodecContext, av.CodecContext.create(encoder, "w"))
        context.width, context.height, context.pix_fmt = clip.width, clip.height, "yuv420p"
        context.framerate, context.time_base = clip.fps, 1 / clip.fps
        context.thread_count = 1
        context.options = options
        context.open(strict=False)
        _leave_real_time()
        for i in range(clip.n_frames):
            frame = av.VideoFrame.from_ndarray(_i420(clip, i), format="yuv420p")
            frame.pts = i
            yield from map(bytes, context.encode(frame))
        yield from map(bytes, context.encode(None))
    except (av.error.FFmpegError, ValueError) as error:
        raise ExternalCodecError([encoder, *(f"{k}={v}" for k, v in options.items())], 1, str(error)) from error


def _watched(packets: Callable[[], Iterable[bytes]]) -> list[bytes] | None:
    """All of them, from a thread of their own; None where the next one does not come: nothing can end the thread, which is left
    behind."""
    found: list[bytes] = []
    failed: list[BaseException] = []
    came, ended = threading.Event(), threading.Event()

    def work() -> None:
        try:
            for packet in packets():
                found.append(packet)
                came.set()
        except BaseException as error:
            failed.append(error)
        ended.set()
        came.set()

    threading.Thread(target=work, daemon=True).start()
    while came.wait(STALL_S):
        came.clear()
        if ended.is_set():
            if failed:
                raise failed[0]
            return found
    return None


def _leave_real_time() -> None:
    """Gives every thread of this process the normal scheduling policy again.

    SVT-AV1 that runs as root, as in a container, makes its caller and its own threads real-time processes (FIFO, 99), and all
    that they start afterwards: a sweep would starve whatever else the machine does.
    """
    if not hasattr(os, "sched_setscheduler"):  # not Linux
        return
    for thread in map(int, os.listdir("/proc/self/task")):
        try:
            if os.sched_getscheduler(thread) in (os.SCHED_FIFO, os.SCHED_RR):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
        except ProcessLookupError:  # it ended meanwhile
            continue


def _i420(clip: Clip, i: int) -> NDArray[np.uint8]:
    """Frame `i` as PyAV wants it: planes below each other, uint8 (3 H / 2, W)."""
    flat = np.concatenate((clip.y[i].ravel(), clip.u[i].ravel(), clip.v[i].ravel()))
    return flat.reshape(-1, clip.width)


class PictureDecoder:
    """A decoder that is fed picture by picture and gives a frame as soon as it has it: at low delay, with its picture."""

    def __init__(self, standard: str, size: tuple[int, int] | None = None) -> None:
        """size: (width, height) that is expected: pictures of far more samples are an error before there is memory for them."""
        self.standard = standard
        self._context = cast(VideoCodecContext, av.CodecContext.create(_DECODERS[standard], "r"))
        self._context.thread_count = 1
        # a damaged picture is an error, never a concealed one: what the decoder makes up is not in the bytes
        self._context.options = {"err_detect": "explode"} if standard not in ("av1",) else {}
        if size is not None:
            self._context.options |= {"max_pixels": str((size[0] + _ALIGNMENT) * (size[1] + _ALIGNMENT))}
        if standard == "vvc":  # FFmpeg's decoder otherwise keeps back a frame for each core of the machine
            self._context.flags |= Flags.low_delay
        self._n_pictures = 0

    def decode(self, units: Sequence[bytes]) -> list[av.VideoFrame]:
        """The frames that are ready behind this picture, given as its NAL units or as one temporal unit. Raises BitstreamError
        for a damaged one."""
        data = units[0] if self.standard in ("av1", "vp9") else b"".join(b"\0\0\0\1" + unit for unit in units)
        packet = av.Packet(data)
        packet.pts = packet.dts = self._n_pictures
        self._n_pictures += 1
        return self._frames(packet)

    def flush(self) -> list[av.VideoFrame]:
        """What is left at the end. Raises BitstreamError."""
        return self._frames(None)

    def _frames(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        try:
            return self._context.decode(packet)
        except (av.error.FFmpegError, ValueError) as error:
            raise BitstreamError(f"the {self.standard} stream is damaged: {error}") from error


def decoded_frames(
    standard: str, pictures: Iterable[Sequence[bytes]], size: tuple[int, int] | None = None
) -> Iterator[av.VideoFrame]:
    """Frames of coded pictures, each given as its NAL units or as one temporal unit; BitstreamError for damaged ones.

    A frame comes as soon as the decoder has it: at low delay, before the next picture is asked for.

    size: (width, height) that is expected: pictures of far more samples are an error before there is memory for them.
    """
    decoder = PictureDecoder(standard, size)
    for units in pictures:
        yield from decoder.decode(units)
    yield from decoder.flush()


def planes_8bit(frame: av.VideoFrame) -> list[Plane]:
    """The three 4:2:0 planes of a decoded frame, cropped to its size; 10-bit samples are rounded to 8.

    The planes may share the frame's memory. Raises BitstreamError for other formats.
    """
    deep = frame.format.name == "yuv420p10le"
    if not deep and frame.format.name not in ("yuv420p", "yuvj420p"):
        raise BitstreamError(f"the stream decodes to {frame.format.name}, not to 8-bit or 10-bit 4:2:0")
    h, w = frame.height, frame.width
    planes = []
    for plane, rows, columns in zip(frame.planes, (h, (h + 1) // 2, (h + 1) // 2), (w, *[(w + 1) // 2] * 2), strict=True):
        samples: NDArray[Any] = np.frombuffer(memoryview(plane), np.uint16 if deep else np.uint8)
        samples = samples.reshape(plane.height, -1)[:rows, :columns]
        planes.append(np.minimum((samples + 2) >> 2, 255).astype(np.uint8) if deep else samples)
    return planes


def missing_pyav(encoder: str) -> Callable[[], str | None]:
    """A `Family.missing` for an encoder of PyAV."""

    def reason() -> str | None:
        return None if encoder in av.codecs_available else f"PyAV {av.__version__} was built without {encoder}"

    return reason
