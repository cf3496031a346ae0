"""Damages streams of one layered codec in every way and decodes what is left: a process of its own, whose memory is measured.

    python -m tests.hdac.faults CODEC FOLDER

Prints a report as JSON. What must not happen, an exception other than BitstreamError, a wrong frame, a hang, ends the process
with a traceback that names the damage. FOLDER takes the weights of a tiny network.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import random
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from baselines.bits import write_ue7
from data.clip import Clip
from data.errors import BitstreamError
from hdac.codecs.dac import Dac
from hdac.codecs.face_vid2vid import FaceVid2Vid
from hdac.codecs.hdac import Hdac
from hdac.codecs.layered import LayeredCodec
from hdac.codecs.mobile import Mobile
from hdac.codecs.stripped import HevcStripped
from hdac.container import Reader
from hdac.decoder import decode, decode_tolerant
from tests.clips import moving_clip
from tests.hdac.streams import rewritten, units_of

if TYPE_CHECKING:
    from torch import Tensor

    from hdac.nets.hybrid import HybridNet

N_FRAMES = 6
SIDE = 64
INTERVAL = 2
"""Frames between two checksums, in the streams that have any."""
N_CORRUPTIONS = 170
"""With checksums, and as many without."""
LONGEST_S = 20.0
"""Of processor time, for one stream of six frames of 64x64: more is a hang."""

MOBILE = Mobile(
    qp=44, network="tiny-learned", landmark_network="tiny-landmarks", segmentation_network="tiny-segmentation"
)
CODECS: dict[str, LayeredCodec] = {
    "hevc-stripped": HevcStripped(qp=36, preset="ultrafast", i_offset=12, lean=True, intra_period=4),
    "hdac": Hdac(qp=44, preset="ultrafast", i_offset=12, lean=True, network="tiny", send_keypoints=True, always_fused=True),
    "hdac-paper": replace(Hdac.paper(40, intra_period=4), preset="ultrafast", network="tiny"),
    "hdac-vvc": Hdac(
        qp=44, base_codec="vvc", preset="faster", network="tiny", base_every=2, send_keypoints=True, always_fused=True
    ),
    "hdac-half": Hdac(
        qp=38, preset="ultrafast", network="tiny", base_half=True, base_every=3, reference_qp=44, reference_codec="vvc"
    ),
    "dac": Dac(qp=40, network="tiny", refresh="rd", intra_period=4),
    "face-vid2vid": FaceVid2Vid(
        qp=36, network="tiny-tracked", residual="period", intra_period=3, residual_network="tiny-residual"
    ),
    "face-vid2vid-paper": FaceVid2Vid(qp=44, network="tiny-face", motion_coder="paper", intra_period=4),
    "mobile": replace(MOBILE, network="tiny-frontal", refresh="psnr", threshold_db=99.0, sources=2),
    "mobile-huffman": replace(MOBILE, network="tiny-spade", motion_coder="huffman", intra_period=4),
    "mobile-prior": replace(MOBILE, network="tiny-fomm", motion_coder="prior"),
    "mobile-labels": replace(MOBILE, network="tiny-segface", intra_period=4, chosen_from="clip"),
    "mobile-chosen": replace(
        MOBILE, network="tiny-frontal", motion_coder="prior", refresh="psnr", threshold_db=99.0, sources=2, chosen_from="clip"
    ),
}


def truncated(stream: bytes) -> Iterator[tuple[str, bytes]]:
    """The stream cut at every point."""
    for size in range(len(stream)):
        yield f"the first {size} of {len(stream)} bytes", stream[:size]


def corrupted(stream: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    """The stream with random damage; every third one has it in its header or in the first bytes of its intra picture."""
    rng = random.Random(seed)
    for i in range(N_CORRUPTIONS):
        data = stream
        while data == stream:
            kind = rng.choice((_flip_bits, _change_bytes, _insert, _delete, _swap))
            data = kind(stream, rng, 48 if i % 3 == 0 else len(stream))
        yield f"{kind.__name__[1:]}, number {i} of seed {seed}", data


def _flip_bits(stream: bytes, rng: random.Random, end: int) -> bytes:
    data = bytearray(stream)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        data[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(data)


def _change_bytes(stream: bytes, rng: random.Random, end: int) -> bytes:
    data = bytearray(stream)
    for _ in range(rng.choice((1, 1, 3))):
        data[rng.randrange(end)] = rng.choice((0x00, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(data)


def _insert(stream: bytes, rng: random.Random, end: int) -> bytes:
    at = rng.randrange(end + 1)
    return stream[:at] + rng.randbytes(rng.choice((1, 2, 40))) + stream[at:]


def _delete(stream: bytes, rng: random.Random, end: int) -> bytes:
    at = rng.randrange(end)
    return stream[:at] + stream[at + rng.choice((1, 2, 40)) :]


def _swap(stream: bytes, rng: random.Random, end: int) -> bytes:
    """Two spans change places."""
    a, b, c, d = sorted(rng.randrange(end + 1) for _ in range(4))
    return stream[:a] + stream[c:d] + stream[b:c] + stream[a:b] + stream[d:]


def oversized(stream: bytes, codec: LayeredCodec) -> Iterator[tuple[str, bytes]]:
    """The stream with pictures in its layers that are much larger than its header says."""
    small, large = (b"".join(map(write_ue7, (side, side))) for side in (SIDE, 8192))
    units = units_of(stream)
    if units[0].base is not None:
        others = units_of(codec.encode(moving_clip(len(units), 320, 320)))
        mixed = [replace(unit, base=other.base, plain=other.plain) for unit, other in zip(units, others, strict=True)]
        yield "a base layer of 320x320", rewritten(stream, mixed)
    if units[0].reference is not None:
        # libav gives a picture also where nearly all of it is missing
        mixed = [replace(unit, reference=unit.reference and unit.reference.replace(small, large, 1)) for unit in units]
        yield "a reference of 8192x8192", rewritten(stream, mixed)


class _Guard:
    """Says which damage it was when something goes wrong, and ends the process where it hangs, in C code too."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, LONGEST_S)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        if kind is not None:
            print(f"damage: {self.what}", file=sys.stderr)


def check_strict(what: str, data: bytes) -> bool:
    """Whether the damage was noticed; a clip that is shown all the same has the size that the header says."""
    with _Guard(what):
        try:
            shown = decode(data)
        except BitstreamError:
            return True
        said = Reader(io.BytesIO(data)).header.stream
        assert shown.y.shape == (said.n_frames, said.height, said.width) and shown.fps == said.fps
        return False


def check_tolerant(what: str, data: bytes, whole: Clip) -> int:
    """How many frames are shown: none but those in front of a checksum that was right, as they are without the damage."""
    with _Guard(what):
        try:
            shown, error = decode_tolerant(io.BytesIO(data))
        except BitstreamError:
            return 0
        n = shown.n_frames
        assert isinstance(error, BitstreamError), "the damage was not noticed"
        # all of them, where the damage is bytes behind the last one
        assert n <= N_FRAMES and n % INTERVAL == 0 and shown.fps == whole.fps and shown.colour == whole.colour
        for plane in "yuv":
            assert np.array_equal(getattr(shown, plane), getattr(whole, plane)[:n]), f"{n} frames are shown, not the true ones"
        return n


def report(codec: LayeredCodec) -> dict[str, Any]:
    """Decodes everything; returns numbers for the test to judge."""
    clip = moving_clip(N_FRAMES, SIDE, SIDE)
    plain = replace(codec, checksum_interval=0).encode(clip)  # type: ignore[call-arg]
    checked = replace(codec, checksum_interval=INTERVAL).encode(clip)  # type: ignore[call-arg]
    whole = decode(checked)
    return {
        "sizes": [len(plain), len(checked)],
        "cuts_noticed": sum(check_strict(*case) for case in truncated(plain)),
        "cuts_shown": [check_tolerant(*case, whole) for case in truncated(checked)],
        "corruptions_noticed": sum(check_strict(*case) for case in corrupted(plain, seed=1)),
        "corruptions_shown": [check_tolerant(*case, whole) for case in corrupted(checked, seed=2)],
        "oversized_noticed": [check_strict(*case) for case in oversized(checked, codec)],
        "peak_bytes": peak_bytes(),
    }


def peak_bytes() -> int:
    """Most memory that this process has had. Linux hands `ru_maxrss` down from a large parent, hence its own figure there."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _remembered(folded: Callable[[HybridNet, Tensor], HybridNet]) -> Callable[[HybridNet, Tensor], HybridNet]:
    known: dict[tuple[float, ...], HybridNet] = {}

    def remembered(net: HybridNet, condition: Tensor) -> HybridNet:
        key = tuple(condition[0].tolist())
        if key not in known:
            known[key] = folded(net, condition)
        return known[key]

    return remembered


def main() -> None:
    name, folder = sys.argv[1:]
    faulthandler.enable()
    faulthandler.register(signal.SIGPROF, chain=True)  # the next handler, the system's own, ends the process
    if name != "hevc-stripped":  # which gets by without PyTorch
        import torch

        from hdac.codecs import animator, dac, face_animator, face_vid2vid, hdac
        from hdac.nets import hybrid
        from tests.hdac.nets import save_tiny

        torch.set_num_threads(1)
        # what a thousand decoders would do again and again: a sixteenth of the work, and folding a network
        hybrid.MOTION_SIDE = 16
        animator.folded = face_animator.folded = _remembered(animator.folded)  # type: ignore[assignment]
        if name in ("hdac-paper", "hdac-vvc", "dac", "face-vid2vid"):  # as on two cores: units are read ahead
            dac.at_once = hdac.at_once = face_vid2vid.at_once = lambda: 2
        os.environ["HDAC_WEIGHTS"] = folder
        save_tiny(Path(folder))
    print(json.dumps(report(CODECS[name])))


if __name__ == "__main__":
    main()
