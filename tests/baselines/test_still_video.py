"""Clips of stills: bytes alone bring every frame back, every byte is in the ledger, and the tables know them by name."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines import conventional, still_video, stills
from baselines.codec import REGIMES, Tunable, VideoCodec
from baselines.conventional import X264
from baselines.still_video import STILLS, StillVideo
from baselines.stills import Avif, Bpg, BpgEnc, Jpeg, LearnedStill, VvcStill, WebP, find_bpgenc
from baselines.stream import STANDARDS, STILL_STANDARDS, StreamHeader, join_samples, split_samples
from data.clip import Clip, Colour
from data.errors import BitstreamError, CodecUnavailable, ExternalCodecError, InputError
from data.io import read_clip, write_clip
from hdac.__main__ import main
from hdac.systems import FAMILIES, decode, ledger
from tests.clips import moving_clip, psnr_y

FPS = Fraction(30000, 1001)
COLOUR = Colour("bt709", "full", "topleft")
CODECS = {
    "bpg": StillVideo(Bpg(28, "veryfast")),
    "vvc-still": StillVideo(VvcStill(28, "faster")),
    "jpeg": StillVideo(Jpeg(80)),
    "webp": StillVideo(WebP(80, 2)),
    "avif": StillVideo(Avif(70, 9)),
}
by_name = pytest.mark.parametrize("name", CODECS)
every_family = pytest.mark.parametrize("name", STILLS)


def needs(name: str) -> StillVideo:
    if reason := CODECS[name].still.missing():
        pytest.skip(reason)
    return CODECS[name]


@functools.cache
def source(n_frames: int = 3, width: int = 49, height: int = 35) -> Clip:
    return replace(moving_clip(n_frames, width, height, FPS), colour=COLOUR)


@functools.cache
def coded(name: str) -> bytes:
    return CODECS[name].encode(source())


# -- round trips -------------------------------------------------------------------------------------------------------


@by_name
def test_size_count_rate_colour_and_pictures_come_back_from_bytes_alone(name: str) -> None:
    codec = needs(name)
    decoded = decode(coded(name))
    assert decoded.y.shape == source().y.shape
    assert (decoded.fps, decoded.colour) == (FPS, COLOUR)
    assert all(psnr_y(source()[t : t + 1], decoded[t : t + 1]) > 30 for t in range(3))
    assert codec.decode(coded(name)).equals(decoded)
    assert codec.with_quantiser(codec.quantiser + 5).decode(coded(name)).equals(decoded)


@by_name
@pytest.mark.parametrize("width, height", [(16, 16), (17, 31)])
def test_one_frame_of_any_size(name: str, width: int, height: int) -> None:
    codec = needs(name)
    clip = source(1, width, height)
    decoded = decode(codec.encode(clip))
    assert decoded.y.shape == clip.y.shape and psnr_y(clip, decoded) > 28


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_a_frame_of_1080p(name: str) -> None:
    clip = source(1, 1920, 1080)
    assert psnr_y(clip, decode(CODECS[name].encode(clip))) > 35


@by_name
def test_every_frame_is_the_picture_that_the_still_codec_makes(name: str) -> None:
    codec = needs(name)
    decoded = decode(coded(name))
    for t in range(3):
        alone = codec.still.decode(codec.still.encode(source()[t : t + 1]))
        assert alone.equals(decoded[t : t + 1])


@by_name
def test_encoding_is_repeatable(name: str) -> None:
    assert needs(name).encode(source()) == coded(name)


@pytest.mark.parametrize("name", ["bpg", "avif"])
def test_a_new_process_decodes_the_same_frames(name: str, tmp_path: Path) -> None:
    needs(name)
    stream, clip = tmp_path / "stream.bin", tmp_path / "clip.y4m"
    stream.write_bytes(coded(name))
    subprocess.run([sys.executable, "-m", "hdac", "decode", str(stream), str(clip)], check=True, capture_output=True)
    decoded = read_clip(clip)
    expected = decode(coded(name))
    assert np.array_equal(decoded.y, expected.y) and np.array_equal(decoded.v, expected.v)


# -- rate --------------------------------------------------------------------------------------------------------------


@by_name
def test_the_ledger_has_every_byte_once(name: str) -> None:
    needs(name)
    stream = coded(name)
    spent = ledger(stream)
    assert sum(spent.totals.values()) == len(stream)
    assert spent.header == len(StreamHeader.of(source(), name).pack())
    assert spent.frames.tolist() == [len(join_samples([still])) for still in split_samples(stream[spent.header :])]


@by_name
def test_stills_do_not_repeat_what_the_header_says(name: str) -> None:
    codec = needs(name)
    odd_rate = replace(source(1), fps=Fraction(12345, 678))  # costs a still by itself 5 bytes
    stream = codec.encode(odd_rate)
    (still,) = split_samples(stream[ledger(stream).header :])
    assert codec.still.encode(odd_rate).endswith(still)
    assert len(codec.still.encode(odd_rate)) == len(still) + 6 - 1


# -- damage ------------------------------------------------------------------------------------------------------------


@by_name
def test_cut_streams_and_wrong_counts_are_bitstream_errors(name: str) -> None:
    needs(name)
    stream = coded(name)
    header, start = StreamHeader.unpack(stream)
    samples = list(split_samples(stream[start:]))
    damaged = [stream[:end] for end in range(0, len(stream), len(stream) // 12)]
    damaged.append(header.pack() + join_samples(samples[:2]))
    damaged.append(header.pack() + join_samples([*samples, samples[0]]))
    damaged.append(header.pack() + join_samples([samples[0][: len(samples[0]) // 2], *samples[1:]]))
    damaged.append(replace(header, width=header.width + 2).pack() + stream[start:])
    damaged.append(header.pack() + join_samples([b""] * 3))
    for bad in damaged:
        with pytest.raises(BitstreamError):
            decode(bad)


@by_name
def test_flipped_bits_are_an_error_or_a_clip_of_the_headers_shape(name: str) -> None:
    needs(name)
    stream = coded(name)
    start = StreamHeader.unpack(stream)[1]
    shapes = [plane.shape for plane in (source().y, source().u, source().v)]
    for position in range(start, len(stream), max(1, len(stream) // 30)):
        changed = stream[:position] + bytes((stream[position] ^ 1 << position % 8,)) + stream[position + 1 :]
        try:
            shown = decode(changed)
        except BitstreamError:
            continue
        assert [plane.shape for plane in (shown.y, shown.u, shown.v)] == shapes and shown.fps == source().fps


def test_stills_under_another_name_are_a_bitstream_error() -> None:
    """No decoder shows what is not its own standard."""
    stream = coded("webp")
    for name, number in STANDARDS.items():
        if name not in ("webp", "learned"):
            with pytest.raises(BitstreamError):
                decode(stream[:1] + bytes((number,)) + stream[2:])


def test_each_decoder_refuses_the_others_standards_by_name() -> None:
    video = X264(qp=40, preset="ultrafast").encode(source())
    for function in (conventional.decode, conventional.ledger):
        with pytest.raises(BitstreamError, match="a stream of webp, expected one of h264"):
            function(coded("webp"))
    for function in (still_video.decode, still_video.ledger):
        with pytest.raises(BitstreamError, match="a stream of h264, expected one of bpg"):
            function(video)
    assert decode(video).equals(conventional.decode(video))
    assert ledger(video).totals == conventional.ledger(video).totals


# -- the one interface -------------------------------------------------------------------------------------------------


def test_every_standard_has_a_number_of_its_own_and_every_still_a_decoder() -> None:
    assert len(set(STANDARDS.values())) == len(STANDARDS)
    assert STILL_STANDARDS == {"bpg": 16, "vvc-still": 17, "jpeg": 18, "webp": 19, "avif": 20, "learned": 21}
    assert set(still_video._DECODERS) == set(STILL_STANDARDS)


@every_family
def test_families_are_stills_of_the_one_interface_alike_in_both_regimes(name: str) -> None:
    family = FAMILIES[name]
    assert family.still and family.name == name
    one_intra, short_gop = (family.candidates(regime, 4) for regime in REGIMES)
    assert one_intra == short_gop and len(one_intra) == 4
    assert len({codec.label for codec in one_intra}) == len({codec.command(source()) for codec in one_intra}) == 4
    for codec in one_intra:
        assert isinstance(codec, Tunable)
        assert family.missing() is not None or isinstance(codec, VideoCodec)  # without its tool it has no version
        assert pickle.loads(pickle.dumps(codec)) == codec
        assert eval(repr(codec), vars(still_video)) == codec
        assert codec.with_quantiser(codec.quantiser) == codec
    quantisers = [codec.quantiser for codec in one_intra if isinstance(codec, Tunable)]
    assert quantisers == sorted(quantisers, reverse=True)


@every_family
def test_more_points_than_steps_are_all_steps_and_none_beyond(name: str) -> None:
    codecs = FAMILIES[name].candidates("one-intra", 500)
    assert len(set(codecs)) == len(codecs) <= 101
    coarsest = codecs[0]
    assert isinstance(coarsest, Tunable)
    for beyond in (-1, coarsest.quantiser + 1):
        with pytest.raises(InputError, match=f"{beyond} is not in"):
            coarsest.with_quantiser(beyond)


@by_name
def test_coarser_quantisers_cost_less_and_the_version_is_known(name: str) -> None:
    codec = needs(name)
    assert len(codec.with_quantiser(codec.quantiser + 12).encode(source(1))) < len(codec.encode(source(1)))
    assert codec.version.split()[0] == str(stills.CODE_VERSION) and len(codec.version) > 10


def test_importing_the_codecs_does_not_import_pytorch() -> None:
    """It takes a second and 200 MB, in every child process of a sweep."""
    code = "import hdac.systems, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, qp", [("bpg", 30), ("webp", 40)])
def test_the_command_encodes_tells_and_decodes(name: str, qp: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = moving_clip(2, 50, 38)
    write_clip(clip, tmp_path / "in.y4m")
    assert main(["encode", str(tmp_path / "in.y4m"), str(tmp_path / "s"), "--codec", name, "--qp", str(qp)]) == 0
    assert main(["info", str(tmp_path / "s")]) == 0
    said = capsys.readouterr().out
    stream = (tmp_path / "s").read_bytes()
    assert f"{name}  50x38  2 frames" in said and "  intra" in said and f"{len(stream)} bytes" in said
    assert main(["decode", str(tmp_path / "s"), str(tmp_path / "out.y4m")]) == 0
    assert read_clip(tmp_path / "out.y4m").equals(decode(stream))
    codec = FAMILIES[name].candidates("one-intra", 1)[0]
    assert isinstance(codec, Tunable) and codec.with_quantiser(qp).encode(clip) == stream


def test_list_names_the_stills_and_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: Path
) -> None:
    monkeypatch.setenv(stills.WEIGHTS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert main(["list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(STILLS) <= set(lines)
    assert "NOT INSTALLED: no bpgenc on PATH" in lines["bpgenc"]
    assert "NOT INSTALLED: no weights mbt2018-mean-" in lines["learned"] and str(tmp_path) in lines["learned"]


# -- bpgenc ------------------------------------------------------------------------------------------------------------

BPGENC = r"""
import sys
HELP = '''BPG Image Encoder version 0.9.8
usage: bpgenc [options] infile.[jpg|png]
-e encoder           select the HEVC encoder (x265 jctvc, default = x265)
'''
arguments = sys.argv[1:]
if arguments == ["-h"]:
    print(HELP)
    sys.exit(1)
flags = {"-limitedrange": False}
options = {}
while len(arguments) > 1:
    key = arguments.pop(0)
    if key in flags:
        flags[key] = True
    else:
        options[key] = arguments.pop(0)
import numpy as np
from PIL import Image
from baselines.bpg import Picture, encode_bpg
from data.clip import Clip, Colour
from fractions import Fraction
assert arguments[0].endswith(".png") and options["-b"] == "8" and 1 <= int(options["-m"]) <= 9
matrix = {"ycbcr": "bt601", "ycbcr_bt709": "bt709", "ycbcr_bt2020": "bt2020"}[options["-c"]]
siting = {"420": "center", "420_video": "left"}[options["-f"]]
colour = Colour(matrix, "limited" if flags["-limitedrange"] else "full", siting)
clip = Clip.from_rgb(np.asarray(Image.open(arguments[0]))[None], Fraction(25), colour)
picture = Picture((clip.y[0], clip.u[0], clip.v[0]), colour=colour)
open(options["-o"], "wb").write(encode_bpg(picture, int(options["-q"]), "veryfast"))
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A PATH of one empty folder; a bpgenc that was found before is forgotten, and so is this one afterwards."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(stills.__file__).parents[1]))  # for the program below
    find_bpgenc.cache_clear()
    yield folder
    find_bpgenc.cache_clear()


def install(path: Path, body: str = BPGENC) -> Path:
    program = path / "bpgenc"
    program.write_text(f"#!{sys.executable}\n{body}")
    program.chmod(0o755)
    return program


def test_bpgenc_is_a_codec_of_the_table_where_it_is_installed(path: Path) -> None:
    assert FAMILIES["bpgenc"].missing() == "no bpgenc on PATH"
    codec = StillVideo(BpgEnc(20))
    with pytest.raises(CodecUnavailable, match="bpgenc"):
        codec.encode(source())
    install(path)
    find_bpgenc.cache_clear()
    assert FAMILIES["bpgenc"].missing() is None
    assert codec.version == f"{stills.CODE_VERSION} BPG Image Encoder version 0.9.8 x265"
    decoded = decode(codec.encode(source(2)))
    assert (decoded.fps, decoded.colour, decoded.n_frames) == (FPS, COLOUR, 2)
    assert psnr_y(source(2), decoded) > 35


@pytest.mark.parametrize("siting", ["left", "center", "topleft"])
@pytest.mark.parametrize("colour_range", ["limited", "full"])
def test_bpgenc_gives_chroma_back_where_it_was(path: Path, siting: str, colour_range: str) -> None:
    """A filter for another siting would move a ramp by half a luma sample, 3 of its steps of 6."""
    install(path)
    ramp = np.broadcast_to(100 + 6 * np.arange(12), (1, 10, 12)).astype(np.uint8)
    grey = np.full((1, 20, 24), 128, np.uint8)
    clip = Clip(grey, ramp, ramp.copy(), Fraction(25), Colour("bt601", colour_range, siting))
    decoded = decode(StillVideo(BpgEnc(2)).encode(clip))
    assert np.abs(decoded.u[0, 2:-2, 2:-2].astype(int) - clip.u[0, 2:-2, 2:-2]).max() <= 1


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        (Colour("bt601", "limited", "left"), "-q 30 -m 9 -b 8 -f 420_video -c ycbcr -limitedrange -o o i"),
        (Colour("bt709", "full", "center"), "-q 30 -m 9 -b 8 -f 420 -c ycbcr_bt709 -o o i"),
        (Colour("bt2020", "limited", "center"), "-q 30 -m 9 -b 8 -f 420 -c ycbcr_bt2020 -limitedrange -o o i"),
    ],
)
def test_bpgenc_command(colour: Colour, expected: str) -> None:
    assert " ".join(BpgEnc(30).arguments(colour, "i", "o")) == expected


@pytest.mark.parametrize("body", ["import sys; sys.exit(3)", "print('BPG viewer')", "import os; os.kill(os.getpid(), 9)"])
def test_another_program_of_that_name_is_not_taken(path: Path, body: str) -> None:
    install(path, body)
    reason = FAMILIES["bpgenc"].missing()
    assert reason is not None and str(path) in reason


@pytest.mark.parametrize(
    "fault", ["print('no such option', file=sys.stderr); sys.exit(2)", "sys.exit(0)", "open('still.bpg', 'w').write('BPX')"]
)
def test_a_bpgenc_that_fails_or_writes_something_else_is_named(path: Path, fault: str) -> None:
    install(path, BPGENC.replace("flags =", f"{fault}\nsys.exit(0)\nflags =", 1))
    with pytest.raises(ExternalCodecError, match="bpgenc"):
        StillVideo(BpgEnc(30)).encode(source(1))


@pytest.mark.skipif(os.system("command -v bpgenc >/dev/null 2>&1") != 0, reason="no bpgenc on PATH")
def test_the_real_bpgenc_codes_what_our_decoder_shows() -> None:
    assert psnr_y(source(1), decode(StillVideo(BpgEnc(15)).encode(source(1)))) > 35


# -- learned -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small random networks as two models' checkpoints, in place of the published ones."""
    zoo = stills._zoo()
    for model, quality in (("mbt2018-mean", 2), ("bmshj2018-factorized", 1)):
        torch.manual_seed(quality)
        network = zoo.model_architectures[model](8, 12)
        network.update(force=True)
        published = zoo.model_urls[model]["mse"][quality].rsplit("/", 1)[1]
        torch.save(network.state_dict(), tmp_path / published)
    monkeypatch.setenv(stills.WEIGHTS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path


def test_a_learned_stream_names_its_network(weights: Path) -> None:
    for still in (LearnedStill("mbt2018-mean", 2), LearnedStill("bmshj2018-factorized", 1)):
        codec = StillVideo(still)
        stream = codec.encode(source(2))
        decoded = decode(stream)
        assert decoded.y.shape == source(2).y.shape and (decoded.fps, decoded.colour) == (FPS, COLOUR)
        alone = still.decode(still.encode(source(2)[1:2]))
        assert alone.equals(decoded[1:2])
        assert sum(ledger(stream).totals.values()) == len(stream)
        assert codec.version.endswith(stills._weights_sha256(still._checkpoint()))


def test_learned_stills_without_all_weights_are_not_installed_by_name(weights: Path) -> None:
    assert "mbt2018-mean-" in str(FAMILIES["learned"].missing())  # quality 2 alone is no curve
    stream = StillVideo(LearnedStill("mbt2018-mean", 2)).encode(source(1))
    for file in weights.glob("mbt2018-mean-*"):
        file.unlink()
    with pytest.raises(CodecUnavailable, match="mbt2018-mean-2"):
        decode(stream)


@pytest.mark.parametrize("number", [6, 7, 0x84, 4 | 6 << 3])
def test_unknown_networks_are_bitstream_errors(number: int) -> None:
    with pytest.raises(BitstreamError, match=f"network 0x{number:02x}"):
        stills._coder_of(number)
    for model in stills.LEARNED_MODELS:
        for metric in ("mse", "ms-ssim"):
            still = LearnedStill(model, 6, metric)
            assert stills._coder_of(still._network_byte()) == still
