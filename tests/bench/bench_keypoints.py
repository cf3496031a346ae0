"""Rate of the motion stream on real tracks, beside the entropy of the same residuals and the two published coders.

Run by `python -m tests.bench.bench_keypoints [--clips FOLDER [--only NAME ..]] [--out FILE]`.
Tracks of ten points: in clips, corners followed by optical flow and anchored to the first frame; without clips, the true
motion of facial points in our own sample. They stand for the keypoints of a detector, which are less smooth: so all is
measured a second time with Gaussian jitter of 0.4 pixels on every coordinate.

ours            bytes of `KeypointEncoder`, decoded again by a fresh decoder; every frame but the first, which is the reference
entropy         of the residuals to the last frame, order 0 over all coordinates of the clip: what an adaptive coder without
                contexts would reach if the histogram were known beforehand and frames had no ends; a bound, no coder
hdac-2022       Goluck-Konuko/hdac, modules/utils/bitstream.py: residuals zig-zag mapped, exp-Golomb bins of order 0 behind a
                leading 1, arithmetic coder with a PPM model of order 0 over {0, 1, escape} that starts afresh in each frame
hdac-2024       Goluck-Konuko/animation-based-codecs, utilities/entropy_coders/kp_entropy_coder.py: residuals cast to int8
                (they wrap: counted as `wrapped`), PPM of order 0 over 256 bytes and escape, whose counts persist

Sizes of the published coders are estimates: the ideal code length of their adaptive model, end-of-frame symbol included
(an escape, then a symbol of a flat model; the escape's count stays 1), rounded up to bytes, because every frame is a file.
Their coder's real output is within a bit of that before the rounding: it ends by one bit, with a register half full.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data.cli import run
from data.clip import Clip
from data.errors import InputError
from data.files import write_atomic
from data.io import VIDEO_SUFFIXES, read_clip
from data.sample import POINTS, make_sample
from hdac.keypoints import STEPS, KeypointDecoder, KeypointEncoder, KeypointSettings, Symbols

N_POINTS = 10
JITTERS_PX = (0.0, 0.4)
CODERS = ("ours", "entropy", "hdac-2022", "hdac-2024")
SAMPLES = ("talk-still", "talk-motion", "noise-background")  # scenarios of one shot
SAMPLE_POINTS = (
    "left brow middle", "right brow middle", "left eye outer", "right eye outer", "nose tip",
    "mouth left", "mouth right", "lower lip bottom", "chin", "left jaw",
)  # fmt: skip


@dataclass(frozen=True)
class Track:
    name: str
    fps: Fraction
    keypoints: NDArray[np.float64]
    """(T, K, 2), (x, y) in [-1, 1]."""
    width: int
    """Of the pictures, px."""

    def jittered(self, jitter_px: float) -> Track:
        noise = np.random.default_rng(0).normal(0, jitter_px * 2 / (self.width - 1), self.keypoints.shape)
        return replace(self, keypoints=self.keypoints + noise)


@dataclass(frozen=True)
class Row:
    """What a track costs at a step. The reference frame is neither coded nor counted."""

    clip: str
    fps: float
    frames: int
    jitter_px: float
    step: int
    bits_per_coordinate: dict[str, float]
    kbps: dict[str, float]
    largest_frame_bytes: int
    """Of ours."""
    wrapped: int
    """Residuals outside of int8."""
    ms_per_frame: float
    """Our encoder and decoder together."""


# -- tracks ------------------------------------------------------------------------------------------------------------


def normalised(points_px: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """Pixels to [-1, 1], whose ends are the centres of the corner pixels."""
    size = np.array([width - 1, height - 1])
    return np.clip(points_px, 0, size) * 2 / size - 1


def sample_tracks() -> Iterator[Track]:
    chosen = [list(POINTS).index(name) for name in SAMPLE_POINTS]
    for name in SAMPLES:
        sample = make_sample(name)
        points = sample.truth.points[:, chosen]
        yield Track(name, sample.clip.fps, normalised(points, sample.clip.width, sample.clip.height), sample.clip.width)


def flow_track(clip: Clip) -> Track:
    """Corners of the first frame's middle, followed from frame to frame and then pulled onto their first look."""
    y, (height, width) = clip.y, clip.y.shape[1:]
    middle = np.zeros((height, width), np.uint8)
    middle[height // 8 : height * 7 // 8, width // 5 : width * 4 // 5] = 255
    first = cv2.goodFeaturesToTrack(y[0], N_POINTS, 0.01, height / 16, mask=middle)
    if first is None or len(first) < N_POINTS:
        raise InputError(f"{clip.name}: the first frame has fewer than {N_POINTS} corners to follow")
    window, last, points = (21, 21), first, [first[:, 0]]
    for t in range(1, len(y)):
        moved, _, _ = cv2.calcOpticalFlowPyrLK(y[t - 1], y[t], last, last.copy(), winSize=window, maxLevel=3)
        anchored, found, _ = cv2.calcOpticalFlowPyrLK(
            y[0], y[t], first, moved.copy(), winSize=window, maxLevel=0, flags=cv2.OPTFLOW_USE_INITIAL_FLOW
        )
        close = (np.abs(anchored - moved).max(axis=2) < 3) & (found == 1)
        last = np.clip(np.where(close[..., None], anchored, moved), 0, [width - 1, height - 1]).astype(np.float32)
        points.append(last[:, 0])
    track = np.stack(points).astype(np.float64)
    track[1:-1] = (track[:-2] + 2 * track[1:-1] + track[2:]) / 4
    return Track(clip.name, clip.fps, normalised(track, width, height), width)


def clip_tracks(folder: Path, only: list[str] | None) -> Iterator[Track]:
    paths = sorted(path for path in folder.iterdir() if path.suffix in VIDEO_SUFFIXES)
    missing = set(only or ()) - {path.stem for path in paths}
    if missing:
        raise InputError(f"{folder}: no clip {', '.join(sorted(missing))}")
    for path in paths:
        if only is None or path.stem in only:
            yield flow_track(read_clip(path))


# -- coders: bits of each frame ----------------------------------------------------------------------------------------


def our_bits(of: KeypointSettings, symbols: list[Symbols]) -> list[int]:
    encoder, decoder = KeypointEncoder(of), KeypointDecoder(of)
    encoder.start(symbols[0])
    decoder.start(symbols[0])
    sizes = []
    for frame in symbols[1:]:
        data = encoder.encode(frame)
        assert np.array_equal(decoder.decode(data), frame)
        sizes.append(8 * len(data))
    return sizes


def order0_entropy(residuals: NDArray[np.int32]) -> float:
    """Bits per residual."""
    share = np.unique(residuals, return_counts=True)[1] / residuals.size
    return float(-(share * np.log2(share)).sum())


class PpmOrder0:
    """Adaptive model of order 0 with an escape to a flat one; adds up ideal code lengths."""

    def __init__(self, n_symbols: int) -> None:
        self.n_symbols = n_symbols  # the escape among them, which ends a frame in the flat model
        self.counts: Counter[int] = Counter()
        self.total = 1  # the escape has a count of 1 for ever

    def frame_bits(self, symbols: Iterable[int]) -> int:
        bits = 0.0
        for symbol in symbols:
            seen = self.counts[symbol]
            bits += math.log2(self.total / seen) if seen else math.log2(self.total) + math.log2(self.n_symbols)
            self.counts[symbol] += 1
            self.total += 1
        bits += math.log2(self.total) + math.log2(self.n_symbols)  # end of frame
        return 8 * math.ceil(bits / 8)


def exp_golomb_bins(residuals: Iterable[int]) -> Iterator[int]:
    yield 1
    for r in residuals:
        number = (-2 * r if r <= 0 else 2 * r - 1) + 1
        yield from (int(digit) for digit in f"{number:0{2 * number.bit_length() - 1}b}")


def bits_2022(residuals: NDArray[np.int32]) -> list[int]:
    return [PpmOrder0(3).frame_bits(exp_golomb_bins(frame.ravel().tolist())) for frame in residuals]


def bits_2024(residuals: NDArray[np.int32]) -> list[int]:
    model = PpmOrder0(257)
    return [model.frame_bits((frame.ravel() & 0xFF).tolist()) for frame in residuals]


# -- measuring ---------------------------------------------------------------------------------------------------------


def measure(track: Track, jitter_px: float, step: int) -> Row:
    of = KeypointSettings(n_keypoints=N_POINTS, step=step)
    symbols = [of.quantise(frame) for frame in track.jittered(jitter_px).keypoints]
    residuals = -np.diff(np.stack(symbols), axis=0)  # last minus this, as the published coders have it
    start = time.perf_counter()
    ours = our_bits(of, symbols)
    seconds = time.perf_counter() - start
    totals = (sum(ours), order0_entropy(residuals) * residuals.size, sum(bits_2022(residuals)), sum(bits_2024(residuals)))
    bits = dict(zip(CODERS, totals, strict=True))
    n_frames, fps = len(residuals), float(track.fps)
    return Row(
        clip=track.name,
        fps=fps,
        frames=n_frames,
        jitter_px=jitter_px,
        step=step,
        bits_per_coordinate={name: round(bits[name] / residuals.size, 4) for name in CODERS},
        kbps={name: round(bits[name] * fps / n_frames / 1000, 4) for name in CODERS},
        largest_frame_bytes=max(ours) // 8,
        wrapped=int(np.count_nonzero((residuals < -128) | (residuals > 127))),
        ms_per_frame=round(1000 * seconds / n_frames, 3),
    )


def mean_over_clips(rows: list[Row]) -> list[dict[str, object]]:
    means: list[dict[str, object]] = []
    for jitter_px in JITTERS_PX:
        for step in STEPS:
            same = [row for row in rows if (row.jitter_px, row.step) == (jitter_px, step)]
            bits = {name: round(float(np.mean([row.bits_per_coordinate[name] for row in same])), 4) for name in CODERS}
            kbps = {name: round(float(np.mean([row.kbps[name] for row in same])), 4) for name in CODERS}
            means.append({"jitter_px": jitter_px, "step": step, "bits_per_coordinate": bits, "kbps": kbps})
            print(f"jitter {jitter_px} px, step 1/{step:<3}", *(f"  {n} {bits[n]:.3f} ({kbps[n]:.2f} kbit/s)" for n in CODERS))
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, help="folder of clips (default: the sample's true motion)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the folder, just these clips (without suffix)")
    parser.add_argument("--out", type=Path, help="write the result to this JSON file, too")
    args = parser.parse_args()

    cv2.setNumThreads(1)
    tracks = list(clip_tracks(args.clips, args.only) if args.clips else sample_tracks())
    rows = [measure(track, jitter_px, step) for jitter_px in JITTERS_PX for step in STEPS for track in tracks]
    means = mean_over_clips(rows)
    if args.out:
        words = ["python -m tests.bench.bench_keypoints"]
        words += ["--clips <folder>"] if args.clips else []
        words += ["--only", *args.only] if args.only else []
        result = {
            "command": " ".join(words),
            "tracks": "optical flow in clips" if args.clips else "true motion of the sample",
            "points": N_POINTS,
            "coders": {
                "ours": "coded bytes, checked by decoding",
                "entropy": "order 0 of the residuals over the clip; a bound, no coder",
                "hdac-2022": "estimated from the ideal code lengths of its adaptive model, rounded up to bytes per frame",
                "hdac-2024": "likewise; `wrapped` of its residuals do not fit int8 and come back wrong",
            },
            "mean_over_clips": means,
            "rows": [asdict(row) for row in rows],
            "versions": {"numpy": np.__version__, "opencv": cv2.__version__},
        }
        write_atomic(args.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(run(main))
