"""Writes the stored streams of `test_golden` anew, with the network that they were made with and what they decode to.

    python -m tests.hdac.make_golden [NAME ..]

With names, only those streams, and weights that are missing: what there is stays, as proof that old streams are decoded. To be
run, and its files committed, by those who change the format on purpose; `hdac.container.VERSION` says so to decoders.

    golden/tiny.safetensors    a network of random weights
    golden/NAME.hdac           a stream
    golden/NAME.sha256         of its decoded planes, where no network had a hand in them
    golden/NAME.npz            its decoded planes y, u, v, where one had: another machine may round them differently
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from data.clip import Clip
from hdac import systems
from hdac.codecs.dac import Dac
from hdac.codecs.face_vid2vid import FaceVid2Vid
from hdac.codecs.hdac import Hdac
from hdac.codecs.layered import LayeredCodec
from hdac.codecs.mobile import Mobile
from hdac.codecs.stripped import HevcStripped
from tests.clips import moving_clip
from tests.hdac.nets import save_tiny
from tests.hdac.streams import always_send_residuals, at_all_strengths

GOLDEN = Path(__file__).parent / "golden"

MOBILE = Mobile(qp=40, network="tiny-light", landmark_network="tiny-landmarks", segmentation_network="tiny-segmentation")
ENHANCED_DAC = Dac(qp=48, network="tiny-heeding", refresh="never", residual=True, residual_network="tiny-residual")
ENHANCED_FACE = FaceVid2Vid(
    qp=40, network="tiny-conditioned", residual="period", intra_period=3, residual_network="tiny-residual", fade=2, step=128
)
PARTS = ("", "residual_", "landmark_", "segmentation_")
"""Of networks that a stream may need: fields of codecs."""
SETTLED: Any = {"i_offset": 12, "lean": True, "intra_period": 4}

STREAMS: dict[str, LayeredCodec] = {
    "hevc-stripped": HevcStripped(qp=40, preset="fast", **SETTLED, checksum_interval=2),
    "hdac": Hdac(qp=42, preset="fast", network="tiny", send_keypoints=True, **SETTLED, checksum_interval=2),
    "hdac-paper": replace(Hdac.paper(38, intra_period=4), preset="fast", network="tiny"),
    "hdac-vvc": Hdac(
        qp=36,
        base_codec="vvc",
        preset="faster",
        base_every=2,
        base_half=True,
        reference_qp=40,
        reference_codec="vvc",
        send_keypoints=True,
        always_fused=True,
        network="tiny",
    ),
    "dac": Dac(qp=36, network="tiny", refresh="rd", keypoint_step=256),
    "dac-enhanced": ENHANCED_DAC,
    "dac-residual": replace(ENHANCED_DAC, enhanced_as_sent=True),
    "face-vid2vid": replace(ENHANCED_FACE, network="tiny-face", checksum_interval=2, fade=0, enhanced_as_sent=True),
    "face-vid2vid-paper": FaceVid2Vid(qp=40, network="tiny-face", motion_coder="paper", refresh="rd", step=64, fade=0),
    "face-vid2vid-fade": replace(ENHANCED_FACE, network="tiny-tracked", enhanced_as_sent=True),
    "face-vid2vid-enhanced": ENHANCED_FACE,
    "mobile": replace(MOBILE, refresh="rd", refresh_price=0.1, checksum_interval=2),
    "mobile-huffman": replace(MOBILE, network="tiny-spade", motion_coder="huffman", intra_period=4),
    "mobile-prior": replace(
        MOBILE, network="tiny-sup", motion_coder="prior", refresh="rd", refresh_price=1e-6, sources=2, chosen_from="clip"
    ),
    "mobile-direct": replace(MOBILE, network="tiny-direct", refresh="rd", refresh_price=1e-6, sources=3),
    "mobile-fomm": replace(MOBILE, network="tiny-fomm", intra_period=4),
    "mobile-maps": replace(MOBILE, network="tiny-maps", refresh="rd", refresh_price=1e-6, sources=2, motion_coder="prior"),
    "mobile-learned": replace(MOBILE, network="tiny-learned", motion_coder="huffman", step=256, intra_period=4),
    "mobile-drawn": replace(MOBILE, network="tiny-drawn", refresh="rd", refresh_price=0.1),
    "mobile-codes": replace(MOBILE, network="tiny-codes", refresh="rd", refresh_price=1e-6, sources=3),
    "mobile-styles": replace(MOBILE, network="tiny-nth", motion_coder="huffman", refresh="rd", refresh_price=1e-6, sources=2),
    "mobile-texture": replace(MOBILE, network="tiny-bilayer", intra_period=4),
    "mobile-labels": replace(MOBILE, network="tiny-segface", intra_period=4, chosen_from="clip"),
    "face-vid2vid-switch": FaceVid2Vid(qp=40, network="tiny-tracked", intra_period=2, fade=4, step=128),
}


def source() -> Clip:
    """Two pictures by turns: DAC sends a second reference, and returns to the first."""
    a, b = moving_clip(3, 64, 64), moving_clip(2, 64, 64, seed=9)
    planes = [np.concatenate([getattr(clip, plane) for clip in (a, b, a)]) for plane in "yuv"]
    return Clip(*planes, a.fps)


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    os.environ["HDAC_WEIGHTS"] = str(GOLDEN)
    names = sys.argv[1:] or list(STREAMS)
    with TemporaryDirectory() as folder:
        save_tiny(Path(folder))
        used = {getattr(STREAMS[name], f"{part}network", None) for name in names for part in PARTS}
        for path in Path(folder).iterdir():
            if path.stem in used and (names == list(STREAMS) or not (GOLDEN / path.name).exists()):
                shutil.copy(path, GOLDEN)
    for name in names:
        codec = STREAMS[name]
        with pytest.MonkeyPatch.context() as monkeypatch:
            if isinstance(codec, Dac) and codec.residual:
                always_send_residuals(monkeypatch)
            stream = codec.encode(source())
        if name == "hdac":  # an encoder shows nothing of a network that was not trained
            stream = at_all_strengths(stream)
        (GOLDEN / f"{name}.hdac").write_bytes(stream)
        shown = systems.decode(stream)
        if name == "hevc-stripped":
            (GOLDEN / f"{name}.sha256").write_text(shown.sha256() + "\n")
        else:
            np.savez_compressed(GOLDEN / f"{name}.npz", y=shown.y, u=shown.u, v=shown.v)


if __name__ == "__main__":
    main()
