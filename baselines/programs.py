"""Programs that run beside this process: the ffmpeg of `imageio-ffmpeg`, and whatever encoder the PATH has."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import ffmpeg
import imageio_ffmpeg

from data.errors import CodecUnavailable, ExternalCodecError, HdacError
from data.files import file_sha256

ENCODE_TIMEOUT_S = 3600.0
"""An encoder is stopped after this long; the sweep's own limit (`--timeout`) usually comes first."""


def run_program(
    command: Sequence[str], stdin: bytes = b"", *, timeout_s: float, folder: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs a program to its end, in `folder`, and returns what it printed.

    Raises ExternalCodecError with its last words where it fails or is stopped after `timeout_s` seconds, and
    CodecUnavailable where it cannot be started.
    """
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout_s, cwd=folder, check=False)
    except subprocess.TimeoutExpired as error:
        raise ExternalCodecError(command, None, f"stopped after {timeout_s:.0f} s") from error
    except OSError as error:
        raise CodecUnavailable(f"cannot run {command[0]}: {error.strerror or error}") from error
    if done.returncode:
        raise ExternalCodecError(command, done.returncode, (done.stderr or done.stdout).decode(errors="replace"))
    return done


def run_ffmpeg(stream: ffmpeg.nodes.OutputStream, frames: bytes) -> None:
    """Runs an ffmpeg command on raw frames; errors as in `run_program`."""
    run_program(ffmpeg.compile(stream, cmd=ffmpeg_program()), frames, timeout_s=ENCODE_TIMEOUT_S)


def ffmpeg_program() -> str:
    """Path of the ffmpeg with libvvenc, kvazaar, libaom and libvmaf; $IMAGEIO_FFMPEG_EXE names another one."""
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise CodecUnavailable(f"imageio-ffmpeg has no ffmpeg for this machine: {error}") from error


@functools.cache
def ffmpeg_version() -> str:
    """Version of `ffmpeg_program`; of one that $IMAGEIO_FFMPEG_EXE names also its checksum, since its libraries may be
    of any version. Raises CodecUnavailable where there is none."""
    words = run_program([ffmpeg_program(), "-version"], timeout_s=60).stdout.decode(errors="replace").split()
    version = f"imageio-ffmpeg {imageio_ffmpeg.__version__} ({' '.join(words[:3])})"
    own = os.environ.get("IMAGEIO_FFMPEG_EXE")
    return f"{version} sha256 {file_sha256(own)}" if own else version


def missing_ffmpeg(encoder: str) -> Callable[[], str | None]:
    """A `Family.missing` for an encoder of the ffmpeg program."""

    def reason() -> str | None:
        try:
            program = ffmpeg_program()
            return None if encoder in _encoders(program) else f"{program} was built without {encoder}"
        except HdacError as error:
            return str(error)

    return reason


@functools.cache
def _encoders(program: str) -> frozenset[str]:
    """Names of the video encoders that an ffmpeg was built with."""
    text = run_program([program, "-hide_banner", "-encoders"], timeout_s=60).stdout.decode(errors="replace")
    return frozenset(line.split()[1] for line in text.splitlines() if line.startswith(" V"))
