"""Another number of threads: what comes back into later frames is the same, and what is shown is off by one level at most.

Threads divide the sums of a convolution in other ways, as another machine's processor does. What bounds the difference is
said in `hdac.codecs.animator`: references and base layers are integers, and a network's output is shown and forgotten.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hdac.codecs.animator import Unrounded
from hdac.codecs.base_layer import Planes
from hdac.codecs.dac import Dac
from hdac.codecs.face_vid2vid import FaceVid2Vid
from hdac.codecs.hdac import Hdac
from hdac.codecs.layered import LayeredCodec
from hdac.codecs.mobile import Mobile
from hdac.container import FULL
from hdac.nets.picture import unpack
from hdac.network import save
from tests.clips import moving_clip
from tests.hdac.nets import TINY, save_tiny, tiny_net

PROGRAM = '''
import io
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from hdac.codecs.animator import Animator
from hdac.codecs.face_animator import FaceAnimator
from hdac.codecs.point_animator import PointAnimator
from hdac.container import Reader
from hdac.decoder import frames

folder, threads, ahead = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "ahead"
torch.set_num_threads(threads)
cv2.setNumThreads(threads)
assert torch.get_num_threads() == cv2.getNumThreads() == threads


def record(kind, name):
    method = getattr(kind, name)

    def recorded(self, *given, **named):
        arrays = [array for one in given for array in (one if isinstance(one, tuple) else [one])]
        exact.extend(array.copy() for array in arrays if isinstance(array, np.ndarray))
        return method(self, *given, **named)

    setattr(kind, name, recorded)


for name in ("refer_to", "rest_at", "task"):  # reference pictures; their keypoints; base layers and keypoints that were sent
    record(Animator, name)
    record(FaceAnimator, name)
    record(PointAnimator, name)
for stream in folder.glob("*.hdac"):
    exact = []
    shown = [plane.ravel() for planes in frames(Reader(io.BytesIO(stream.read_bytes())), ahead) for plane in planes]
    np.savez(stream.with_suffix("." + "".join(sys.argv[2:]) + ".npz"), np.concatenate(shown), *exact)
'''

BASE = Hdac(qp=40, network="flowing", preset="ultrafast", i_offset=12, lean=True, intra_period=4)
MOBILE = Mobile(
    qp=40,
    network="flowing-fomm",
    landmark_network="flowing-landmarks",
    segmentation_network="flowing-segmentation",
    intra_period=4,
)
HYBRID = replace(BASE, send_keypoints=True, always_fused=True)
# of 6 frames 2 are references: 3 planes and keypoints each; then 3 planes of base layer, and keypoints, of every frame shown
# mobile: what travels of points and labels, two arrays or one
# face-vid2vid: 3 planes and 3 arrays of motion of a picture, 6 of a frame with a residual beside its 3 of motion, 3 of others
N_EXACT: dict[LayeredCodec, int] = {
    HYBRID: 2 * (3 + 1) + 6 * (3 + 1),
    replace(HYBRID, send_keypoints=False): 2 * 3 + 6 * 3,
    replace(Hdac.paper(40, intra_period=4), network="flowing", preset="ultrafast"): 2 * (3 + 1) + 4 * (3 + 1),
    Dac(qp=40, network="flowing", refresh="never", intra_period=4): 2 * (3 + 1) + 4 * 1,
    MOBILE: 2 * (3 + 2) + 4 * 2,
    replace(MOBILE, network="flowing-direct"): 2 * (3 + 2) + 4 * 2,
    replace(MOBILE, network="flowing-segface"): 2 * 3 + 4 * 1,
    FaceVid2Vid(
        qp=40, network="flowing-tracked", residual="period", intra_period=3, residual_network="flowing-residual"
    ): (3 + 3) + (6 + 3) + 4 * 3,
}


def test_two_threads_show_what_one_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDAC_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # on a busy machine threads that spin would wait for each other for long
    flowing = replace(TINY, motion=replace(TINY.motion, flow=True))  # which ships, and must not depend on threads either
    save_tiny(tmp_path, "flowing")
    save(tiny_net(settings=flowing), tmp_path / "flowing.safetensors", {})
    for codec in N_EXACT:
        (tmp_path / f"{codec.label}.hdac").write_bytes(codec.encode(moving_clip(6, 160, 128)))
    modes = ("1", "each"), ("2", "each"), ("2", "ahead")  # pictures one by one on one or two threads, or two on one each
    for mode in modes:
        subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path), *mode], check=True, cwd=Path(__file__).parents[2])
    for codec, n_exact in N_EXACT.items():
        one, *others = (np.load(tmp_path / f"{codec.label}.{''.join(mode)}.npz") for mode in modes)
        shown, *exact = one.files
        for other in others:
            assert one.files == other.files and len(exact) == n_exact, codec
            assert all(np.array_equal(one[name], other[name]) for name in exact), codec
            difference = np.abs(one[shown].astype(int) - other[shown])
            assert difference.max() <= 1 and (difference > 0).mean() < 0.01, codec


def test_a_level_more_or_less_at_every_strength() -> None:
    """Pictures that differ by less than a rounding error, as those of two machines do, differ by one level at most."""
    generator = torch.Generator().manual_seed(1)
    base = torch.randint(256, (1, 6, 32, 32), generator=generator).float() / 255

    def rounded(packed: torch.Tensor) -> Planes:
        y, u, v = unpack(packed, 64, 64)
        return y[0], u[0], v[0]

    def levels(planes: Planes) -> NDArray[np.float64]:
        return np.concatenate([plane.ravel() for plane in planes]).astype(float)

    for strength in (1, FULL, 3):
        picture = base + 0.2 * torch.randn(base.shape, generator=generator)
        off = picture + 1e-5 * torch.randn(base.shape, generator=generator)
        here, there = (levels(Unrounded(one, base, rounded).at(strength)) for one in (picture, off))
        assert 0 < np.abs(here - there).max() <= 1
        start, full = levels(rounded(base)), levels(rounded(picture))
        kept = (here > 0) & (here < 255) & (full > 0) & (full < 255)
        assert np.abs(here - (start + (full - start) * strength / FULL))[kept].max() <= 1.26 and kept.sum() > 3000
