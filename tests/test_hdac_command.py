"""The `hdac` command: streams and clips come and go whole; an error is one line that names the value."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from baselines.codec import Tunable
from data.io import read_clip, write_clip
from hdac import weights
from hdac.__main__ import main
from hdac.codecs.hdac import Hdac
from hdac.container import Reader
from hdac.systems import FAMILIES, catalogue, decode, ledger, weights_mb
from tests.clips import moving_clip, psnr_y
from tests.hdac.make_golden import GOLDEN
from tests.hdac.nets import save_tiny

CLIP = moving_clip(3, 50, 38, Fraction(30000, 1001))


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clip.y4m and its stream, 6 frames."""
    folder = tmp_path_factory.mktemp("coded")
    write_clip(moving_clip(6, 50, 38), folder / "clip.y4m")
    assert main(["encode", str(folder / "clip.y4m"), str(folder / "stream.bin"), "--codec", "h264", "--qp", "30"]) == 0
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.y4m"
    write_clip(CLIP, path)
    return path


def one_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What the command said, after checking that it is one line of error and nothing else."""
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ") and said.err.endswith("\n") and said.err.count("\n") == 1
    return said.err


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# -- what works --------------------------------------------------------------------------------------------------------


def test_list_names_every_codec_and_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["list"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    lines = lines[: len(FAMILIES)]
    assert [line.split()[0] for line in lines] == list(FAMILIES)
    for line, family in zip(lines, FAMILIES.values(), strict=True):
        assert family.title in line and ("NOT INSTALLED" in line) == (family.missing() is not None)
        assert family.paper in line and (" MB " in line) == bool(family.networks and not family.missing())
        rates = re.search(r" ([\d.]+)-([\d.]+) ", line)
        assert (rates is not None) == (family.name in catalogue())
        assert rates is None or 0 < float(rates[1]) < float(rates[2]) < 200


def test_what_the_list_says_is_of_codecs_that_there_are() -> None:
    assert set(catalogue()) <= set(FAMILIES)
    assert {"hevc", "vvc", "hdac", "dac", "face-vid2vid"} <= set(catalogue())
    assert weights_mb(FAMILIES["hdac+residual"]) > weights_mb(FAMILIES["hdac"]) > 1
    assert weights_mb(FAMILIES["hevc"]) == 0


@pytest.mark.parametrize("codec", ["h264", "hevc", "hevc-paper", "vp9", "av1"])
def test_encode_info_decode_is_the_codecs_own_round_trip(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], codec: str
) -> None:
    stream, out = tmp_path / "new" / "stream.bin", tmp_path / "out.y4m"
    assert main(["encode", str(clip), str(stream), "--codec", codec, "--qp", "35"]) == 0
    setting = FAMILIES[codec].candidates("one-intra", 1)[0]
    assert isinstance(setting, Tunable)
    assert stream.read_bytes() == setting.with_quantiser(35).encode(CLIP)  # the folder was made, too
    size = stream.stat().st_size
    kbps = 8 * size / float(CLIP.seconds) / 1000
    assert f"{size} bytes, {kbps:.2f} kbit/s" in capsys.readouterr().out

    assert main(["info", str(stream)]) == 0
    said = capsys.readouterr().out
    assert "50x38  3 frames  30000/1001 fps" in said and f"{size} bytes, {kbps:.3f} kbit/s" in said
    layers = [int(n) for n in re.findall(r"^  \w+ +(\d+) bytes", said, re.MULTILINE)]
    assert sum(layers) == size

    assert main(["decode", str(stream), str(out)]) == 0
    assert read_clip(out).equals(setting.decode(stream.read_bytes()))


def test_the_module_runs_as_a_program_of_its_own(coded: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hdac", "decode", str(coded / "stream.bin"), str(tmp_path / "out.y4m")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_clip(tmp_path / "out.y4m").equals(decode((coded / "stream.bin").read_bytes()))


def test_frames_and_regime_reach_the_encoder(clip: Path, tmp_path: Path) -> None:
    write_clip(moving_clip(34, 32, 32), clip, force=True)
    for regime, n_intra in (("one-intra", 1), ("short-gop", 2)):
        out = tmp_path / regime
        command = ["encode", str(clip), str(out), "--codec", "h264", "--regime", regime, "--frames", "33"]
        assert main(command) == 0
        codec = FAMILIES["h264"].candidates("one-intra", 1)[0]
        ledger = codec.ledger(out.read_bytes())
        assert len(ledger.frames) == 33 and (ledger.layers["intra"] > 0).sum() == n_intra


def test_a_finer_qp_costs_more_and_looks_better(clip: Path, tmp_path: Path) -> None:
    found: dict[int, tuple[int, float]] = {}
    for qp in (24, 40):
        assert main(["encode", str(clip), str(tmp_path / str(qp)), "--codec", "h264", "--qp", str(qp)]) == 0
        stream = (tmp_path / str(qp)).read_bytes()
        found[qp] = len(stream), psnr_y(CLIP, decode(stream))
    assert found[24] > found[40] and found[24][1] > found[40][1]


def test_nothing_is_overwritten_without_force(coded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.y4m"
    out.write_text("precious")
    encode = ["encode", str(coded / "clip.y4m"), str(out), "--codec", "h264"]
    for command in (encode, ["decode", str(coded / "stream.bin"), str(out)]):
        assert main(command) == 1
        assert str(out) in one_error_line(capsys) and out.read_text() == "precious"
        assert main([*command, "-f"]) == 0
        assert out.read_bytes() != b"precious"
        out.write_text("precious")
        capsys.readouterr()


# -- what does not -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--codec", "h265"], "'h265'"),
        (["--codec", "hevc", "--qp", "52"], "52"),
        (["--codec", "hevc", "--qp", "-1"], "-1"),
        (["--codec", "hevc", "--kbps", "9"], "--kbps is for"),
        (["--codec", "hevc", "--best-look"], "hevc has no --best-look; dac, hdac have"),
        (["--codec", "hdac", "--keypoints", "4"], "hdac has no --keypoints; face-vid2vid has"),
        (["--codec", "face-vid2vid", "--best-look"], "--best-look; dac, hdac have"),
        (["--network", "nothere"], "nothere.safetensors"),
        (["--codec", "vp9", "--qp", "64"], "64"),
        (["--codec", "vtm"], "vtm cannot run here"),
        (["--frames", "0"], "0 frames"),
    ],
)
def test_settings_that_cannot_be_are_named(
    clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    named: str,
) -> None:
    monkeypatch.setenv("PATH", "")
    before = files(tmp_path)
    assert main(["encode", str(clip), str(tmp_path / "out"), *options]) == 1
    assert named in one_error_line(capsys) and files(tmp_path) == before


@pytest.mark.parametrize("command", ["encode", "decode", "info"])
def test_a_missing_input_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    out = [str(tmp_path / "out.y4m")] if command != "info" else []
    assert main([command, str(tmp_path / "no-such.file"), *out]) == 1
    assert "no-such.file" in one_error_line(capsys) and files(tmp_path) == set()


def damaged(stream: bytes, how: str) -> bytes:
    flips = {  # of the 8 bytes of header and the start code of the first NAL unit
        "magic": (0, 0x24),
        "standard": (1, 0x24),
        "colour": (2, 0x24),
        "width": (3, 0x40),
        "frame count": (7, 0x24),
        "NAL unit type": (11, 0x24),
    }
    if how in flips:
        position, bits = flips[how]
        return stream[:position] + bytes((stream[position] ^ bits,)) + stream[position + 1 :]
    return {
        "empty": b"",
        "text": b"hello, this is a text file\n",
        "header alone": stream[:8],
        "half": stream[: len(stream) // 2],
        "one frame less": stream[: stream.rindex(b"\0\0\1")],
        "another header": bytes((stream[0], 2)) + stream[2:],
    }[how]


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("magic", "0xc1"),
        ("standard", "standard 37"),
        ("colour", "0x24"),
        ("width", "114x38"),
        ("frame count", "34 frames"),
        ("NAL unit type", "first slice"),
        ("empty", "0 bytes"),
        ("text", "0x68"),
        ("header alone", ""),
        ("half", "6 frames"),
        ("one frame less", "6 frames"),
        ("another header", ""),
    ],
)
def test_a_damaged_stream_is_said_and_leaves_no_clip(
    coded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str, named: str
) -> None:
    path = tmp_path / "stream.bin"
    path.write_bytes(damaged((coded / "stream.bin").read_bytes(), how))
    assert main(["decode", str(path), str(tmp_path / "out.y4m")]) == 1
    assert named in one_error_line(capsys) and files(tmp_path) == {"stream.bin"}


def test_any_flipped_bit_is_an_error_or_a_clip_of_the_headers_shape(
    coded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = (coded / "stream.bin").read_bytes()
    path, out = tmp_path / "stream.bin", tmp_path / "out.y4m"
    for position in range(8, len(stream), max(1, len(stream) // 40)):
        path.write_bytes(stream[:position] + bytes((stream[position] ^ 1 << position % 8,)) + stream[position + 1 :])
        if main(["decode", str(path), str(out)]) == 0:
            assert read_clip(out).y.shape == (6, 38, 50)
            out.unlink()
        said = capfd.readouterr().err
        assert "Traceback" not in said and files(tmp_path) == {"stream.bin"}


def test_info_does_not_print_a_rate_of_a_stream_that_lacks_frames(
    coded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "stream.bin"
    path.write_bytes(damaged((coded / "stream.bin").read_bytes(), "one frame less"))
    assert main(["info", str(path)]) == 1
    assert "6 frames" in one_error_line(capsys)


def test_output_that_cannot_be_written_is_named_and_leaves_nothing(
    coded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "other.txt").touch()
    before = files(tmp_path)
    encode = ["encode", str(coded / "clip.y4m"), "OUT", "--codec", "h264", "-f"]
    decoder = ["decode", str(coded / "stream.bin"), "OUT", "-f"]
    for command, out in (
        (encode, tmp_path / "file" / "out"),
        (encode, tmp_path / "folder"),
        (decoder, tmp_path / "file" / "out.y4m"),
        (decoder, tmp_path / "folder"),
        (decoder, tmp_path / "clip.gif"),
    ):
        assert main([str(out) if word == "OUT" else word for word in command]) == 1
        named = out.suffix if out.name == "clip.gif" else str(out.parent if out.parent.name == "file" else out)
        assert named in one_error_line(capsys) and files(tmp_path) == before


@pytest.mark.parametrize("kind", ["read-only", "full"])
def test_a_disk_that_takes_no_file_is_one_line_of_error(
    coded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    options = "ro" if kind == "read-only" else "size=4k"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(disk)], capture_output=True).returncode:
        pytest.skip("a disk that root cannot write to needs the right to mount a small one")
    try:
        assert main(["decode", str(coded / "stream.bin"), str(disk / "out.y4m")]) == 1
        left = files(disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert ("Read-only" if kind == "read-only" else "No space left") in one_error_line(capsys)
    assert left == set()


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{shlex.quote(sys.executable)} -m hdac list | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_odd_sizes_cannot_go_to_mp4_and_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(moving_clip(1, 33, 47), tmp_path / "odd.y4m")
    assert main(["encode", str(tmp_path / "odd.y4m"), str(tmp_path / "stream"), "--codec", "h264"]) == 0
    before = files(tmp_path)
    capsys.readouterr()
    assert main(["decode", str(tmp_path / "stream"), str(tmp_path / "out.mp4")]) == 1
    assert "33x47" in one_error_line(capsys) and files(tmp_path) == before


# -- layered codecs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def layered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with clip.y4m and call.hdac, 6 frames of it, around a tiny network."""
    save_tiny(tmp_path / "weights")
    monkeypatch.setenv("HDAC_WEIGHTS", str(tmp_path / "weights"))
    write_clip(moving_clip(6, 96, 96), tmp_path / "clip.y4m")
    assert main(["encode", str(tmp_path / "clip.y4m"), str(tmp_path / "call.hdac"), "--network", "tiny"]) == 0
    return tmp_path


def piped(folder: Path, output: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hdac", "decode", "-", output, *options]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder)


def test_a_pipe_is_decoded_while_it_is_still_being_written(layered: Path) -> None:
    stream, spent = (layered / "call.hdac").read_bytes(), ledger((layered / "call.hdac").read_bytes())
    upto = spent.header + int(spent.frames[:3].sum())
    whole = decode(stream)
    frame_bytes = len(whole[:1].yuv_bytes()) + len(b"FRAME\n")
    with piped(layered, "-") as process:
        assert process.stdin and process.stdout
        process.stdin.write(stream[:upto])
        process.stdin.flush()
        header = process.stdout.readline()
        assert header.startswith(b"YUV4MPEG2 W96 H96")
        early = process.stdout.read(3 * frame_bytes)  # the rest has not been sent yet
        process.stdin.write(stream[upto:])
        process.stdin.close()
        late = process.stdout.read()
        assert process.wait() == 0
    assert early + late == b"".join(b"FRAME\n" + whole[t : t + 1].yuv_bytes() for t in range(6))


def test_a_pipe_that_breaks_off_is_an_error_of_one_line(layered: Path) -> None:
    stream = (layered / "call.hdac").read_bytes()
    with piped(layered, "out.y4m") as process:
        _, said = process.communicate(stream[:-5])
        assert process.returncode == 1 and said.startswith(b"error: ") and said.count(b"\n") == 1


def test_tolerant_decoding_says_what_it_leaves_out(layered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = Hdac(qp=42, network="tiny", checksum_interval=2).encode(read_clip(layered / "clip.y4m"))
    (layered / "cut.hdac").write_bytes(stream[:-8])
    assert main(["decode", str(layered / "cut.hdac"), str(layered / "out.y4m")]) == 1
    assert not (layered / "out.y4m").exists()
    capsys.readouterr()
    assert main(["decode", str(layered / "cut.hdac"), str(layered / "out.y4m"), "--tolerant"]) == 0
    assert "frames in front of the damage" in capsys.readouterr().err
    assert 0 < read_clip(layered / "out.y4m").n_frames < 6


@pytest.mark.parametrize(("checksum_interval", "n_shown"), [(2, 4), (0, 5)])
def test_a_tolerant_pipe_gives_the_frames_in_front_of_the_damage_as_a_file_does(
    layered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checksum_interval: int, n_shown: int
) -> None:
    stream = Hdac(qp=42, network="tiny", checksum_interval=checksum_interval).encode(read_clip(layered / "clip.y4m"))
    spent = ledger(stream)
    (layered / "cut.hdac").write_bytes(stream[: spent.header + int(spent.frames[:5].sum()) + 1])  # in the sixth unit
    with (layered / "cut.hdac").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert main(["decode", "-", str(layered / "pipe.y4m"), "--tolerant"]) == 0
    said = capsys.readouterr().err
    assert said.startswith(f"{n_shown} frames in front of the damage: ") and said.count("\n") == 1
    assert np.array_equal(read_clip(layered / "pipe.y4m").y, decode(stream).y[:n_shown])
    assert main(["decode", str(layered / "cut.hdac"), str(layered / "file.y4m"), "--tolerant"]) == 0
    assert (layered / "file.y4m").read_bytes() == (layered / "pipe.y4m").read_bytes()
    assert capsys.readouterr().err == said


def test_a_tolerant_pipe_without_a_frame_in_front_of_the_damage_is_an_error(
    layered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (layered / "cut.hdac").write_bytes((layered / "call.hdac").read_bytes()[:-5])  # its one checksum is cut off
    capsys.readouterr()
    with (layered / "cut.hdac").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert main(["decode", "-", str(layered / "out.y4m"), "--tolerant"]) == 1
    one_error_line(capsys)


@pytest.mark.parametrize("option", [["--rotate", "-5,0,0"], ["--fine-tune", "3"], ["--int8"]])
def test_what_needs_the_whole_stream_does_not_read_a_pipe(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.y4m"
    assert main(["decode", "-", str(out), *option]) == 1
    assert "take a file, not a pipe" in one_error_line(capsys) and not out.exists()


def test_a_tolerant_pipe_gives_frames_as_soon_as_their_checksum_is_there(layered: Path) -> None:
    stream = Hdac(qp=42, network="tiny", checksum_interval=2).encode(read_clip(layered / "clip.y4m"))
    whole, spent = decode(stream), ledger(stream)
    upto = spent.header + int(spent.frames[:4].sum())
    with piped(layered, "-", "--tolerant") as process:
        assert process.stdin and process.stdout
        process.stdin.write(stream[:upto])
        process.stdin.flush()
        process.stdout.readline()
        early = process.stdout.read(4 * len(b"FRAME\n" + whole[:1].yuv_bytes()))  # the rest has not been sent yet
        _, said = process.communicate(stream[upto:])
        assert (process.returncode, said) == (0, b"")
    assert early == b"".join(b"FRAME\n" + whole[t : t + 1].yuv_bytes() for t in range(4))


def test_info_tells_the_settings_of_a_layered_stream(layered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(layered / "large.hdac")
    write_clip(moving_clip(2, 520, 300), layered / "large.y4m")
    network = weights.weights_id(layered / "weights" / "tiny.safetensors").hex()
    whole, middle, shared = "none, the whole picture", "300x300 at (110, 0)", "QP 30, the base layer's intra pictures"
    for name, options, expected in (
        ("clip", ("--i-offset", "12"), {"base QP": "42", "reference": shared, "face box": whole}),
        ("clip", ("--best-look", "--qp", "40"), {"base QP": "40", "best look": "yes", "keypoints": "step 128, not sent"}),
        ("large", ("--codec", "dac"), {"reference": "QP 42, BPG", "keypoints": "step 128, sent", "face box": middle}),
        ("clip", ("--codec", "dac"), {"best look": "no", "weights": network, "checksum": "every 50 units"}),
    ):
        clip = str(layered / f"{name}.y4m")
        assert main(["encode", clip, out, "--network", "tiny", "-f", *options]) == 0
        assert main(["info", out]) == 0
        said = dict(re.findall(r"^  (\w+(?: \w+)?)  +(.+)$", capsys.readouterr().out, re.MULTILINE))
        assert expected.items() <= said.items() and ("base QP" in said) == ("dac" not in options)
    for system, wish in (("dac", "best look"), ("face-vid2vid", "least error")):
        assert main(["info", str(GOLDEN / f"{system}-enhanced.hdac")]) == 0
        assert f"what they have enhanced is animated for {wish}" in capsys.readouterr().out
    assert main(["encode", str(layered / "clip.y4m"), out, "--codec", "hevc-stripped", "-f"]) == 0
    assert main(["info", out]) == 0
    said = dict(re.findall(r"^  (\w+(?: \w+)?)  +(.+)$", capsys.readouterr().out, re.MULTILINE))
    assert {"base layer", "base QP"} <= set(said) and not {"weights", "keypoints", "best look", "face box"} & set(said)


def test_options_of_layers_are_in_the_stream(layered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["encode", str(layered / "clip.y4m"), str(layered / "o.hdac"), "--network", "tiny", "--base-every", "3"]
    options = ["--base-half", "--send-keypoints", "--reference-qp", "40", "--reference-codec", "vvc"]
    assert main([*command, *options]) == 0
    with (layered / "o.hdac").open("rb") as file:
        header = Reader(file).header
    assert (header.base_codec, header.base_every, header.base_half) == ("hevc", 3, True)
    assert (header.reference_codec, header.reference_qp, header.keypoints_sent) == ("vvc", 40, True)
    assert main(["decode", str(layered / "o.hdac"), str(layered / "out.y4m")]) == 0
    assert read_clip(layered / "out.y4m").n_frames == 6
    capsys.readouterr()
    assert main(["info", str(layered / "o.hdac")]) == 0
    said = capsys.readouterr().out
    assert "HEVC, every 3 frames, half size" in said and "QP 40, VVC" in said


@pytest.mark.parametrize(
    ("codec", "options", "named"),
    [
        ("hevc", ["--base-codec", "vvc"], "--base-codec"),
        ("dac", ["--base-every", "2", "--base-half"], "--base-every, --base-half"),
        ("h264", ["--reference-codec", "vvc"], "--reference-codec"),
        ("dac", ["--tau", "3", "--refresh", "distance"], "dac has no --tau"),
        ("dac", ["--refresh", "distance"], "'distance'"),
        ("fomm", ["--tau", "3"], "of --refresh distance"),
        ("fomm", ["--sources", "7"], "sources=7"),
        ("fomm", ["--step", "100"], "step 100"),
        ("dac", ["--step", "128"], "dac has no --step"),
        ("hdac", ["--least-error"], "hdac has no --least-error"),
        ("fomm", ["--motion-coder", "paper"], "'paper'"),
        ("fomm", ["--base-half"], "--base-half"),
        ("hdac", ["--reference-codec", "vvc"], "--reference-qp"),
    ],
)
def test_options_of_layers_that_a_codec_does_not_have_are_refused(
    layered: Path, capsys: pytest.CaptureFixture[str], codec: str, options: list[str], named: str
) -> None:
    command = ["encode", str(layered / "clip.y4m"), str(layered / "o.hdac"), "--codec", codec]
    assert main([*command, *options, *(["--network", "tiny"] if codec in ("dac", "hdac") else [])]) == 1
    assert named in one_error_line(capsys) and not (layered / "o.hdac").exists()


def test_options_of_the_mobile_family_are_in_the_stream(layered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, out = str(layered / "clip.y4m"), str(layered / "m.hdac")
    command = ["encode", clip, out, "-f", "--codec", "motion-net-20l", "--network", "tiny-learned"]
    sizes = []
    for options, label, said in (
        ([], "tiny-learned QP 42", "step 64, sent"),
        (["--motion-coder", "huffman"], "huffman coder", "huffman coder"),
        (["--reference-codec", "vvc"], "VVC QP 42", "QP 42, VVC"),
        (["--refresh", "distance", "--tau", "1e-9", "--when-far", "rest"], "distance > 1e-09 rest", "step 64"),
        (["--sources", "2", "--chosen-from", "clip"], "refresh rd 2 sources chosen", "step 64"),
    ):
        assert main([*command, *options]) == 0 and label in capsys.readouterr().out
        assert main(["info", out]) == 0 and said in capsys.readouterr().out
        assert main(["decode", out, str(layered / "m.y4m"), "-f"]) == 0
        sizes.append(len(Path(out).read_bytes()))
    assert read_clip(layered / "m.y4m").n_frames == 6
    assert sizes[3] < sizes[0]  # nothing moves


def test_a_face_is_seen_from_elsewhere(
    layered: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, clip = str(layered / "face.hdac"), str(layered / "clip.y4m")
    face = ["--codec", "face-vid2vid", "--network", "tiny-face"]
    assert main(["encode", clip, stream, *face, "--keypoints", "3", "--motion-coder", "paper"]) == 0
    assert main(["info", stream]) == 0
    said = capsys.readouterr().out
    assert "by the paper's coder" in said and re.search(r"deformations +3\.00 on average in 5 of 5 frames", said)
    assert main(["encode", clip, stream, "-f", *face]) == 0
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("HDAC_WEIGHTS", str(layered / "elsewhere"))
        assert main(["info", stream]) == 0
    assert re.search(r"deformations +not known: .*weights", capsys.readouterr().out)
    shown = []
    views = [[], ["--rotate", "0,0,0"], ["--rotate", "-20,5,0"], ["--rotate", "20,0,0", "--translate", "0,-0.1,0"]]
    for i, view in enumerate(views):
        assert main(["decode", stream, str(layered / f"{i}.y4m"), *view]) == 0
        shown.append(read_clip(layered / f"{i}.y4m"))
    assert shown[0].equals(shown[1])
    assert all(not np.array_equal(shown[0].y[t], other.y[t]) for other in shown[2:] for t in range(6))
    assert all(one.y.shape == shown[0].y.shape for one in shown)
    capsys.readouterr()
    for options, named in ((["--tolerant"], "damaged"), ([], "a stream of hdac")):
        source = stream if options else str(layered / "call.hdac")
        assert main(["decode", source, str(layered / "no.y4m"), "--rotate", "9,0,0", *options]) == 1
        assert named in one_error_line(capsys) and not (layered / "no.y4m").exists()
    with pytest.raises(SystemExit):
        main(["decode", stream, str(layered / "no.y4m"), "--rotate", "9,nan,0"])


def test_a_target_rate_is_hit_and_the_ledger_shown(layered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(layered / "rate.hdac")
    assert main(["encode", str(layered / "clip.y4m"), out, "--network", "tiny", "--kbps", "30"]) == 0
    assert 28.5 <= float(re.search(r"([\d.]+) kbit/s", capsys.readouterr().out)[1]) <= 31.5  # type: ignore[index]
    assert main(["info", out]) == 0
    said = capsys.readouterr().out
    assert all(layer in said for layer in ("header", "base", "container"))


def test_the_mobile_family_takes_its_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(moving_clip(3, 64, 64), tmp_path / "clip.y4m")
    said = {}
    for options in ("", "--sources 1", "--sources 2", "--step 256", "--least-error"):
        out = tmp_path / "out.hdac"
        command = ["encode", str(tmp_path / "clip.y4m"), str(out), "-f", "--codec", "frontalizer-sup", "--qp", "40"]
        assert main([*command, *options.split()]) == 0
        said[options] = capsys.readouterr().out
    assert "3 sources" in said[""] and "2 sources" in said["--sources 2"] and "sources" not in said["--sources 1"]
    assert "refresh" not in said["--sources 1"] and "rd" not in said["--sources 1"].split(":", 1)[1]
    assert "step 256" in said["--step 256"] and "least error" in said["--least-error"]
