"""The columns of a sweep: every metric by its column name, with label, unit, direction and family."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from data.errors import InputError


@dataclass(frozen=True)
class Metric:
    """One metric column."""

    column: str
    label: str
    """As on a plot's axis."""
    unit: str
    """"dB", "%", "degrees", .. or "" for a pure number."""
    higher_is_better: bool
    family: str
    note: str
    """Definition in one line."""


METRICS: dict[str, Metric] = {
    m.column: m
    for m in (
        Metric("psnr_y", "PSNR-Y", "dB", True, "psnr", "mean over frames of the luma PSNR, 8 bit, peak 255"),
        Metric("psnr_u", "PSNR-U", "dB", True, "psnr", "mean over frames of the Cb PSNR"),
        Metric("psnr_v", "PSNR-V", "dB", True, "psnr", "mean over frames of the Cr PSNR"),
        Metric("psnr_yuv", "PSNR 6:1:1", "dB", True, "psnr", "(6 Y + U + V) / 8 of the per-frame PSNRs, then their mean"),
        Metric("psnr_rgb", "PSNR-RGB", "dB", True, "psnr", "mean over frames of the PSNR over R, G and B together"),
        Metric("psnr_y_of_mse", "PSNR-Y of mean MSE", "dB", True, "psnr", "luma PSNR of the mean MSE over all frames"),
        Metric("ssim_y", "SSIM", "", True, "ssim", "luma, 11x11 Gaussian window, Wang 2004"),
        Metric("ms_ssim_y", "MS-SSIM", "", True, "ssim", "luma, five scales, Wang 2003"),
        Metric("xpsnr_y", "XPSNR-Y", "dB", True, "xpsnr", "perceptually weighted luma PSNR of ffmpeg's xpsnr filter"),
        Metric("vmaf", "VMAF", "", True, "vmaf", "vmaf_v0.6.1 over the whole clip, true 4:2:0, mean"),
        Metric("lpips", "LPIPS", "", False, "perceptual", "v0.1, SqueezeNet 1.1 backbone, RGB in [-1, 1]"),
        Metric("lpips_alex", "LPIPS (AlexNet)", "", False, "perceptual", "v0.1, AlexNet backbone"),
        Metric("lpips_vgg", "LPIPS (VGG16)", "", False, "perceptual", "v0.1, VGG16 backbone"),
        Metric("dists", "DISTS", "", False, "perceptual", "Ding 2020, VGG16 backbone"),
        Metric("msvgg", "msVGG", "", False, "perceptual", "multi-scale VGG19 L1, weights 10, as FOMM and H-DAC"),
        Metric("msvgg_distilled", "msVGG (distilled)", "", False, "perceptual", "the same sum on a distilled VGG19"),
        Metric("csim", "CSIM", "", True, "face", "cosine similarity of face-identity embeddings"),
        Metric("nme", "NME", "", False, "face", "68-point error over the inter-ocular distance"),
        Metric("nme_mesh", "NME (mesh)", "", False, "face", "the same of 468 points of a face mesh"),
        Metric("akd", "AKD", "px", False, "face", "average 68-point distance in pixels"),
        Metric("pose_deg", "Head pose error", "degrees", False, "face", "mean absolute error of yaw, pitch and roll"),
        Metric("expr", "Expression error", "", False, "face", "mean absolute error of 52 blendshape coefficients"),
        Metric("l1", "L1", "", False, "animation", "mean absolute difference of R, G and B in [0, 1]"),
        Metric("aed", "AED", "", False, "animation", "average Euclidean distance of face-identity embeddings"),
        Metric("flicker", "Flicker", "", False, "temporal", "RMS of the temporal difference of the coding error, luma"),
        Metric("fid", "FID", "", False, "fid", "Frechet distance of InceptionV3 features over the clip"),
    )
}

FAMILIES: dict[str, list[str]] = {}
for _metric in METRICS.values():
    FAMILIES.setdefault(_metric.family, []).append(_metric.column)


def expand_metrics(names: Iterable[str]) -> list[str]:
    """Column names from columns, families (`psnr`, `ssim`, `vmaf`, `perceptual`, `face`, ..) and `all`.

    A family's own name wins over a column's where both exist with one meaning (`vmaf`, `fid`).
    Raises InputError for a name that is neither.
    """
    wanted: dict[str, None] = {}
    for name in names:
        if name == "all":
            wanted.update(dict.fromkeys(METRICS))
        elif name in FAMILIES:
            wanted.update(dict.fromkeys(FAMILIES[name]))
        elif name in METRICS:
            wanted[name] = None
        else:
            raise InputError(f"unknown metric {name!r}; columns: {', '.join(METRICS)}; families: {', '.join(FAMILIES)}, all")
    return [column for column in METRICS if column in wanted]
