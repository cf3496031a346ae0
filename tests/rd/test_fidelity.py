"""PSNR, SSIM, MS-SSIM, XPSNR, VMAF and flicker against hand-made values and independent implementations."""

from __future__ import annotations

import math
import os
import re
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from data.clip import Clip, Colour
from data.errors import InputError
from rd.metrics import Measured, compute, ffmpeg_filters, fidelity, psnr_y_only
from rd.metrics.ffmpeg_filters import vmaf_command, xpsnr_command
from rd.metrics.score import MetricUnavailable, Score

FIDELITY = ["psnr_y", "psnr_u", "psnr_v", "psnr_yuv", "psnr_rgb", "psnr_y_of_mse", "ssim_y", "ms_ssim_y", "flicker"]


def textured(frames: int, height: int, width: int, seed: int = 0, fps: Fraction = Fraction(25)) -> Clip:
    """Smooth noise that drifts by (1, 2) samples a frame: some structure, some motion."""
    rng = np.random.default_rng(seed)
    planes = []
    for h, w, step in ((height, width, 2), ((height + 1) // 2, (width + 1) // 2, 1)) * 2:
        noise = rng.normal(0, 1, (h + frames, w + 2 * frames)).astype(np.float32)
        field = cv2.GaussianBlur(noise, (0, 0), 2) * 350 + noise * 8 + 120
        moved = [field[t : t + h, t * step : t * step + w] for t in range(frames)]
        planes.append(np.clip(np.rint(moved), 0, 255).astype(np.uint8))
    return Clip(planes[0], planes[1], planes[3], fps)


def blurred(clip: Clip, sigma: float = 1.2) -> Clip:
    y, u, v = (np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in plane]) for plane in (clip.y, clip.u, clip.v))
    return replace(clip, y=y, u=u, v=v)


def flat(frames: int, height: int, width: int, level: int) -> Clip:
    chroma = (frames, (height + 1) // 2, (width + 1) // 2)
    y, u, v = (np.full(shape, level, np.uint8) for shape in ((frames, height, width), chroma, chroma))
    return Clip(y, u, v, Fraction(25))


def value(source: Clip, decoded: Clip, column: str) -> float:
    return compute(source, decoded, [column]).values[column]


def ffmpeg_filter(filtergraph: str, source: Clip, decoded: Clip, folder: Path) -> str:
    """Runs a two-input filter of ffmpeg's by hand, decoded first, as its manual says; returns what it logged."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin"]
    for name, clip in (("decoded.yuv", decoded), ("source.yuv", source)):
        (folder / name).write_bytes(clip.yuv_bytes())
        command += f"-f rawvideo -pix_fmt yuv420p -s {clip.width}x{clip.height} -r {clip.fps} -i {name}".split()
    command += ["-lavfi", filtergraph, "-f", "null", "-"]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stderr


# -- PSNR ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [(0, 255), (255, 0), (10, 30), (30, 10), (0, 16), (200, 216)])
def test_psnr_of_flat_frames_is_the_hand_made_value_and_does_not_wrap(a: int, b: int) -> None:
    measured = compute(flat(2, 6, 8, a), flat(2, 6, 8, b), ["psnr_y", "psnr_u", "psnr_v", "psnr_yuv", "psnr_y_of_mse"])
    expected = 20 * math.log10(255 / abs(a - b))
    assert measured.values == pytest.approx(dict.fromkeys(measured.values, expected), abs=1e-9)
    assert len(measured.values) == 5


def test_squared_errors_of_a_1080p_frame_are_exact() -> None:
    difference = np.full((1080, 1920), -255, np.int16)
    assert fidelity.sum_of_squares(difference) == 255 * 255 * 1920 * 1080


def test_psnr_agrees_with_scikit_image_on_every_plane_of_an_odd_size() -> None:
    source = textured(3, 37, 51)
    decoded = blurred(source)
    measured = compute(source, decoded, ["psnr_y", "psnr_u", "psnr_v", "psnr_rgb", "psnr_yuv"])
    frames = {
        column: [peak_signal_noise_ratio(s, d, data_range=255) for s, d in zip(a, b, strict=True)]
        for column, a, b in (
            ("psnr_y", source.y, decoded.y),
            ("psnr_u", source.u, decoded.u),
            ("psnr_v", source.v, decoded.v),
            ("psnr_rgb", source.rgb(), decoded.rgb()),
        )
    }
    for column, expected in frames.items():
        np.testing.assert_allclose(measured.frames[column], expected, atol=1e-9)
        assert measured.values[column] == pytest.approx(np.mean(expected))
    weighted = np.average([measured.values[f"psnr_{plane}"] for plane in "yuv"], weights=[6, 1, 1])
    assert measured.values["psnr_yuv"] == pytest.approx(weighted)


def test_psnr_and_ssim_agree_with_ffmpegs_own_filters(tmp_path: Path) -> None:
    source = textured(4, 96, 128)
    decoded = blurred(source, 0.7)
    measured = compute(source, decoded, ["psnr_y", "psnr_u", "psnr_v", "psnr_y_of_mse", "ssim_y"])
    log = ffmpeg_filter("[0][1]psnr=stats_file=psnr.log", source, decoded, tmp_path)
    frames = (tmp_path / "psnr.log").read_text()
    for plane in "yuv":
        theirs = [float(x) for x in re.findall(rf"psnr_{plane}:(\S+)", frames)]
        np.testing.assert_allclose(measured.frames[f"psnr_{plane}"], theirs, atol=0.006)  # two decimals in the log
    of_mean_mse = re.search(r"PSNR y:(\S+)", log)
    assert of_mean_mse and measured.values["psnr_y_of_mse"] == pytest.approx(float(of_mean_mse[1]), abs=1e-5)

    ssim = re.search(r"SSIM Y:(\S+)", ffmpeg_filter("[0][1]ssim", source, decoded, tmp_path))
    assert ssim and measured.values["ssim_y"] == pytest.approx(float(ssim[1]), abs=0.02)  # theirs has 8x8 box windows


def test_mean_psnr_and_psnr_of_mean_mse_differ_where_quality_varies() -> None:
    source = flat(2, 4, 4, 100)
    decoded = replace(source, y=np.stack([np.full((4, 4), 101, np.uint8), np.full((4, 4), 110, np.uint8)]))
    measured = compute(source, decoded, ["psnr_y", "psnr_y_of_mse"])
    assert measured.values["psnr_y"] == pytest.approx(20 * math.log10(255) - 10 * math.log10(100) / 2)
    assert measured.values["psnr_y_of_mse"] == pytest.approx(20 * math.log10(255) - 10 * math.log10(50.5))


def test_identical_frames_score_as_one_sample_off_by_one_level_and_never_less_than_a_real_frame() -> None:
    source = textured(2, 32, 48)
    y = source.y.copy()
    y[0, 3, 4] ^= 1
    one_off = compute(source, replace(source, y=y), ["psnr_y"]).frames["psnr_y"]
    assert one_off[0] == one_off[1] == pytest.approx(10 * math.log10(255**2 * 32 * 48))


def test_rgb_psnr_takes_each_clip_by_its_own_colour_description() -> None:
    source = textured(1, 16, 16)
    assert value(source, replace(source, colour=Colour("bt709")), "psnr_rgb") < 50 < value(source, source, "psnr_rgb")


# -- SSIM, MS-SSIM ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(11, 11), (48, 64), (53, 39)])
def test_ssim_agrees_with_scikit_image(height: int, width: int) -> None:
    source = textured(2, height, width)
    decoded = blurred(source)
    theirs = [
        structural_similarity(s, d, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        for s, d in zip(source.y, decoded.y, strict=True)
    ]
    np.testing.assert_allclose(compute(source, decoded, ["ssim_y"]).frames["ssim_y"], theirs, atol=2e-5)


@pytest.mark.parametrize("level", [0, 16, 128, 254])
def test_ssim_of_nearly_flat_frames_keeps_its_digits(level: int) -> None:
    """Float32 variances of a bright, flat area are where a careless SSIM goes wrong."""
    source = flat(1, 32, 32, level)
    y = source.y.copy()
    y[0, ::2, ::3] += 1
    theirs = structural_similarity(
        source.y[0], y[0], data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert value(source, replace(source, y=y), "ssim_y") == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("sigma", [0.7, 2.5])
def test_ms_ssim_and_ssim_agree_with_pytorch_msssim(sigma: float) -> None:
    torch, theirs = pytest.importorskip("torch"), pytest.importorskip("pytorch_msssim")
    source = textured(2, 176, 192)
    decoded = blurred(source, sigma)
    s, d = (torch.from_numpy(clip.y[:, None].astype(np.float32)) for clip in (source, decoded))
    measured = compute(source, decoded, ["ssim_y", "ms_ssim_y"])
    for column, function in (("ssim_y", theirs.ssim), ("ms_ssim_y", theirs.ms_ssim)):
        expected = function(d, s, data_range=255, size_average=False).numpy()
        np.testing.assert_allclose(measured.frames[column], expected, atol=1e-4)


def test_ms_ssim_and_ssim_agree_with_torchmetrics_at_an_odd_size() -> None:
    try:
        import torch
        from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim
        from torchmetrics.functional.image import structural_similarity_index_measure as ssim
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision is not the one of this torch
        pytest.skip(f"torchmetrics cannot be imported: {error}")
    source = textured(2, 177, 201)
    decoded = blurred(source)
    s, d = (torch.from_numpy(clip.y[:, None].astype(np.float32)) for clip in (source, decoded))
    measured = compute(source, decoded, ["ssim_y", "ms_ssim_y"])
    _, full = ssim(d, s, data_range=255.0, reduction="none", return_full_image=True)
    inside = full[..., 5:-5, 5:-5].mean((1, 2, 3))  # its own mean counts windows over the border, too
    np.testing.assert_allclose(measured.frames["ssim_y"], inside.numpy(), atol=1e-4)
    ms = ms_ssim(d, s, data_range=255.0, reduction="none")  # over the border at the coarsest scale: less close
    np.testing.assert_allclose(measured.frames["ms_ssim_y"], ms.numpy(), atol=3e-3)


def ms_ssim_by_its_paper(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> float:
    """Wang 2003, equation 7, in float64, with the window as a plain 2D sum."""
    g = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(g, g) / g.sum() ** 2
    a, b, product = x.astype(np.float64), y.astype(np.float64), 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            h, w = a.shape[0] // 2, a.shape[1] // 2
            a, b = (p[: 2 * h, : 2 * w].reshape(h, 2, w, 2).mean((1, 3)) for p in (a, b))
        mu_a, mu_b, aa, bb, ab = (fftconvolve(p, window, "valid") for p in (a, b, a * a, b * b, a * b))
        term = (2 * (ab - mu_a * mu_b) + 58.5225) / (aa - mu_a**2 + bb - mu_b**2 + 58.5225)
        if scale == 4:
            term *= (2 * mu_a * mu_b + 6.5025) / (mu_a**2 + mu_b**2 + 6.5025)
        product *= term.mean() ** weight
    return float(product)


@pytest.mark.parametrize(("height", "width"), [(176, 176), (183, 205)])
def test_ms_ssim_agrees_with_its_paper(height: int, width: int) -> None:
    source = textured(1, height, width)
    decoded = blurred(source, 2)
    expected = ms_ssim_by_its_paper(source.y[0], decoded.y[0])
    assert value(source, decoded, "ms_ssim_y") == pytest.approx(expected, abs=1e-5)


def test_inverted_structure_gives_a_negative_ssim_and_no_ms_ssim_but_no_nan() -> None:
    source = textured(1, 176, 176)
    measured = compute(source, replace(source, y=~source.y), ["ssim_y", "ms_ssim_y"])
    assert measured.values["ssim_y"] < -0.5
    assert measured.values["ms_ssim_y"] == 0


def test_frames_smaller_than_a_window_are_missing_with_their_size_and_leave_the_other_metrics_alone() -> None:
    source = textured(1, 175, 300)
    measured = compute(source, blurred(source), ["ms_ssim_y", "ssim_y"])
    assert "300x175" in measured.missing["ms_ssim_y"] and "176x176" in measured.missing["ms_ssim_y"]
    assert list(measured.values) == ["ssim_y"]
    assert "10x40" in compute(flat(1, 40, 10, 3), flat(1, 40, 10, 4), ["ssim_y"]).missing["ssim_y"]


# -- flicker ---------------------------------------------------------------------------------------------------------


def test_flicker_is_the_change_of_the_error_and_not_the_error() -> None:
    source = textured(4, 16, 16)
    assert value(source, blurred(source), "flicker") > 0
    source = flat(4, 16, 16, 100)
    assert value(source, flat(4, 16, 16, 140), "flicker") == 0
    y = source.y.copy()
    y[1] = 103  # errors 0, 3, 0, 0: changes 3, 3, 0
    measured = compute(source, replace(source, y=y), ["flicker"])
    np.testing.assert_array_equal(measured.frames["flicker"], [np.nan, 3, 3, 0])
    assert measured.values["flicker"] == 2


def test_flicker_does_not_wrap_at_the_largest_change() -> None:
    black, white = flat(2, 4, 4, 0), flat(2, 4, 4, 255)
    source = replace(black, y=np.stack((black.y[0], white.y[0])))
    decoded = replace(black, y=np.stack((white.y[0], black.y[0])))
    assert value(source, decoded, "flicker") == 510


def test_flicker_of_one_frame_is_missing() -> None:
    measured = compute(flat(1, 8, 8, 1), flat(1, 8, 8, 2), ["flicker"])
    assert "one frame" in measured.missing["flicker"] and not measured.values


# -- VMAF ------------------------------------------------------------------------------------------------------------


def test_vmaf_sees_the_motion_of_the_whole_clip() -> None:
    """Frame by frame its motion feature would be 0; the first frame has none either way."""
    source = textured(4, 96, 96)
    decoded = blurred(source)
    whole = compute(source, decoded, ["vmaf"]).frames["vmaf"]
    alone = np.array([value(source[t : t + 1], decoded[t : t + 1], "vmaf") for t in (0, 2)])
    assert whole.shape == (4,)
    assert whole[0] == pytest.approx(alone[0], abs=1e-3)
    assert abs(whole[2] - alone[1]) > 1


def test_vmaf_agrees_with_the_filter_run_by_hand_and_takes_the_source_as_reference(tmp_path: Path) -> None:
    source = textured(3, 65, 97, fps=Fraction(30000, 1001))
    decoded = blurred(source)
    log = ffmpeg_filter("[0][1]libvmaf=n_threads=1", source, decoded, tmp_path)  # [distorted][reference]
    theirs = re.search(r"VMAF score: (\S+)", log)
    assert theirs and value(source, decoded, "vmaf") == pytest.approx(float(theirs[1]), abs=1e-4)
    assert value(decoded, source, "vmaf") > value(source, decoded, "vmaf") + 1  # sharper than its reference


def test_vmaf_of_identical_clips_is_close_to_100() -> None:
    source = textured(5, 128, 128)
    assert 95 < value(source, source, "vmaf") <= 100


def test_vmaf_takes_one_frame_and_says_why_it_takes_no_tiny_ones() -> None:
    source = textured(1, 17, 20)
    assert 0 <= value(source, blurred(source), "vmaf") <= 100
    assert "16x16" in compute(flat(3, 16, 16, 1), flat(3, 16, 16, 2), ["vmaf"]).missing["vmaf"]


# -- XPSNR -----------------------------------------------------------------------------------------------------------


def xpsnr_frames(source: NDArray[np.uint8], decoded: NDArray[np.uint8], block: int, second_order: bool) -> list[float]:
    """XPSNR by its paper (Helmrich 2020) for sizes of whole blocks between 640x480, where weights are smoothed, and HD.

    Per block k: weight sqrt(a_pic / a_k), a_k the squared mean of |spatial high pass| and twice |temporal difference|
    of the source, the mean at least 4 at 8 bit.
    """
    n, h, w = source.shape
    kernel = np.array([[-1, -2, -1], [-2, 12, -2], [-1, -2, -1]], np.float64)
    inside = np.zeros((h, w))
    inside[1:-1, 1:-1] = 1

    def block_sums(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x.reshape(h // block, block, w // block, block).sum((1, 3))

    history = [np.zeros((h, w)), np.zeros((h, w)), *source.astype(np.float64)]
    scale = math.sqrt(16 * 2 ** (2 * 8 - 9) / math.sqrt(w * h / (3840 * 2160)))
    scores = []
    for t in range(n):
        now, before, earlier = history[t + 2], history[t + 1], history[t]
        spatial = block_sums(np.abs(cv2.filter2D(now, -1, kernel)) * inside) / block_sums(inside)
        change = now - 2 * before + earlier if second_order else now - before
        temporal = 2 * block_sums(np.abs(change)) / block**2
        weighted = block_sums((now - decoded[t]) ** 2) / np.maximum(spatial + temporal, 4)
        scores.append(10 * math.log10(w * h * 255**2 / (weighted.sum() * scale)))
    return scores


@pytest.mark.parametrize(("fps", "second_order"), [(25, False), (50, True)])
def test_xpsnr_agrees_with_its_paper_and_takes_weights_from_the_source(fps: int, second_order: bool) -> None:
    source = textured(3, 480, 672, fps=Fraction(fps))
    decoded = blurred(source)
    measured = compute(source, decoded, ["xpsnr_y"])
    expected = xpsnr_frames(source.y, decoded.y, 24, second_order)
    np.testing.assert_allclose(measured.frames["xpsnr_y"], expected, atol=1e-3)
    root = np.mean([10 ** (-x / 20) for x in expected])  # the mean over roots of weighted errors
    assert measured.values["xpsnr_y"] == pytest.approx(-20 * math.log10(root), abs=1e-3)


def test_xpsnr_of_identical_frames_is_finite_and_the_best_there_is() -> None:
    source = textured(3, 64, 96)
    best = 10 * math.log10(255**2 * 64 * 96)
    same = compute(source, source, ["xpsnr_y"])
    np.testing.assert_allclose(same.frames["xpsnr_y"], best)
    assert same.values["xpsnr_y"] == pytest.approx(best)
    y = source.y.copy()
    y[1] = blurred(source).y[1]
    partly = compute(source, replace(source, y=y), ["xpsnr_y"])
    assert partly.frames["xpsnr_y"][0] == partly.frames["xpsnr_y"][2] == pytest.approx(best)
    assert partly.frames["xpsnr_y"][1] < partly.values["xpsnr_y"] < best


@pytest.mark.parametrize(("width", "height"), [(16, 16), (44, 46), (177, 33), (64, 65)])
def test_xpsnr_is_missing_at_sizes_where_the_filter_writes_something_else(width: int, height: int) -> None:
    source = textured(2, height, width)
    measured = compute(source, blurred(source), ["xpsnr_y"])
    assert "block" in measured.missing["xpsnr_y"] and not measured.values


# -- ffmpeg ----------------------------------------------------------------------------------------------------------


def test_commands_spell_out_model_threads_planes_and_the_exact_frame_rate() -> None:
    clip = replace(flat(1, 18, 32, 0), fps=Fraction(30000, 1001))
    for command in (vmaf_command("ffmpeg", clip), xpsnr_command("ffmpeg", clip)):
        assert command.count("30000/1001") == command.count("32x18") == command.count("yuv420p") == 2
    vmaf = " ".join(vmaf_command("ffmpeg", clip))
    assert "vmaf_v0.6.1" in vmaf and "n_threads=1" in vmaf
    assert vmaf.index("decoded.yuv") < vmaf.index("source.yuv")
    xpsnr = " ".join(xpsnr_command("ffmpeg", clip))
    assert xpsnr.index("source.yuv") < xpsnr.index("decoded.yuv")


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for ffmpeg is a shell script")
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo \"No such filter: 'libvmaf'\" >&2; exit 8", "No such filter: 'libvmaf'"),
        ("kill -9 $$", "exit code -9"),
        ("echo '{\"frames\": []}' > scores", "scored 0 of 2 frames"),
        ("exit 0", "wrote no scores"),
        ("echo '{\"frames\": [' > scores", "wrote no scores"),
    ],
)
def test_an_ffmpeg_that_fails_is_a_reason_and_not_a_score(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "ffmpeg"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tool))
    source = flat(2, 32, 32, 9)
    measured = compute(source, source, ["vmaf", "psnr_y"])
    assert reason in measured.missing["vmaf"]
    assert list(measured.values) == ["psnr_y"]


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for ffmpeg is a shell script")
def test_an_ffmpeg_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "ffmpeg"
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    tool.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tool))
    monkeypatch.setattr(ffmpeg_filters, "START_S", 0.2)
    source = flat(2, 48, 48, 9)
    assert "stopped after" in compute(source, source, ["xpsnr_y"]).missing["xpsnr_y"]


# -- the dispatcher --------------------------------------------------------------------------------------------------


def test_compute_gives_what_was_asked_and_nothing_else() -> None:
    source = textured(2, 32, 32)
    decoded = blurred(source)
    measured = compute(source, decoded, ["ssim_y", "psnr_v", "ssim_y"])
    assert list(measured.values) == ["ssim_y", "psnr_v"] and measured.missing == {}
    assert measured.seconds.keys() == {"ssim", "psnr"} and min(measured.seconds.values()) > 0
    assert all(frames.shape == (2,) and frames.dtype == np.float64 for frames in measured.frames.values())
    assert compute(source, decoded, []) == Measured()


def test_every_fidelity_column_of_identical_clips_is_its_best_value() -> None:
    source = textured(2, 176, 176)
    measured = compute(source, source, FIDELITY)
    assert measured.missing == {} and measured.values.keys() == set(FIDELITY)
    assert measured.values["ssim_y"] == measured.values["ms_ssim_y"] == 1
    assert measured.values["flicker"] == 0
    assert "psnr_y_of_mse" not in measured.frames  # it has no meaning for one frame


def test_psnr_y_only_is_the_column() -> None:
    source = textured(2, 32, 32)
    assert psnr_y_only(source, blurred(source)) == value(source, blurred(source), "psnr_y")


def test_clips_that_do_not_match_are_refused_with_both_shapes() -> None:
    source = flat(3, 32, 32, 0)
    for other in (flat(2, 32, 32, 0), flat(3, 32, 34, 0), replace(source, fps=Fraction(30))):
        with pytest.raises(InputError, match="cannot compare 3 frames of 32x32 at 25 fps"):
            compute(source, other, ["psnr_y"])
        with pytest.raises(InputError, match="cannot compare"):
            fidelity.measure(source, other, ["psnr_y"])


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(InputError, match="'psnr_w'"):
        compute(flat(1, 8, 8, 0), flat(1, 8, 8, 0), ["psnr_w"])


def test_a_metric_that_cannot_be_computed_keeps_its_siblings(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(source: Clip, decoded: Clip, columns: object) -> dict[str, Score | MetricUnavailable]:
        return {"psnr_y": MetricUnavailable("no weights"), "psnr_u": Score(math.nan), "psnr_v": Score(3.0)}

    monkeypatch.setattr(fidelity, "measure", measure)
    measured = compute(flat(1, 8, 8, 0), flat(1, 8, 8, 0), ["psnr_y", "psnr_u", "psnr_v"])
    assert measured.values == {"psnr_v": 3.0}
    assert measured.missing == {"psnr_y": "no weights", "psnr_u": "it came out as nan"}
