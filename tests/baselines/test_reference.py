"""HM, VTM and vvencapp, played by programs that take the real ones' options and leave a real stream."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from baselines import reference
from baselines.codec import REGIMES, Tunable
from baselines.conventional import decode
from baselines.programs import ffmpeg_program
from baselines.reference import REFERENCE, Hm, JctEncoder, Vtm, Vvencapp, find_configuration, find_program
from data.errors import CodecUnavailable, ExternalCodecError, InputError
from tests.clips import moving_clip, psnr_y

BANNERS = {
    "hm": "HM software: Encoder Version [16.8] (including RExt)[Linux][GCC 12.2.0][64 bit]",
    "vtm": "VVCSoftware: VTM Encoder Version 22.2 [Linux][GCC 12.2.0][64 bit]",
    "vvencapp": "vvencapp: Fraunhofer VVC Encoder ver. 1.12.0 [Linux][GCC 12.2.0][64 bit][SIMD=AVX2]",
}
CONFIGURATIONS = {"hm": "encoder_lowdelay_P_main.cfg", "vtm": "encoder_lowdelay_P_vtm.cfg"}
CODECS: dict[str, type[JctEncoder] | type[Vvencapp]] = {"hm": Hm, "vtm": Vtm, "vvencapp": Vvencapp}
every_program = pytest.mark.parametrize("name", CODECS)

PROGRAM = r"""
import json, os, re, subprocess, sys

arguments = sys.argv[1:]
print(BANNER)
if len(arguments) < 2:
    sys.exit(0 if arguments == ["--version"] else 1)  # HM and VTM print their help and fail
with open(LOG, "a") as log:
    log.write(json.dumps(arguments) + "\n")


def give_up(message):
    print(message, file=sys.stderr)
    sys.exit(1)


if KIND == "vvencapp":
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    width, height = map(int, options["-s"].split("x"))
    # -r takes a whole number and silently ignores what follows it
    if "-r" in options or not re.fullmatch(r"\d+(/\d+)?", options["--fps"]):
        give_up(f"no frame rate in {arguments}")
    source, stream, fps, qp = options["-i"], options["-o"], options["--fps"], options["--qp"]
    period, tools = int(options["--intraperiod"]), options["--additional"]
else:
    if arguments[0] != "-c" or not os.path.isfile(arguments[1]):
        give_up(f"Error: cannot open {arguments[1]} in {os.getcwd()}")
    options = dict(argument[2:].split("=", 1) for argument in arguments[2:])
    width, height = int(options["SourceWidth"]), int(options["SourceHeight"])
    source, stream, fps, qp = options["InputFile"], options["BitstreamFile"], str(int(options["FrameRate"])), options["QP"]
    period = int(options["IntraPeriod"])
    tools = f"PicReordering=0:GOPSize=8:POC0IDR=1:IntraQPOffset={options['IntraQPOffset']}"
if width % 8 or height % 8 or os.path.getsize(source) % (width * height * 3 // 2):
    give_up(f"{width}x{height} does not fit the file")
encoder = {
    "hm": ["-c:v", "libx265", "-preset", "ultrafast", "-tune", "zerolatency", "-f", "hevc", "-x265-params",
           f"qp={qp}:keyint={period}:min-keyint={max(period, 1)}:scenecut=0:repeat-headers=1:log-level=none"],
    "vtm": ["-c:v", "libvvenc", "-preset", "faster", "-qp", qp, "-qpa", "0", "-pix_fmt", "yuv420p10le", "-f", "vvc",
            "-vvenc-params", f"IntraPeriod={period}:DecodingRefreshType=none:{tools}"],
}["hm" if KIND == "hm" else "vtm"]
raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", fps, "-i", source]
sys.exit(subprocess.run([FFMPEG, "-loglevel", "error", *raw, "-threads", "1", *encoder, "-y", stream]).returncode)
"""


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A PATH of one empty folder; programs that were found before are forgotten, and so are these afterwards."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in CONFIGURATIONS:
        monkeypatch.delenv(f"HDAC_{name.upper()}_CFG", raising=False)
    for function in (find_program, find_configuration):
        function.cache_clear()
    yield folder
    for function in (find_program, find_configuration):
        function.cache_clear()


def write_program(path: Path, name: str, body: str = PROGRAM) -> Path:
    """An executable that calls itself HM, VTM or vvencapp; its arguments are logged beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    constants = {"KIND": name, "BANNER": BANNERS[name], "FFMPEG": ffmpeg_program(), "LOG": f"{path}.log"}
    lines = [f"#!{sys.executable}", *(f"{key} = {value!r}" for key, value in constants.items()), body]
    path.write_text("\n".join(lines))
    path.chmod(0o755)
    return path


def install(path: Path, name: str, body: str = PROGRAM) -> Path:
    """The program on the PATH under the name that HM and VTM share, its configuration where their source trees have it."""
    if name in CONFIGURATIONS:
        configuration = path.parent / "cfg" / CONFIGURATIONS[name]
        configuration.parent.mkdir(exist_ok=True)
        configuration.write_text("FramesToBeEncoded : 1\n")
    return write_program(path / ("vvencapp" if name == "vvencapp" else "EncoderApp"), name, body)


def calls(program: Path) -> list[list[str]]:
    return [json.loads(line) for line in Path(f"{program}.log").read_text().splitlines()]


# -- finding -----------------------------------------------------------------------------------------------------------


@every_program
def test_a_program_that_is_not_there_is_not_installed_with_its_name(name: str) -> None:
    reason = REFERENCE[name].missing()
    assert reason is not None and "on PATH" in reason and ("vvencapp" if name == "vvencapp" else "EncoderApp") in reason
    with pytest.raises(CodecUnavailable, match=name):
        CODECS[name](qp=40).encode(moving_clip(1))


@every_program
def test_an_installed_program_runs_and_its_banner_is_the_version(name: str, path: Path) -> None:
    program = install(path, name)
    assert REFERENCE[name].missing() is None
    assert find_program(name) == (str(program), BANNERS[name])
    assert BANNERS[name] in CODECS[name](qp=40).version


def test_hm_and_vtm_are_told_apart_by_their_banner(path: Path) -> None:
    install(path, "vtm")
    assert REFERENCE["vtm"].missing() is None
    assert REFERENCE["hm"].missing() is not None


def test_two_programs_of_one_name_on_the_path_are_both_found(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("hm", "vtm"):
        (tmp_path / name / "bin").mkdir(parents=True)
        install(tmp_path / name / "bin", name)
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / name / "bin") for name in ("hm", "vtm")))
    for name in ("hm", "vtm"):
        assert find_program(name)[0] == str(tmp_path / name / "bin" / "EncoderApp")
        assert find_configuration(name) == str(tmp_path / name / "cfg" / CONFIGURATIONS[name])


@pytest.mark.parametrize("body", ["import sys; print('Usage: EncoderApp FILE'); sys.exit(2)", "no python at all"])
def test_other_programs_of_that_name_are_not_taken(path: Path, body: str) -> None:
    write_program(path / "EncoderApp", "hm", body)
    assert REFERENCE["hm"].missing() is not None
    (path / "EncoderApp").write_bytes(b"\x7fELF, but not really")
    find_program.cache_clear()
    assert REFERENCE["hm"].missing() is not None


def test_a_link_on_the_path_leads_to_the_configuration_of_the_source_tree(path: Path, tmp_path: Path) -> None:
    tree = tmp_path / "src" / "HM"
    (tree / "cfg").mkdir(parents=True)
    (tree / "cfg" / CONFIGURATIONS["hm"]).touch()
    (path / "TAppEncoderStatic").symlink_to(write_program(tree / "bin" / "umake" / "TAppEncoderStatic", "hm"))
    assert find_configuration("hm") == str(tree / "cfg" / CONFIGURATIONS["hm"])


def test_a_program_without_configuration_says_which_variable_to_set(path: Path) -> None:
    write_program(path / "EncoderApp", "vtm")
    reason = REFERENCE["vtm"].missing()
    assert reason is not None and "$HDAC_VTM_CFG" in reason and CONFIGURATIONS["vtm"] in reason


def test_the_variable_names_the_configuration_even_by_a_relative_path(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = install(path, "hm")
    (tmp_path / "own.cfg").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HDAC_HM_CFG", "own.cfg")
    Hm(qp=40).encode(moving_clip(1))
    assert calls(program)[0][:2] == ["-c", str(tmp_path / "own.cfg")]

    monkeypatch.setenv("HDAC_HM_CFG", "no-such.cfg")
    find_configuration.cache_clear()
    reason = REFERENCE["hm"].missing()
    assert reason is not None and "no-such.cfg" in reason


def test_a_relative_folder_on_the_path_works(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(path, "vvencapp")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "bin")
    assert Vvencapp(qp=40).decode(Vvencapp(qp=40).encode(moving_clip(1))).n_frames == 1


# -- coding ------------------------------------------------------------------------------------------------------------


@every_program
@pytest.mark.parametrize(("width", "height", "n_frames"), [(48, 40, 5), (50, 38, 3), (33, 47, 2), (16, 16, 1)])
def test_decoded_clip_has_the_sources_size_count_and_rate(
    name: str, path: Path, width: int, height: int, n_frames: int
) -> None:
    install(path, name)
    codec = CODECS[name](qp=28)
    clip = moving_clip(n_frames, width, height, Fraction(30000, 1001))
    stream = codec.encode(clip)
    decoded = decode(stream)
    assert decoded.y.shape == clip.y.shape and decoded.fps == clip.fps
    assert psnr_y(clip, decoded) > 25
    assert sum(codec.ledger(stream).totals.values()) == len(stream)


@pytest.mark.parametrize("name", ["hm", "vvencapp"])
def test_a_short_gop_has_its_intra_pictures_and_pays_for_parameter_sets_once(name: str, path: Path) -> None:
    install(path, name)
    codec = CODECS[name](qp=34, intra_period=4)
    ledger = codec.ledger(codec.encode(moving_clip(9, 48, 40)))
    assert np.flatnonzero(ledger.layers["intra"]).tolist() == [0, 4, 8]
    assert np.flatnonzero(ledger.layers["parameter_sets"]).tolist() == [0]


@pytest.mark.parametrize("name", ["hm", "vtm"])
@pytest.mark.parametrize(("intra_period", "written"), [(0, "-1"), (32, "32")])
def test_command_holds_configuration_quantiser_gop_and_no_hash(name: str, path: Path, intra_period: int, written: str) -> None:
    program = install(path, name)
    codec = CODECS[name](qp=37, i_offset=6, intra_period=intra_period)
    clip = moving_clip(2, 50, 38, Fraction(30000, 1001))
    codec.encode(clip)
    (arguments,) = calls(program)
    assert arguments[:2] == ["-c", find_configuration(name)]
    options = dict(argument.removeprefix("--").split("=", 1) for argument in arguments[2:])
    assert options["QP"] == "37" and options["IntraQPOffset"] == "-6" and options["IntraPeriod"] == written
    assert (options["SourceWidth"], options["SourceHeight"], options["FramesToBeEncoded"]) == ("56", "40", "2")
    assert options["FrameRate"] == "30"  # the program takes whole numbers only
    assert options["SEIDecodedPictureHash"] == "0"
    # what is recorded is what ran, but for the names of temporary files
    recorded = codec.command(clip).split()
    differing = [a.split("=")[0] for a, b in zip(arguments, recorded[1:], strict=True) if a != b]
    assert recorded[0] == str(program) and differing == ["--InputFile", "--BitstreamFile"]


def test_command_of_vvencapp_holds_size_exact_rate_quantiser_and_low_delay(path: Path) -> None:
    program = install(path, "vvencapp")
    Vvencapp(qp=37, i_offset=6).encode(moving_clip(2, 50, 38, Fraction(30000, 1001)))
    (arguments,) = calls(program)
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert (options["-s"], options["--fps"], options["--qp"]) == ("56x40", "30000/1001", "37")
    assert "PicReordering=0" in options["--additional"] and "IntraQPOffset=-6" in options["--additional"]


@every_program
@pytest.mark.parametrize("regime", REGIMES)
def test_every_point_of_a_family_is_another_command_with_its_own_quantiser(name: str, path: Path, regime: str) -> None:
    install(path, name)
    codecs = REFERENCE[name].candidates(regime, 6)  # type: ignore[arg-type]
    commands = [codec.command(moving_clip(2)) for codec in codecs]
    assert len(set(commands)) == len({codec.label for codec in codecs}) == len(codecs) == 18
    for codec, command in zip(codecs, commands, strict=True):
        assert isinstance(codec, Tunable)
        assert codec.label.endswith(f"QP {codec.quantiser}")
        assert f"--QP={codec.quantiser} " in command or f"--qp {codec.quantiser} " in command


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "last_words"),
    [
        ("import sys; print(BANNER); print('Unhandled option: QPfoo', file=sys.stderr); sys.exit(3)", "QPfoo"),
        ("import sys; print(BANNER); print('Error: no memory'); sys.exit(3)", "Error: no memory"),
        ("import sys; print(BANNER); open(sys.argv[4].split('=')[1], 'wb').write(b'\\0\\0\\1'); sys.exit(3)", BANNERS["hm"]),
    ],
    ids=["stderr", "stdout", "half a stream"],
)
def test_a_program_that_fails_is_an_error_with_its_last_words(path: Path, body: str, last_words: str) -> None:
    program = install(path, "hm", body)
    with pytest.raises(ExternalCodecError) as caught:
        Hm(qp=40).encode(moving_clip(1))
    assert caught.value.code == 3 and caught.value.command[0] == str(program)
    assert last_words in str(caught.value)


def test_a_program_that_leaves_no_stream_is_an_error(path: Path) -> None:
    install(path, "hm", "print(BANNER)")
    with pytest.raises(ExternalCodecError, match="HM software"):
        Hm(qp=40).encode(moving_clip(1))


def test_a_program_that_hangs_is_stopped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(path, "hm", "import sys, time; print(BANNER, flush=True); len(sys.argv) > 1 and time.sleep(60)")
    find_program("hm")
    monkeypatch.setattr(reference, "ENCODE_TIMEOUT_S", 0.3)
    with pytest.raises(ExternalCodecError) as caught:
        Hm(qp=40).encode(moving_clip(1))
    assert caught.value.code is None and "time limit" in str(caught.value)


def test_a_program_that_loses_a_frame_is_an_error(path: Path) -> None:
    install(path, "hm", PROGRAM.replace('"-threads"', '"-frames:v", "3", "-threads"'))
    with pytest.raises(ExternalCodecError, match="4 frames went in, 3 pictures came out"):
        Hm(qp=40).encode(moving_clip(4))


@every_program
def test_quantisers_outside_the_standard_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="got 64"):
        replace(CODECS[name](qp=40), qp=64)
