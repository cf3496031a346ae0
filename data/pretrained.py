"""Pretrained weights of metric and loss networks: where they are looked for, and how they get there.

A file is looked for, in this order, in
  1. `$HDAC_METRIC_WEIGHTS`, a folder laid out as the paths below say,
  2. the cache, `$HDAC_CACHE/weights` or `~/.cache/hdac/weights`, laid out alike,
  3. an installed Python package that ships the same file (`lpips`, `torchmetrics`), which is not imported.
A missing file makes its metric or loss unavailable, with the reason; nothing is fetched behind the user's back. Files
with an official address are downloaded, and checked against their SHA-256, by

    python -m data.pretrained fetch NAME...

or on first use where `HDAC_DOWNLOAD=1` is set. `python -m data.pretrained list` says what is there.
None of these files is part of the project: some may be used for research only (see where each comes from).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from data.cli import run
from data.download import download
from data.errors import HdacError, InputError, WeightsUnavailable
from data.files import file_sha256

TORCHVISION = "https://download.pytorch.org/models/"
LPIPS = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/082bb24f84c091ea94de2867d34c4544f68e0963/"
DISTS = "https://raw.githubusercontent.com/dingkeyan93/DISTS/master/DISTS_pytorch/"
PYTORCH_FID = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
YUNET = "https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/0047ac24afb1a50a0c6105001c89d1b5b805dbf1/"
PFLD = "https://raw.githubusercontent.com/cunjian/pytorch_face_landmark/6f34bf9f034aa2f521952f825e6ccc567deb42d6/"
FSANET = "https://raw.githubusercontent.com/omasaht/headpose-fsanet-pytorch/002549c981b607f722e0810d999afcde7e5aaa66/"


@dataclass(frozen=True)
class WeightsFile:
    """One file of weights."""

    paths: tuple[str, ...]
    """Where it may lie below a weights folder, best first; a download goes to the first."""
    about: str
    """The network, and where its weights come from."""
    url: str = ""
    """Official address, "" where there is none for this form of the file."""
    sha256: str = ""
    """Of the file at `url`: 64 hexadecimal digits, or the leading ones where only these are published."""
    package: str = ""
    """Path of the same file below site-packages, in a package that ships it."""
    metrics: tuple[str, ...] = ()
    """Columns of `rd.columns` whose scores depend on it; () where training alone uses it."""


FILES: dict[str, WeightsFile] = {
    "squeezenet1_1": WeightsFile(
        ("squeezenet1_1-b8a52dc0.pth", "lpips_squeeze/squeezenet1_1_fp16.pth"),
        "SqueezeNet 1.1 of torchvision (BSD-3-Clause), full precision or rounded to fp16",
        TORCHVISION + "squeezenet1_1-b8a52dc0.pth",
        "b8a52dc0",
        metrics=("lpips",),
    ),
    "alexnet": WeightsFile(
        ("alexnet-owt-7be5be79.pth",),
        "AlexNet of torchvision (BSD-3-Clause)",
        TORCHVISION + "alexnet-owt-7be5be79.pth",
        "7be5be79",
        metrics=("lpips_alex",),
    ),
    "vgg16": WeightsFile(
        ("vgg16-397923af.pth",),
        "VGG16 of torchvision (BSD-3-Clause)",
        TORCHVISION + "vgg16-397923af.pth",
        "397923af",
        metrics=("lpips_vgg", "dists"),
    ),
    "vgg19": WeightsFile(
        ("vgg19-dcbb9e9d.pth",),
        "VGG19 of torchvision (BSD-3-Clause)",
        TORCHVISION + "vgg19-dcbb9e9d.pth",
        "dcbb9e9d",
        metrics=("msvgg",),
    ),
    "vgg19_distilled": WeightsFile(
        ("vgg19_normalised/vgg19n_distilled16x_to_relu5_1.pth",),
        "16x smaller network distilled from the normalised VGG19 (MIT); the `model` entry of wct_se_16x_new/"
        "20191109-211322_E20.pth of github.com/MingSun-Tse/Collaborative-Distillation, saved alone",
        metrics=("msvgg_distilled",),
    ),
    "lpips_squeeze": WeightsFile(
        ("lpips_squeeze.pth", "lpips_squeeze/lpips_lin_squeeze_v0.1.pth"),
        "LPIPS v0.1 heads for SqueezeNet (BSD-2-Clause)",
        LPIPS + "lpips/weights/v0.1/squeeze.pth",
        "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
        "lpips/weights/v0.1/squeeze.pth",
        metrics=("lpips",),
    ),
    "lpips_alex": WeightsFile(
        ("lpips_alex.pth",),
        "LPIPS v0.1 heads for AlexNet (BSD-2-Clause)",
        LPIPS + "lpips/weights/v0.1/alex.pth",
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        "lpips/weights/v0.1/alex.pth",
        metrics=("lpips_alex",),
    ),
    "lpips_vgg": WeightsFile(
        ("lpips_vgg.pth",),
        "LPIPS v0.1 heads for VGG16 (BSD-2-Clause)",
        LPIPS + "lpips/weights/v0.1/vgg.pth",
        "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        "lpips/weights/v0.1/vgg.pth",
        metrics=("lpips_vgg",),
    ),
    "dists": WeightsFile(
        ("dists_weights.pt",),
        "DISTS alpha and beta (MIT)",
        DISTS + "weights.pt",
        "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
        "torchmetrics/functional/image/dists_models/weights.pt",
        metrics=("dists",),
    ),
    "inception_fid": WeightsFile(
        ("pt_inception-2015-12-05-6726825d.pth",),
        "InceptionV3 of the original FID, ported by pytorch-fid (Apache-2.0)",
        PYTORCH_FID + "pt_inception-2015-12-05-6726825d.pth",
        "6726825d",
        metrics=("fid",),
    ),
    "yunet": WeightsFile(
        ("face_detect/yunet_n_dynamic.onnx",),
        "YuNet face detector (Apache-2.0)",
        YUNET + "onnx/yunet_n_dynamic.onnx",
        "104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
        metrics=("csim", "nme", "nme_mesh", "akd", "pose_deg", "expr", "aed"),
    ),
    "mobilefacenet": WeightsFile(
        ("face_id/mobilefacenet_ms1m_112x112.onnx",),
        "InsightFace MobileFaceNet (non-commercial research); github.com/liguiyuan/mobilefacenet-ncnn, "
        "models/model-0000.params as ONNX",
        metrics=("csim", "aed"),
    ),
    "pfld_68": WeightsFile(
        ("face_landmark68/pfld_68.onnx",),
        "PFLD, 68 points of 300W (research)",
        PFLD + "onnx/pfld.onnx",
        "7d7bbd5c6a1d9272e58d9773898284a1905d872eba9a662df9b5f20f1ba6f83e",
        metrics=("nme", "akd"),
    ),
    "face_parse19": WeightsFile(
        ("segmentation/unet_face_parse19.pth",),
        "U-Net for face parsing in 19 classes (repository SimonEnkel/lightweight-unet-face-parsing), of training only",
    ),
    "face_mesh": WeightsFile(
        ("face_mesh/mp_face_landmark468.onnx",),
        "MediaPipe face mesh (Apache-2.0), modules/face_landmark/face_landmark.tflite as ONNX",
        metrics=("expr", "nme_mesh"),
    ),
    "iris": WeightsFile(
        ("face_mesh/mp_iris.onnx",),
        "MediaPipe iris (Apache-2.0), modules/iris_landmark/iris_landmark.tflite as ONNX",
        metrics=("expr",),
    ),
    "blendshapes": WeightsFile(
        ("face_mesh/mp_face_blendshapes.onnx",),
        "MediaPipe blendshapes (Apache-2.0), face_blendshapes.tflite of face_landmarker_with_blendshapes.task as ONNX",
        metrics=("expr",),
    ),
    "fsanet_1x1": WeightsFile(
        ("head_pose/fsanet_1x1.onnx",),
        "FSA-Net head pose (MIT)",
        FSANET + "pretrained/fsanet-1x1-iter-688590.onnx",
        "d85e90cb4b9d3a87e81bbfdcfcd130cbe0e175407042e439a570aa396c44eda6",
        metrics=("pose_deg",),
    ),
    "fsanet_var": WeightsFile(
        ("head_pose/fsanet_var.onnx",),
        "FSA-Net head pose (MIT)",
        FSANET + "pretrained/fsanet-var-iter-688590.onnx",
        "2877b1db98e3dc66468e90df8db4a21059facd1c3f107af91c6d4fe6476a03e1",
        metrics=("pose_deg",),
    ),
}


def cache_folder() -> Path:
    """Where downloaded weights are kept."""
    root = os.environ.get("HDAC_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "hdac") / "weights"


def find(name: str) -> Path:
    """The file of the weights `name`, downloaded first where `HDAC_DOWNLOAD=1` allows it.

    Raises WeightsUnavailable, naming the file and the ways to get it, where it is not to be had.
    """
    file = FILES[name]
    path = _installed(file)
    if path is not None:
        return path
    folders = " and ".join(str(folder) for folder in _folders())
    missing = f"weights {name!r} ({' or '.join(file.paths)}) are not in {folders}"
    if not file.url:
        raise WeightsUnavailable(f"{missing}; put the file there: {file.about}")
    if os.environ.get("HDAC_DOWNLOAD") != "1":
        command = f"python -m data.pretrained fetch {name}"
        raise WeightsUnavailable(f"{missing}; `{command}` downloads them from {file.url}")
    try:
        return fetch(name)
    except (HdacError, OSError) as error:
        raise WeightsUnavailable(f"{missing}, and the download failed: {error}") from error


def fetch(name: str) -> Path:
    """Downloads the weights `name` into the cache and returns the file; one that is already there is kept.

    Raises InputError for an unknown name, a file without an official address, or a wrong checksum.
    """
    if name not in FILES:
        raise InputError(f"unknown weights {name!r}; known: {', '.join(FILES)}")
    file = FILES[name]
    if not file.url:
        raise InputError(f"weights {name!r} have no official address in this form: {file.about}")
    path = cache_folder() / file.paths[0]
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unchecked = path.with_name(f"{path.name}.unchecked")  # `path` itself appears whole and checked, or not at all
    download(file.url, unchecked)
    digest = file_sha256(unchecked)
    if not digest.startswith(file.sha256):
        unchecked.unlink()
        raise InputError(f"{file.url}: expected a SHA-256 beginning with {file.sha256}, got {digest}")
    os.replace(unchecked, path)
    return path


def checksums(metric: str) -> dict[str, str]:
    """SHA-256 of every weights file that is there and on which a metric's scores depend, by name. Downloads nothing.

    metric: a column of `rd.columns`.
    """
    found = {name: _installed(file) for name, file in FILES.items() if metric in file.metrics}
    return {name: _sha256(path) for name, path in found.items() if path is not None}


def load(path: Path) -> dict[str, Tensor]:
    """State dict of a .pth file on the CPU, half-precision tensors widened to float32."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


Net = TypeVar("Net", bound=nn.Module)


def frozen(net: Net) -> Net:
    """`net` made ready to judge: evaluation mode, no gradients into its weights, and channels last, twice as fast on a CPU."""
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return net.eval().requires_grad_(False)


def _folders() -> list[Path]:
    given = os.environ.get("HDAC_METRIC_WEIGHTS")
    return [*([Path(given)] if given else []), cache_folder()]


def _installed(file: WeightsFile) -> Path | None:
    places = [folder / path for folder in _folders() for path in file.paths]
    if file.package:
        package, _, inside = file.package.partition("/")
        spec = importlib.util.find_spec(package)  # finds without importing: `import lpips` would need torchvision
        if spec is not None and spec.origin is not None:
            places.append(Path(spec.origin).parent / inside)
    return next((place for place in places if place.is_file()), None)


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _sha256_of(path: Path, mtime_ns: int, size_bytes: int) -> str:  # time and size: a replaced file is read anew
    return file_sha256(path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m data.pretrained", description="Pretrained weights of metric and loss networks."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="say what is there and where the rest comes from")
    fetcher = commands.add_parser("fetch", help="download weights into the cache")
    fetcher.add_argument("names", nargs="+", metavar="NAME", help="names as `list` shows them")
    args = parser.parse_args(argv)
    if args.command == "fetch":
        for name in args.names:
            print(fetch(name))
    else:
        for name, file in FILES.items():
            print(f"{name:16} {_installed(file) or 'missing: ' + (file.url or file.about)}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
