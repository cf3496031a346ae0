"""Clips come out of files as they went in, and what has no exact meaning is refused with the file's name."""

from __future__ import annotations

import os
import struct
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest

from data.clip import Clip, Colour
from data.errors import InputError
from data.frames import to_420_8bit
from data.io import read_clip, write_clip
from data.video import PICTURE_FPS

NTSC = Fraction(30000, 1001)


def make_clip(t: int = 5, h: int = 48, w: int = 64, fps: Fraction = NTSC, colour: Colour | None = None) -> Clip:
    """Smooth moving colours with noise: codecs can code it, and no two samples are related by chance."""
    rng = np.random.default_rng(t * 1000 + h * 10 + w)
    ch, cw = (h + 1) // 2, (w + 1) // 2

    def plane(height: int, width: int, phase: float) -> np.ndarray:
        i, y, x = np.mgrid[0:t, 0:height, 0:width]
        wave = 128 + 80 * np.sin((x + 2 * i) / width * 4 + phase) * np.cos(y / height * 3)
        return np.clip(np.rint(wave + rng.normal(0, 4, (t, height, width))), 0, 255).astype(np.uint8)

    return Clip(plane(h, w, 0), plane(ch, cw, 1), plane(ch, cw, 2), fps, colour or Colour())


def encode(path: Path, clip: Clip, codec: str = "libx264", times: list[int] | None = None, **options: str) -> None:
    """A file as other people make them: default container tags, no notes of ours."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=clip.fps, options=options or {"qp": "20"})
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        for i in range(clip.n_frames):
            data = np.frombuffer(clip[i : i + 1].yuv_bytes(), np.uint8).reshape(-1, clip.width)
            frame = av.VideoFrame.from_ndarray(data, "yuv420p")
            frame.pts, frame.time_base = (times[i] if times else i), 1 / clip.fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def ffmpeg(*arguments: str | Path) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout


# -- lossless round trips ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".y4m", ".mkv", ".mp4"])
@pytest.mark.parametrize("fps", [NTSC, Fraction(25), Fraction(12345, 678)], ids=str)
@pytest.mark.parametrize(
    "colour", [Colour(), Colour("bt709", "full", "center"), Colour("bt2020", "limited", "topleft")], ids=str
)
def test_written_clip_reads_back_equal(tmp_path: Path, suffix: str, fps: Fraction, colour: Colour) -> None:
    clip = make_clip(fps=fps, colour=colour)
    write_clip(clip, tmp_path / f"a{suffix}")
    assert read_clip(tmp_path / f"a{suffix}").equals(clip)


@pytest.mark.parametrize("suffix", [".y4m", ".mkv"])
@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 1, 1), (3, 33, 47), (2, 47, 18)])
def test_odd_sizes_and_single_frames_read_back_equal(tmp_path: Path, suffix: str, shape: tuple[int, int, int]) -> None:
    clip = make_clip(*shape)
    write_clip(clip, tmp_path / f"a{suffix}")
    assert read_clip(tmp_path / f"a{suffix}").equals(clip)


def test_single_frame_mp4_reads_back_equal(tmp_path: Path) -> None:
    clip = make_clip(1)
    write_clip(clip, tmp_path / "a.mp4")
    assert read_clip(tmp_path / "a.mp4").equals(clip)


@pytest.mark.parametrize("suffix", [".y4m", ".mkv", ".mp4"])
def test_ffmpeg_sees_the_same_samples_in_our_files(tmp_path: Path, suffix: str) -> None:
    clip = make_clip()
    write_clip(clip, tmp_path / f"a{suffix}")
    assert ffmpeg("-i", tmp_path / f"a{suffix}", "-f", "rawvideo", "-") == clip.yuv_bytes()


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_same_clip_gives_the_same_file(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        write_clip(make_clip(), tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_extreme_samples_survive_lossless_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y, u, v = (rng.integers(0, 2, s, dtype=np.uint8) * 255 for s in ((3, 32, 32), (3, 16, 16), (3, 16, 16)))
    clip = Clip(y, u, v, Fraction(25))
    for suffix in (".y4m", ".mkv", ".mp4"):
        write_clip(clip, tmp_path / f"a{suffix}")
        assert read_clip(tmp_path / f"a{suffix}").equals(clip)


def test_mp4_of_odd_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="33x31"):
        write_clip(make_clip(1, 31, 33), tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_png_folder_shows_the_clip_in_rgb(tmp_path: Path) -> None:
    clip = make_clip(3)
    write_clip(clip, tmp_path / "pictures")
    with av.open(str(tmp_path / "pictures" / "00001.png")) as container:
        picture = next(container.decode(video=0)).to_ndarray()
    assert np.array_equal(picture, clip.rgb(slice(1, 2))[0])


# -- video files of others -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx265"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4"), ("a.mkv", "ffv1")],
)
def test_planes_and_rate_are_those_of_ffmpeg(tmp_path: Path, name: str, codec: str) -> None:
    extra = {"x265-params": "log-level=none"} if codec == "libx265" else {"b": "300k"} if "vp9" in codec else {}
    encode(tmp_path / name, make_clip(7), codec, **extra)
    clip = read_clip(tmp_path / name)
    assert clip.fps == NTSC
    assert clip.name == "a"
    assert clip.yuv_bytes() == ffmpeg("-i", tmp_path / name, "-f", "rawvideo", "-")


def test_reading_a_window_gives_those_frames(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", make_clip(9), bf="2", g="4")
    write_clip(make_clip(9), tmp_path / "b.y4m")
    write_clip(make_clip(9), tmp_path / "c_64x48_25_8bit_420.yuv")
    for path in sorted(tmp_path.iterdir()):
        whole = read_clip(path)
        assert read_clip(path, start=3, frames=4).equals(whole[3:7])
        assert read_clip(path, start=7, frames=40).equals(whole[7:])
        with pytest.raises(InputError, match="holds 9 frames"):
            read_clip(path, start=9)


def test_elementary_stream_needs_a_rate_unless_it_says_one(tmp_path: Path) -> None:
    encode(tmp_path / "vui.264", make_clip())
    assert read_clip(tmp_path / "vui.264").fps == NTSC
    ffmpeg("-i", tmp_path / "vui.264", "-c", "copy", "-bsf:v", "filter_units=remove_types=6", tmp_path / "x.264")
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48:rate=25", "-frames:v", "2", "-c:v", "mjpeg", tmp_path / "a.mjpeg")
    with pytest.raises(InputError, match="does not say its frame rate; give fps"):
        read_clip(tmp_path / "a.mjpeg")
    assert read_clip(tmp_path / "a.mjpeg", fps="30000/1001").fps == NTSC


def test_variable_frame_rate_is_refused_and_resampled_on_request(tmp_path: Path) -> None:
    clip = make_clip(5, fps=Fraction(25))
    encode(tmp_path / "a.mp4", clip, times=[0, 1, 3, 4, 5], qp="0", bf="0")
    with pytest.raises(InputError, match=r"a\.mp4: variable frame rate .* 40\.0 to 80\.0 ms"):
        read_clip(tmp_path / "a.mp4")
    resampled = read_clip(tmp_path / "a.mp4", fps=25)
    assert resampled.fps == 25
    assert np.array_equal(resampled.y[:5], clip.y[[0, 1, 1, 2, 3]])
    half = read_clip(tmp_path / "a.mp4", fps="25/2", frames=2)
    assert np.array_equal(half.y, clip.y[[1, 2]])  # on show at 40 and 120 ms


def test_asking_for_the_own_rate_changes_nothing(tmp_path: Path) -> None:
    encode(tmp_path / "a.mkv", make_clip(40))
    assert read_clip(tmp_path / "a.mkv", fps=NTSC).equals(read_clip(tmp_path / "a.mkv"))


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_rotation_metadata_is_applied_as_ffmpeg_does(tmp_path: Path, turn: int) -> None:
    encode(tmp_path / "a.mp4", make_clip())
    ffmpeg("-display_rotation", str(turn), "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "b.mp4")
    clip = read_clip(tmp_path / "b.mp4")
    assert (clip.width, clip.height) == ((64, 48) if turn % 180 == 0 else (48, 64))
    assert clip.yuv_bytes() == ffmpeg("-i", tmp_path / "b.mp4", "-f", "rawvideo", "-")


@pytest.mark.parametrize("options", [("-display_rotation", "45"), ("-display_hflip",)], ids=str)
def test_other_display_matrices_are_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    encode(tmp_path / "a.mp4", make_clip())
    ffmpeg(*options, "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "b.mp4")
    with pytest.raises(InputError, match=r"b\.mp4: display matrix"):
        read_clip(tmp_path / "b.mp4")


@pytest.mark.parametrize(("height", "matrix"), [(576, "bt601"), (718, "bt601"), (720, "bt709")])
def test_missing_colour_tags_follow_the_height(tmp_path: Path, height: int, matrix: str) -> None:
    encode(tmp_path / "a.mp4", make_clip(1, height, 32))
    assert read_clip(tmp_path / "a.mp4").colour == Colour(matrix, "limited", "left")


def test_colour_tags_win_over_the_rule(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", make_clip(1), **{"x264-params": "colormatrix=bt709:fullrange=on"})
    assert read_clip(tmp_path / "a.mp4").colour == Colour("bt709", "full", "left")


@pytest.mark.parametrize(
    ("params", "message"),
    [("transfer=arib-std-b67", "HLG HDR"), ("colormatrix=YCgCo", "matrix coefficients 8")],
)
def test_colours_that_a_clip_cannot_describe_are_refused(tmp_path: Path, params: str, message: str) -> None:
    encode(tmp_path / "a.mp4", make_clip(1), **{"x264-params": params})
    with pytest.raises(InputError, match=message):
        read_clip(tmp_path / "a.mp4")


def test_interlaced_video_is_refused(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", make_clip(3), **{"x264-params": "tff=1"})
    with pytest.raises(InputError, match="interlaced"):
        read_clip(tmp_path / "a.mp4")


# -- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.y4m"])
def test_truncated_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("y4m"):
        write_clip(make_clip(20), path)
    else:
        encode(path, make_clip(20), "mpeg4" if name == "a.avi" else "libx264", movflags="faststart")
    if name == "a.mp4":
        ffmpeg("-i", path, "-c", "copy", "-movflags", "faststart", tmp_path / "b.mp4")
        os.replace(tmp_path / "b.mp4", path)
    data = path.read_bytes()
    for part in (0.3, 0.6, 0.8):
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(InputError, match=name):
            read_clip(path)


def test_damage_that_the_decoder_conceals_is_refused(tmp_path: Path) -> None:
    """libavcodec's FFV1 copies a broken slice from the picture before, and only logs it."""
    encode(tmp_path / "a.mkv", make_clip(10), "ffv1", level="3", slicecrc="1")
    data = (tmp_path / "a.mkv").read_bytes()
    for at in range(len(data) // 3, len(data) - 2000, len(data) // 7):
        hurt = bytearray(data)
        hurt[at : at + 8] = bytes(255 - b for b in hurt[at : at + 8])
        (tmp_path / "b.mkv").write_bytes(hurt)
        with pytest.raises(InputError, match=r"b\.mkv: is damaged"):
            read_clip(tmp_path / "b.mkv")


def test_missing_frames_in_the_middle_are_refused(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48:rate=25", "-frames:v", "10", "-c:v", "mjpeg", tmp_path / "a.avi")
    assert read_clip(tmp_path / "a.avi").n_frames == 10
    data = (tmp_path / "a.avi").read_bytes()
    start = data.index(b"00dc", data.index(b"00dc", data.index(b"movi")) + 4)
    (size,) = struct.unpack("<I", data[start + 4 : start + 8])
    hurt = data[: start + 8] + bytes(size) + data[start + 8 + size :]
    (tmp_path / "a.avi").write_bytes(hurt)
    with pytest.raises(InputError, match=r"a\.avi"):
        read_clip(tmp_path / "a.avi")


def test_what_is_no_clip_is_refused_by_name(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.1", tmp_path / "audio.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.y4m").write_bytes(b"")
    expected = {"audio.mp4": "no video stream", "text.mp4": "cannot be decoded", "empty.mp4": "cannot be decoded",
                "missing.mp4": "no such file", "empty": "folder without pictures",
                "empty.y4m": "not a YUV4MPEG2 file"}  # fmt: skip
    for name, message in expected.items():
        with pytest.raises(InputError, match=f"{name}.*{message}"):
            read_clip(tmp_path / name)


# -- y4m -----------------------------------------------------------------------------------------------------------


def y4m(path: Path, header: str, frame: bytes, frames: int = 1) -> Path:
    path.write_bytes(f"YUV4MPEG2 {header}\n".encode() + (b"FRAME Ip\n" + frame) * frames)
    return path


@pytest.mark.parametrize(
    ("tag", "siting"),
    [("", "center"), ("C420jpeg", "center"), ("C420mpeg2", "left"), ("C420paldv", "topleft"), ("C420", "center")],
)
def test_y4m_tags_set_the_siting(tmp_path: Path, tag: str, siting: str) -> None:
    clip = read_clip(y4m(tmp_path / "a.y4m", f"W4 H2 F30000:1001 Ip A1:1 {tag}", bytes(range(12)), 2))
    assert (clip.fps, clip.n_frames, clip.colour.siting) == (NTSC, 2, siting)
    assert clip.y[1].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert clip.v[1].tolist() == [[10, 11]]


@pytest.mark.parametrize("kind", ["yuv420p10le", "yuv422p", "yuv444p", "yuv444p12le", "gray"])
def test_y4m_of_ffmpeg_is_read(tmp_path: Path, kind: str) -> None:
    """The luma of ffmpeg's own file, to the nearest 8-bit level."""
    source = ("-f", "lavfi", "-i", "testsrc2=size=66x50:rate=25", "-frames:v", "2", "-pix_fmt", kind)
    ffmpeg(*source, "-strict", "-1", tmp_path / "a.y4m")
    clip = read_clip(tmp_path / "a.y4m")
    bits = 10 if "10" in kind else 12 if "12" in kind else 8
    raw = np.frombuffer(ffmpeg(*source, "-f", "rawvideo", "-"), "u1" if bits == 8 else "<u2").reshape(2, -1)
    luma = raw[:, : 66 * 50].reshape(2, 50, 66) / 2.0 ** (bits - 8)
    assert np.all(np.abs(clip.y - luma) <= 0.5)
    assert clip.u.shape == (2, 25, 33)


@pytest.mark.parametrize(
    ("header", "message"),
    [("W4 H2 F25:1 It", "interlaced"), ("W4 H2 Ip", "no frame rate"), ("W4 H2 F0:0 Ip", "no frame rate"),
     ("W4 H2 F25:1 C411", "C411"), ("H2 F25:1", "no picture size")],
)  # fmt: skip
def test_y4m_without_exact_meaning_is_refused(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"a\.y4m: .*{message}"):
        read_clip(y4m(tmp_path / "a.y4m", header, bytes(12)))


# -- raw files -----------------------------------------------------------------------------------------------------


def test_raw_files_are_read_by_their_name_or_by_arguments(tmp_path: Path) -> None:
    clip = make_clip(3, 17, 31)
    write_clip(clip, tmp_path / "foo_31x17_29.97_8bit_420.yuv")
    write_clip(clip, tmp_path / "foo.yuv")
    named = read_clip(tmp_path / "foo_31x17_29.97_8bit_420.yuv")
    told = read_clip(tmp_path / "foo.yuv", width=31, height=17, pix_fmt="yuv420p", fps=NTSC)
    assert named.equals(clip)
    assert told.equals(clip)
    with pytest.raises(InputError, match="give width, height, pix_fmt and fps"):
        read_clip(tmp_path / "foo.yuv")
    with pytest.raises(InputError, match="no whole number of 31x16"):
        read_clip(tmp_path / "foo.yuv", width=31, height=16, pix_fmt="yuv420p", fps=25)


@pytest.mark.parametrize("kind", ["rgb24", "gbrp", "rgbp"])
def test_raw_rgb_becomes_the_planes_of_from_rgb(tmp_path: Path, kind: str) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
    order = {"rgb24": rgb, "gbrp": np.moveaxis(rgb[..., [1, 2, 0]], -1, 1), "rgbp": np.moveaxis(rgb, -1, 1)}[kind]
    (tmp_path / "a.rgb").write_bytes(order.tobytes())
    clip = read_clip(tmp_path / "a.rgb", width=8, height=6, pix_fmt=kind, fps=25)
    assert clip.equals(Clip.from_rgb(rgb, Fraction(25)))


def test_samples_that_exceed_their_bits_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yuv").write_bytes(np.full(4 * 4, 1024, "<u2").tobytes())
    with pytest.raises(InputError, match="1024"):
        read_clip(tmp_path / "a.yuv", width=4, height=4, pix_fmt="gray10le", fps=25)


# -- pictures ------------------------------------------------------------------------------------------------------


def test_picture_folder_is_sorted_naturally(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for i in (10, 2, 1):
        rgb = np.full((4, 6, 3), i * 20, np.uint8)
        av.VideoFrame.from_ndarray(rgb, "rgb24").to_image().save(tmp_path / f"f%d_{i}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    clip = read_clip(tmp_path)
    expected = Clip.from_rgb(np.stack([np.full((4, 6, 3), i * 20, np.uint8) for i in (1, 2, 10)]), PICTURE_FPS)
    assert clip.equals(expected)
    assert "taking 25 fps" in caplog.text
    assert read_clip(tmp_path, fps="30000/1001").fps == NTSC


def test_jpeg_planes_are_taken_as_they_are(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48", "-frames:v", "1", "-pix_fmt", "yuvj420p", tmp_path / "a.jpg")
    clip = read_clip(tmp_path / "a.jpg", fps=25)
    assert clip.colour == Colour("bt601", "full", "center")
    assert clip.yuv_bytes() == ffmpeg("-i", tmp_path / "a.jpg", "-f", "rawvideo", "-pix_fmt", "yuvj420p", "-")


@pytest.mark.parametrize("kind", ["pal8", "rgb24", "rgba"])
def test_png_kinds_show_the_same_picture_as_in_ffmpeg(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=40x30", "-frames:v", "1", "-pix_fmt", kind, path)
    rgb = np.frombuffer(ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"), np.uint8).reshape(1, 30, 40, 3)
    assert read_clip(path, fps=25).equals(Clip.from_rgb(rgb, Fraction(25)))


def test_16bit_png_is_rounded_to_the_nearest_level(tmp_path: Path) -> None:
    gray = np.array([[0, 128, 129, 257, 32768, 65407, 65535, 0]], np.uint16)
    frame = av.VideoFrame.from_ndarray(gray, "gray16be")
    with av.open(str(tmp_path / "a.png"), "w", format="image2", options={"update": "1"}) as container:
        stream: Any = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 8, 1, "gray16be"
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    clip = read_clip(tmp_path / "a.png", fps=25)
    assert clip.colour.range == "full"
    assert clip.y[0].tolist() == [[0, 0, 1, 1, 128, 255, 255, 0]]


def test_pictures_of_two_sizes_or_with_transparency_are_refused(tmp_path: Path) -> None:
    for folder, second in (("sizes", "color=c=red:size=8x8"), ("alpha", "color=c=red@0.5:size=8x6,format=rgba")):
        (tmp_path / folder).mkdir()
        ffmpeg("-f", "lavfi", "-i", "color=c=red:size=8x6", "-frames:v", "1", tmp_path / folder / "1.png")
        ffmpeg("-f", "lavfi", "-i", second, "-frames:v", "1", tmp_path / folder / "2.png")
    with pytest.raises(InputError, match="8x6 to 8x8 at frame 1"):
        read_clip(tmp_path / "sizes", fps=25)
    with pytest.raises(InputError, match=r"2\.png: has transparent pixels"):
        read_clip(tmp_path / "alpha", fps=25)


# -- the one conversion --------------------------------------------------------------------------------------------


def test_8bit_420_is_not_touched() -> None:
    rng = np.random.default_rng(0)
    planes = tuple(rng.integers(0, 256, s, dtype=np.uint8) for s in ((5, 7), (3, 4), (3, 4)))
    assert all(a is b for a, b in zip(to_420_8bit(planes, 8, Colour()), planes, strict=True))


def test_more_bits_are_rounded_not_cut() -> None:
    limited = to_420_8bit((np.array([[0, 1, 2, 3, 5, 6, 1021, 1022, 1023]], np.uint16),), 10, Colour())[0]
    assert limited.tolist() == [[0, 0, 0, 1, 1, 2, 255, 255, 255]]  # x / 4; ties (0.5, 1.5) to even; 255.5 clipped
    full = to_420_8bit((np.array([[0, 2, 512, 1023]], np.uint16),), 10, Colour(range="full"))[0]
    assert full.tolist() == [[0, 0, 128, 255]]


def test_rounding_more_bits_has_no_bias() -> None:
    samples = np.arange(64, 941, dtype=np.uint16)[None]
    error = to_420_8bit((samples,), 10, Colour())[0].astype(float) - samples / 4
    assert abs(error.mean()) < 0.01


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("colour_range", ["limited", "full"])
def test_gray_stays_gray_at_every_depth(bits: int, colour_range: str) -> None:
    neutral = np.full((4, 4), 1 << (bits - 1), np.uint16)
    _, u, v = to_420_8bit((neutral, neutral, neutral), bits, Colour(range=colour_range))
    assert np.all(u == 128) and np.all(v == 128)


@pytest.mark.parametrize("siting", ["left", "center", "topleft"])
def test_chroma_ramp_keeps_its_place(siting: str) -> None:
    """Decimation of a ramp gives the ramp's value at the site of each chroma sample."""
    y, x = np.mgrid[0:32, 0:48]
    full = (40 + 2 * x + 2 * y).astype(np.uint8)
    u = to_420_8bit((full, full, full), 8, Colour(siting=siting))[1].astype(float)
    dx, dy = {"left": (0, 0.5), "center": (0.5, 0.5), "topleft": (0, 0)}[siting]
    at = 40 + 2 * (2 * np.arange(24)[None] + dx) + 2 * (2 * np.arange(16)[:, None] + dy)
    assert np.all(np.abs(u - at)[1:, 1:] <= 0.5)


def test_chroma_of_odd_size_is_kept_to_the_last_sample() -> None:
    chroma = np.arange(15, dtype=np.uint8).reshape(3, 5) * 10
    _, u, _ = to_420_8bit((np.zeros((3, 5), np.uint8), chroma, chroma), 8, Colour(siting="center"))
    assert u.tolist() == [[30, 50, 65], [105, 125, 140]]  # means of 2x2 blocks, the last sample repeated


def test_chroma_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="3x4 does not fit luma of 8x8"):
        to_420_8bit((np.zeros((8, 8), np.uint8), np.zeros((4, 3), np.uint8), np.zeros((4, 3), np.uint8)), 8, Colour())


# -- writing -------------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    for name in ("a.y4m", "folder"):
        write_clip(make_clip(1), tmp_path / name)
        with pytest.raises(InputError, match=f"{name}: exists already"):
            write_clip(make_clip(2), tmp_path / name)
        write_clip(make_clip(2), tmp_path / name, force=True)
        assert read_clip(tmp_path / name, fps=NTSC).n_frames == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.y4m", "folder"]


def test_a_folder_of_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(InputError, match="thesis"):
        write_clip(make_clip(1), tmp_path / "thesis", force=True)
    assert (tmp_path / "thesis" / "chapter1.tex").exists()


def test_a_failed_write_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / "a.y4m", tmp_path / "folder"]
    for path in paths:
        write_clip(make_clip(2), path)
    monkeypatch.setattr(Clip, "yuv_bytes", lambda clip: 1 / 0)
    monkeypatch.setattr(Clip, "rgb", lambda clip, frames: 1 / 0)
    for path in paths:
        with pytest.raises(ZeroDivisionError):
            write_clip(make_clip(3), path, force=True)
        assert read_clip(path, fps=25).n_frames == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.y4m", "folder"]


def test_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.gif"):
        write_clip(make_clip(1), tmp_path / "a.gif")
