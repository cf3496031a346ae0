"""Stronger encoders that a machine may have on its PATH: HM (HEVC), VTM (VVC) and vvencapp.

They are rows of the tables where their program is found, and "not installed" where it is not. HM and VTM call their program
EncoderApp (HM also TAppEncoder) alike, so the program is asked for its banner. They take their low-delay configuration from
their source tree: `cfg/` beside or above the program, or the file that $HDAC_HM_CFG or $HDAC_VTM_CFG names.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from baselines import nal
from baselines.codec import Family, Regime, VideoCodec, intra_period
from baselines.conventional import CODE_VERSION, ConventionalCodec
from baselines.families import I_OFFSETS, quantisers
from baselines.programs import ENCODE_TIMEOUT_S, run_program
from data.clip import Clip
from data.errors import CodecUnavailable, ExternalCodecError

_PROGRAMS = {
    "hm": ("TAppEncoder", "TAppEncoderStatic", "EncoderApp", "EncoderAppStatic"),
    "vtm": ("EncoderApp", "EncoderAppStatic"),
    "vvencapp": ("vvencapp",),
}
_BANNERS = {"hm": "HM software", "vtm": "VTM Encoder", "vvencapp": "vvenc"}
_CONFIGURATIONS = {"hm": "encoder_lowdelay_P_main.cfg", "vtm": "encoder_lowdelay_P_vtm.cfg"}


@dataclass(frozen=True, kw_only=True)
class _Reference(ConventionalCodec):
    """An encoder program that reads a .yuv file and writes an Annex B file."""

    qp: int

    alignment: ClassVar[int] = 8

    @property
    def version(self) -> str:
        return f"{CODE_VERSION} {find_program(self.name)[1]}"

    @property
    def label(self) -> str:
        return f"{self.name}{self._gop_label()} QP {self.qp}"

    def arguments(self, clip: Clip, source: str, stream: str) -> list[str]:
        """The command line for a clip whose samples are in the file `source`."""
        raise AssertionError(f"{type(self).__name__} has no command line")  # every subclass has one

    def command(self, clip: Clip) -> str:
        return " ".join(self.arguments(clip, "clip.yuv", "stream"))

    def _elementary(self, clip: Clip) -> bytes:
        period = self._segment or clip.n_frames
        streams = [self._run(clip[i : i + period]) for i in range(0, clip.n_frames, period)]
        return nal.strip(b"".join(streams), self.standard)[0]  # type: ignore[arg-type]

    @property
    def _segment(self) -> int:
        """Frames per run of the program; 0 = all. For encoders that cannot repeat intra pictures at low delay."""
        return 0

    def _run(self, clip: Clip) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            source, stream = Path(folder, "clip.yuv"), Path(folder, "stream")
            source.write_bytes(clip.yuv_bytes())
            command = self.arguments(clip, str(source), str(stream))
            done = run_program(command, timeout_s=ENCODE_TIMEOUT_S, folder=Path(folder))
            if not stream.is_file():
                raise ExternalCodecError(command, 0, (done.stderr or done.stdout).decode(errors="replace"))
            return stream.read_bytes()


@dataclass(frozen=True, kw_only=True)
class JctEncoder(_Reference):
    """HM and VTM, which share their options: low-delay P as configured by their authors, no hash SEI."""

    def arguments(self, clip: Clip, source: str, stream: str) -> list[str]:
        options = {
            "InputFile": source,
            "BitstreamFile": stream,
            "ReconFile": os.devnull,
            "SourceWidth": self.coded_size(clip)[0],
            "SourceHeight": self.coded_size(clip)[1],
            "FrameRate": math.ceil(clip.fps),  # whole numbers only; without rate control it changes nothing
            "FramesToBeEncoded": clip.n_frames,
            "InputBitDepth": 8,
            "QP": self.qp,
            "IntraQPOffset": -self.i_offset,
            "IntraPeriod": self.intra_period or -1,
            "DecodingRefreshType": 2,  # IDR: every GOP decodes by itself
            "SEIDecodedPictureHash": 0,
        }
        program = find_program(self.name)[0]
        return [program, "-c", find_configuration(self.name), *(f"--{key}={value}" for key, value in options.items())]


@dataclass(frozen=True, kw_only=True)
class Hm(JctEncoder):
    """HEVC by the HM reference software, encoder_lowdelay_P_main.cfg."""

    name: ClassVar[str] = "hm"
    standard: ClassVar[str] = "hevc"


@dataclass(frozen=True, kw_only=True)
class Vtm(JctEncoder):
    """VVC by the VTM reference software, encoder_lowdelay_P_vtm.cfg."""

    name: ClassVar[str] = "vtm"
    standard: ClassVar[str] = "vvc"


@dataclass(frozen=True, kw_only=True)
class Vvencapp(_Reference):
    """VVC by the vvenc program of the PATH; see `baselines.conventional.Vvenc` for its low delay and short GOP."""

    preset: str = "slow"

    name: ClassVar[str] = "vvencapp"
    standard: ClassVar[str] = "vvc"

    @property
    def _segment(self) -> int:
        return self.intra_period

    def arguments(self, clip: Clip, source: str, stream: str) -> list[str]:
        size = "x".join(map(str, self.coded_size(clip)))
        return [
            find_program(self.name)[0],
            *("-i", source, "-o", stream, "-s", size, "--fps", str(clip.fps), "-c", "yuv420", "-t", "1"),
            *("--preset", self.preset, "--qp", str(self.qp), "--qpa", "0", "--refreshtype", "none", "--intraperiod", "-1"),
            *("--additional", f"PicReordering=0:GOPSize=8:POC0IDR=1:MCTFFutureReference=0:IntraQPOffset={-self.i_offset}"),
        ]


@functools.cache
def find_program(name: str) -> tuple[str, str]:
    """(path, first line of the banner) of "hm", "vtm" or "vvencapp"; raises CodecUnavailable where there is none."""
    for folder, program in itertools.product(os.get_exec_path(), _PROGRAMS[name]):
        path = shutil.which(program, path=folder)  # folder by folder: HM's EncoderApp may come before VTM's
        if path is None:
            continue
        path = os.path.abspath(path)  # it runs in a folder of its own
        try:
            flag = ["--version"] if name == "vvencapp" else []
            done = subprocess.run([path, *flag], capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired):
            continue
        for line in (done.stdout + done.stderr).decode(errors="replace").splitlines():
            if _BANNERS[name] in line:
                return path, line.strip()
    raise CodecUnavailable(f"no {' or '.join(_PROGRAMS[name])} of {name} on PATH")


@functools.cache
def find_configuration(name: str) -> str:
    """The low-delay P configuration of HM or VTM; raises CodecUnavailable where it is not found."""
    variable = f"HDAC_{name.upper()}_CFG"
    if variable in os.environ:
        candidates = [Path(os.environ[variable]).absolute()]  # the program runs in a folder of its own
    else:
        program = Path(find_program(name)[0]).resolve()
        candidates = [parent / "cfg" / _CONFIGURATIONS[name] for parent in program.parents]
    for candidate in candidates:
        if candidate.is_file():
            return str(candidate)
    raise CodecUnavailable(f"{_CONFIGURATIONS[name]} is not at {candidates[0]}; set ${variable} to its path")


def _missing(name: str) -> str | None:
    try:
        find_program(name)
        if name in _CONFIGURATIONS:
            find_configuration(name)
    except CodecUnavailable as error:
        return str(error)
    return None


def _hm(regime: Regime, points: int) -> list[VideoCodec]:
    period = intra_period(regime)
    return [Hm(qp=qp, i_offset=o, intra_period=period) for o in I_OFFSETS for qp in quantisers(51, 28, points)]


def _vtm(regime: Regime, points: int) -> list[VideoCodec]:
    period = intra_period(regime)
    return [Vtm(qp=qp, i_offset=o, intra_period=period) for o in I_OFFSETS for qp in quantisers(55, 30, points)]


def _vvencapp(regime: Regime, points: int) -> list[VideoCodec]:
    period = intra_period(regime)
    return [Vvencapp(qp=qp, i_offset=o, intra_period=period) for o in I_OFFSETS for qp in quantisers(55, 30, points)]


REFERENCE: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "hm", "HEVC (HM)", "HM low-delay P, hull over intra QP offsets 0, 6, 12.", _hm, missing=lambda: _missing("hm")
        ),
        Family(
            "vtm", "VVC (VTM)", "VTM low-delay P, hull over intra QP offsets 0, 6, 12.", _vtm, missing=lambda: _missing("vtm")
        ),
        Family(
            "vvencapp",
            "VVC (vvencapp)",
            "The PATH's vvencapp at preset slow, low delay, hull over intra QP offsets 0, 6, 12.",
            _vvencapp,
            missing=lambda: _missing("vvencapp"),
        ),
    )
}
