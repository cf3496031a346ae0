"""BPG: golden vectors of the format notes, round trips, damage, and agreement with bpgenc and bpgdec."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from baselines import bpg, nal
from baselines.bits import write_ue7
from baselines.bpg import Format, Picture, decode_bpg, demux, encode_bpg, mux
from baselines.conventional import tool_versions
from data.clip import Clip, Colour
from data.errors import BitstreamError, InputError, TruncatedBitstream

GOLDEN = Path(__file__).parent / "golden"
JPEG_COLOUR = Colour("bt601", "full", "center")


def synthetic(width: int, height: int, chroma: str, bit_depth: int = 8) -> tuple[np.ndarray, ...]:
    """Smooth and wrapping planes in integer arithmetic; more than 8 bits: shifted up, with noise below."""
    sx, sy = {"gray": (1, 1), "420": (2, 2), "422": (2, 1), "444": (1, 1)}[chroma]
    y, x = np.mgrid[:height, :width]
    v, u = np.mgrid[: -(-height // sy), : -(-width // sx)]
    planes = [2 * x + 3 * y + ((x * y) >> 4), 128 + 2 * u - v, 128 - u + 2 * v]
    planes = [plane & 255 for plane in planes[: 1 if chroma == "gray" else 3]]
    if bit_depth == 8:
        return tuple(plane.astype(np.uint8) for plane in planes)
    noise = np.random.default_rng(3)
    extra = bit_depth - 8
    return tuple(((p << extra) | noise.integers(0, 1 << extra, p.shape)).astype(np.uint16) for p in planes)


def sha256_of_planes(picture: Picture) -> str:
    return hashlib.sha256(b"".join(plane.tobytes() for plane in picture.planes)).hexdigest()


# name, picture, qp, sha256 of the file with x265 4.2 (build 216), sha256 of the decoded planes
SPEC = [
    ("64x48-420-qp32", (64, 48, "420"), 32, 199, "62008e2397133ff6c2ecb0e02618312ec94a210663c03b09ac2d072f5a33d040",
     "4aeb3943c713b9f0ae4e17c19496d778e9f6e825bca772f69b281deb88b84efb"),
    ("50x38-420-qp32", (50, 38, "420"), 32, 135, "a052aa1019cd2b492b3460d1b2fd2af8ec5838596a3669234432ff48b4b3febf",
     "6dbcceb23221741471f4078f8cb466725d4d931e7b60e2ba953da714db3f5712"),
    ("64x48-444-qp28", (64, 48, "444"), 28, 268, "bb18288d6592c4ebc4fb3c60c2a2e24a9e7ed63c67ff07d792f08be249d84810",
     "bdb69c08291d2f242dde46179f92284254888a707c5fef23e1ef0ee080c29325"),
    ("64x48-gray-qp32", (64, 48, "gray"), 32, 170, "a5366aac79ff6fa182259178618b0e8d4248e7bb36cb05f64dfe04784394f33b",
     "2fa2dc6454cc97ac3aadc7d02a9f156f3f0bb550565d9cd8c21c018f66e8a944"),
]


def rich_picture() -> Picture:
    """What the four vectors leave out: 4:2:2, 10 bit, odd size, co-sited chroma, limited range, BT.709, extensions."""
    colour = Colour("bt709", "limited", "left")
    extensions = {bpg.EXTENSION_EXIF: b"exif", bpg.EXTENSION_ICC: bytes(range(256)), 99: b""}
    return Picture(synthetic(37, 21, "422", 10), "422", 10, colour, extensions=extensions)


# -- golden files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, shape, qp, size, file_hash, plane_hash", SPEC, ids=[row[0] for row in SPEC])
def test_encoder_writes_the_vectors_of_the_format_notes(
    name: str, shape: tuple[int, int, str], qp: int, size: int, file_hash: str, plane_hash: str
) -> None:
    width, height, chroma = shape
    coded = encode_bpg(Picture(synthetic(width, height, chroma), chroma, 8, JPEG_COLOUR), qp)
    decoded = decode_bpg(coded)
    if "build 216" in tool_versions()["x265"]:
        assert len(coded) == size
        assert hashlib.sha256(coded).hexdigest() == file_hash
        assert sha256_of_planes(decoded) == plane_hash
    assert (decoded.chroma, decoded.format.width, decoded.format.height) == (chroma, width, height)


@pytest.mark.parametrize("name, plane_hash", [(row[0], row[5]) for row in SPEC])
def test_stored_files_decode_to_stored_planes(name: str, plane_hash: str) -> None:
    assert sha256_of_planes(decode_bpg((GOLDEN / f"{name}.bpg").read_bytes())) == plane_hash


def test_stored_rich_file_decodes_to_stored_planes_and_fields() -> None:
    path = GOLDEN / "37x21-422-10bit-qp20.bpg"
    if os.environ.get("GENERATE_EXPECTED"):
        path.write_bytes(encode_bpg(rich_picture(), 20))
    decoded = decode_bpg(path.read_bytes())
    assert decoded.format == rich_picture().format
    assert sha256_of_planes(decoded) == "a80b2e66fbcba748cf8acef9491a8b45ef371fac51370010643fd4b69b291e1a"


# -- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("chroma", ["420", "422", "444", "gray"])
@pytest.mark.parametrize("width, height", [(1, 1), (7, 100), (9, 15), (33, 8), (48, 31)])
def test_every_format_and_size_comes_back_close(width: int, height: int, chroma: str, bit_depth: int) -> None:
    colour = Colour("bt601" if chroma == "gray" else "bt709", "limited", "left")
    picture = Picture(synthetic(width, height, chroma, bit_depth), chroma, bit_depth, colour)
    coded = encode_bpg(picture, 4, "ultrafast")
    decoded = decode_bpg(coded)
    assert decoded.format == picture.format
    for got, expected in zip(decoded.planes, picture.planes, strict=True):
        assert np.abs(got.astype(int) - expected).mean() <= 2 << (bit_depth - 8)


@pytest.mark.parametrize("space", ["ycbcr", "rgb", "ycgco"])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("siting", ["left", "center"])
@pytest.mark.parametrize("colour_range", ["limited", "full"])
def test_header_fields_come_back(space: str, matrix: str, siting: str, colour_range: str) -> None:
    chroma = "420" if space == "ycbcr" else "444"
    colour = Colour(
        matrix if space == "ycbcr" else "bt601", colour_range, siting if chroma == "420" else "left"
    )
    form = Format(64, 48, chroma, 8, colour, space, {1: b"a", 3: b"<x/>"})
    name = "64x48-420-qp32" if chroma == "420" else "64x48-444-qp28"
    _, hevc = demux((GOLDEN / f"{name}.bpg").read_bytes())
    again, rebuilt = demux(mux(hevc, form))
    assert again == form
    assert rebuilt == hevc


def test_decoder_shows_what_the_hevc_stream_itself_decodes_to() -> None:
    picture = Picture(synthetic(50, 38, "420"), "420", 8, JPEG_COLOUR)
    stream = bpg._encode_hevc(picture, 30, "fast")
    decoder = av.VideoCodecContext.create("hevc", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    (frame,) = [*decoder.decode(av.Packet(stream)), *decoder.decode(None)]
    own = frame.to_ndarray()[:38, :50]
    assert np.array_equal(decode_bpg(mux(stream, picture.format)).planes[0], own)


def test_file_is_50_bytes_smaller_than_the_same_annex_b_stream() -> None:
    picture = Picture(synthetic(256, 256, "420"), "420", 8, JPEG_COLOUR)
    stream = bpg._encode_hevc(picture, 40, "veryfast")
    coded = mux(stream, picture.format)
    assert len(stream) - len(coded) == pytest.approx(50, abs=4)
    slices = [unit for unit in nal.split(stream) if nal.is_slice(unit, "hevc")]
    assert len(coded) - sum(map(len, slices)) == 24  # header 11, SPS fields 4, PPS 6, start code 3


def test_qp_is_the_qp_of_the_slices() -> None:
    sizes = [len(encode_bpg(Picture(synthetic(64, 64, "420")), qp, "veryfast")) for qp in (0, 20, 35, 51)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4
    assert "ipratio=1:" in bpg.x265_params(30)


# -- refusals and damage ---------------------------------------------------------------------------------------------


def golden() -> bytes:
    return (GOLDEN / "64x48-420-qp32.bpg").read_bytes()


@pytest.mark.parametrize(
    "byte, bit, message",
    [
        (4, 0x10, "alpha"),
        (5, 0x04, "alpha"),
        (5, 0x01, "animation"),
        (4, 0xC0, "pixel format"),
        (5, 0x80, "colour space"),
    ],
)
def test_what_is_not_supported_is_said(byte: int, bit: int, message: str) -> None:
    data = bytearray(golden())
    data[byte] |= bit
    with pytest.raises(BitstreamError, match=message):
        decode_bpg(bytes(data))


@pytest.mark.parametrize("side", [0, bpg.MAX_SIDE + 1, 2**31])
def test_absurd_sizes_are_refused_before_decoding(side: int) -> None:
    data = golden()
    with pytest.raises(BitstreamError, match="picture of"):
        decode_bpg(data[:6] + write_ue7(side) + write_ue7(64) + data[8:])
    with pytest.raises(BitstreamError, match="picture of"):
        decode_bpg(data[:6] + write_ue7(bpg.MAX_SIDE) + write_ue7(bpg.MAX_SIDE) + data[8:])


def test_parameter_sets_in_the_picture_data_are_refused() -> None:
    data = golden()
    form, hevc = demux(data)
    sps = nal.split(hevc)[1]
    with pytest.raises(BitstreamError, match="SPS"):
        demux(data + nal.START_CODE + sps)
    with pytest.raises(BitstreamError, match="2 pictures"):
        demux(data + nal.START_CODE + nal.split(hevc)[-1])


def test_picture_data_length_is_obeyed() -> None:
    data = golden()
    body = data[9:]
    with_length = data[:8] + write_ue7(len(body)) + body
    expected = sha256_of_planes(decode_bpg(data))
    assert sha256_of_planes(decode_bpg(with_length + b"junk behind it")) == expected
    with pytest.raises(TruncatedBitstream):
        decode_bpg(with_length[:-1])


def test_a_cut_anywhere_is_a_bitstream_error_or_loses_nothing() -> None:
    for picture in (rich_picture(), Picture(synthetic(64, 48, "420"))):
        data = encode_bpg(picture, 30, "veryfast")
        whole = decode_bpg(data)
        unharmed = 0
        for end in range(len(data)):
            try:
                decoded = decode_bpg(data[:end])
            except BitstreamError:
                continue
            assert sha256_of_planes(decoded) == sha256_of_planes(whole)
            unharmed += 1
        assert unharmed <= 1  # the last byte can hold nothing but the stop bit


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60))
@example(b"BPG\xfb")
def test_any_bytes_are_a_picture_or_a_bitstream_error(tail: bytes) -> None:
    for data in (tail, golden()[:6] + tail, golden()[:13] + tail):
        try:
            picture = decode_bpg(data)
        except BitstreamError:
            continue
        form, _ = demux(data)
        assert picture.format == form and all(plane.dtype == form.dtype for plane in picture.planes)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_changed_byte_is_a_picture_of_the_said_size_or_a_bitstream_error(data: st.DataObject) -> None:
    coded = bytearray(golden())
    coded[data.draw(st.integers(0, len(coded) - 1))] ^= data.draw(st.integers(1, 255))
    if max(coded[6:8]) >= 128:
        return  # a size of several megapixels is legal, but slow to decode
    try:
        picture = decode_bpg(bytes(coded))
    except BitstreamError:
        return
    assert picture.planes[0].shape == (picture.format.height, picture.format.width)


def test_mux_refuses_streams_that_the_header_does_not_describe() -> None:
    _, hevc = demux(golden())
    for form in (Format(64, 40), Format(72, 48), Format(64, 48, "444"), Format(64, 48, bit_depth=10)):
        with pytest.raises(BitstreamError):
            mux(hevc, form)
    picture = nal.split(hevc)
    with pytest.raises(BitstreamError, match="2 pictures"):
        mux(nal.join([*picture, picture[-1]]), Format(64, 48))


def test_bad_arguments_are_refused_at_the_door() -> None:
    y, u, v = synthetic(16, 16, "420")
    with pytest.raises(InputError, match="qp 52"):
        encode_bpg(Picture((y, u, v)), 52)
    with pytest.raises(InputError, match="placid"):
        encode_bpg(Picture((y, u, v)), 30, "placid")
    with pytest.raises(InputError, match="uint8"):
        Picture((y, u.astype(np.uint16), v))
    with pytest.raises(InputError, match="planes"):
        Picture((y, u, v), "444")
    with pytest.raises(InputError, match="do not fit 10 bits"):
        Picture((np.full((4, 4), 1024, np.uint16),), "gray", 10)
    with pytest.raises(InputError, match="topleft"):
        Picture((y, u, v), colour=Colour(siting="topleft"))
    with pytest.raises(InputError, match="4:4:4"):
        Picture((y, u, v), colour_space="rgb")


# -- R'G'B' and the command ------------------------------------------------------------------------------------------


def test_rgb_conversion_agrees_with_the_clip_type() -> None:
    rgb = np.random.default_rng(5).integers(0, 256, (21, 34, 3), np.uint8)
    for colour in (JPEG_COLOUR, Colour("bt709", "limited", "left")):
        clip = Clip.from_rgb(rgb[None], Fraction(25), colour)
        picture = bpg.from_rgb(rgb, "420", 8, colour)
        for ours, theirs in zip(picture.planes, (clip.y[0], clip.u[0], clip.v[0]), strict=True):
            assert np.abs(ours.astype(int) - theirs).max() <= 1
        there = Picture((clip.y[0], clip.u[0], clip.v[0]), colour=colour)
        assert np.abs(bpg.to_rgb(there).astype(int) - clip.rgb()[0]).max() <= 1


@pytest.mark.parametrize("arguments", ["--chroma 444", "--chroma rgb", "--chroma 444 --bit-depth 10"])
def test_command_codes_a_png_there_and_back(tmp_path: Path, arguments: str) -> None:
    y, x = np.mgrid[:19, :33]
    rgb = np.stack((4 * x, 6 * y, 255 - 3 * x - 3 * y), -1).astype(np.uint8)
    source, coded, decoded = (tmp_path / name for name in ("a.png", "a.bpg", "b.png"))
    Image.fromarray(rgb).save(source, icc_profile=b"profile")
    settings = ["--qp", "2", "--preset", "ultrafast", *arguments.split()]
    assert bpg.main(["encode", str(source), str(coded), *settings]) == 0
    assert bpg.main(["decode", str(coded), str(decoded)]) == 0
    with Image.open(decoded) as image:
        assert image.info["icc_profile"] == b"profile"
        assert np.abs(np.asarray(image).astype(int) - rgb).mean() < 1.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bpg", "a.png", "b.png"]


def test_command_errors_are_one_line_and_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coded, decoded = tmp_path / "a.bpg", tmp_path / "b.png"
    coded.write_bytes(golden()[:30])
    assert bpg.main(["decode", str(coded), str(decoded)]) == 1
    assert bpg.main(["decode", str(tmp_path / "none.bpg"), str(decoded)]) == 1
    coded.write_bytes(golden())
    decoded.write_bytes(b"mine")
    assert bpg.main(["decode", str(coded), str(decoded)]) == 1
    assert decoded.read_bytes() == b"mine"
    assert bpg.main(["decode", "-f", str(coded), str(decoded)]) == 0
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3 and all(line.startswith("error: ") for line in errors)


# -- bpgenc and bpgdec -----------------------------------------------------------------------------------------------


def bpgdec(data: bytes, folder: Path) -> np.ndarray:
    (folder / "in.bpg").write_bytes(data)
    subprocess.run(["bpgdec", "-o", str(folder / "out.png"), str(folder / "in.bpg")], check=True, capture_output=True)
    with Image.open(folder / "out.png") as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.skipif(not shutil.which("bpgdec"), reason="bpgdec is not on the PATH")
@pytest.mark.parametrize("chroma", ["420", "422", "444", "gray"])
def test_bpgdec_reads_our_files(tmp_path: Path, chroma: str) -> None:
    coded = encode_bpg(Picture(synthetic(50, 38, chroma), chroma, 8, JPEG_COLOUR if chroma != "gray" else Colour()), 30)
    ours = bpg.to_rgb(decode_bpg(coded))
    theirs = bpgdec(coded, tmp_path)
    assert theirs.shape == ours.shape
    if chroma in ("444", "gray"):  # the only difference is rounding; bpgdec interpolates subsampled chroma differently
        assert np.abs(theirs.astype(int) - ours).max() <= 2
    else:
        assert np.abs(theirs.astype(int) - ours).mean() < 4


@pytest.mark.skipif(not (shutil.which("bpgenc") and shutil.which("bpgdec")), reason="bpgenc is not on the PATH")
@pytest.mark.parametrize("options", [["-f", "420"], ["-f", "422"], ["-f", "444"], ["-f", "444", "-c", "rgb"]])
def test_we_read_files_of_bpgenc(tmp_path: Path, options: list[str]) -> None:
    y, x = np.mgrid[:37, :51]
    source, coded = tmp_path / "in.png", tmp_path / "coded.bpg"
    Image.fromarray(np.stack((4 * x, 6 * y, 255 - 3 * x - 3 * y), -1).astype(np.uint8)).save(source)
    subprocess.run(["bpgenc", "-q", "20", *options, "-o", str(coded), str(source)], check=True, capture_output=True)
    ours = bpg.to_rgb(decode_bpg(coded.read_bytes()))
    assert np.abs(bpgdec(coded.read_bytes(), tmp_path).astype(int) - ours).mean() < 4
