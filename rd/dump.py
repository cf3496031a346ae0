"""`rd-dump`: what the codecs look like at one rate, from the streams of a sweep.

Every codec is brought to within 5 % of a target rate: by one of the streams that the sweep coded, or by an extra encode at
another quantiser (and, where that is too coarse a step, another intra offset). A sequence then gets a lossless PNG strip of
chosen frames (the middle one, the worst one, the ones around an intra refresh) with error maps, and a side-by-side video.
Codecs that show a face from elsewhere (face-vid2vid) get the same frames from VIEWS, too.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from baselines.codec import SHORT_GOP, Family, Regime, Tunable, VideoCodec
from data.cli import run as run_command
from data.clip import Clip
from data.errors import HdacError, InputError
from data.files import write_atomic
from data.sequences import Sequence as ClipSequence
from data.sequences import resolve
from hdac.codecs.view import View, Viewable
from hdac.systems import FAMILIES
from rd.cache import Cache, stream_key
from rd.dump_layout import grid, side_by_side, strip, write_png, write_video
from rd.isolate import close_children
from rd.jobs import CodeJob, load_plugin, submit_job
from rd.metrics.fidelity import measure
from rd.provenance import machine
from rd.table import file_stem, read_points, scored

TOLERANCE = 0.05
"""Largest relative distance from the target rate that counts as equal rate."""
LEAST_KBPS = 5.0  # chosen: below, several codecs have hardly a picture to show
MAX_ENCODES = 6
LOG_RATE_PER_STEP = 0.12  # one QP is about 12 % of rate
RECODE_TIMEOUT_S = 1800.0
VIEWS = {
    "20 deg right": View((-20.0, 0.0, 0.0)),
    "10 deg right": View((-10.0, 0.0, 0.0)),
    "10 deg left": View((10.0, 0.0, 0.0)),
    "20 deg left": View((20.0, 0.0, 0.0)),
    "12 deg up": View((0.0, 12.0, 0.0)),
    "12 deg down": View((0.0, -12.0, 0.0)),
}
"""Where a face is turned, from its own head pose, as the picture shows it."""


@dataclass(frozen=True)
class Match:
    """A codec's stream near the target rate."""

    family: Family
    codec: VideoCodec
    entry: dict[str, Any]
    """Its entry in the cache."""
    kbps: float

    @property
    def label(self) -> str:
        return f"{self.family.name}\n{self.kbps:.2f} kbps\n{self.entry['psnr_y']:.2f} dB PSNR-Y\n{self.entry['label']}"


def write_dumps(
    out: Path,
    cache: Path,
    sequences: Sequence[str] | None = None,
    regimes: Sequence[str] | None = None,
    codecs: Sequence[str] | None = None,
    kbps: float | None = None,
    video: bool = True,
    plugins: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Makes the dumps of a sweep's sequences and `out/dumps/index.json`; returns its entries.

    sequences, regimes, codecs: which; all of the sweep's by default.
    kbps: target rate; by default, per sequence and regime, the lowest rate that all codecs reach, but at least 5.
    Raises InputError for a name that is not in the sweep.
    """
    points = scored(read_points(out))
    facts = json.loads((out / "run.json").read_text())
    families = dict(FAMILIES)
    plugins = plugins or facts["plugins"]
    for plugin in plugins:
        families.update(load_plugin(plugin).FAMILIES)
    for column, wanted in (("sequence", sequences), ("regime", regimes), ("codec", codecs)):
        for name in wanted or ():
            if name not in set(points[column]):
                there = ", ".join(dict.fromkeys(points[column]))
                raise InputError(f"the sweep in {out} has no {column} {name!r}; there are {there}")
        if wanted:
            points = points[points[column].isin(wanted)]
    by_name = {s.name: s for s in resolve(facts["sequence_arguments"], frames=facts["frames"])}
    index = []
    with _workers() as workers:
        for (name, regime), rows in points.groupby(["sequence", "regime"], sort=False):
            if name not in by_name:
                raise InputError(f"sequence {name} of the sweep is not found any more")
            sequence = by_name[name]
            source = sequence.load()
            target = kbps or common_rate(rows)
            matched = partial(
                _match,
                regime=regime,
                sequence=sequence,
                source=source,
                target=target,
                points=facts["points"],
                cache=Cache(cache),
                plugins=plugins,
            )
            chosen = [families[codec] for codec in dict.fromkeys(rows["codec"])]
            matches = list(workers.map(matched, chosen))
            streams = [Cache(cache).load_stream(match.entry["key"]) for match in matches]
            decoded = [match.codec.decode(stream) for match, stream in zip(matches, streams, strict=True)]
            entry = _write_dump(out / "dumps", name, regime, source, target, matches, decoded, video)
            stem = f"{file_stem(name)}.{regime}"
            for match, stream, own in zip(matches, streams, decoded, strict=True):
                if isinstance(match.codec, Viewable):
                    path = out / "dumps" / f"{stem}.{file_stem(match.family.name)}.views.png"
                    write_png(_views(match, match.codec, stream, own, entry["frames"]), path)
                    entry["views"].append(path.name)
            index.append(entry)
            write_atomic(out / "dumps" / "index.json", json.dumps(index, indent=1))
    return index


_given_up = threading.Event()


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """A thread per core, each with a child process of its own for what is coded anew."""
    _given_up.clear()
    try:
        with ThreadPoolExecutor(int(machine()["cores"])) as workers:
            try:
                yield workers
            finally:
                _given_up.set()  # whoever still searches codes nothing more
                close_children()
    finally:
        close_children()  # of who was on the point of it


def common_rate(rows: pd.DataFrame) -> float:
    """The lowest rate in kbit/s that every codec reaches, at least LEAST_KBPS; `rows`: one sequence in one regime."""
    return max(LEAST_KBPS, float(rows.groupby("codec")["kbps"].min().max()))


def choose_frames(psnr: NDArray[np.float64], regime: str) -> list[int]:
    """Numbers of the frames to show: the middle one, the worst one, and in a short GOP those around the first refresh.

    psnr: float64 (codecs, T), PSNR-Y per frame; the worst frame has the lowest mean over the codecs.
    """
    n_frames = psnr.shape[1]
    chosen = {n_frames // 2, int(psnr.mean(axis=0).argmin())}
    if regime == "short-gop" and n_frames > SHORT_GOP:
        chosen |= {SHORT_GOP - 1, SHORT_GOP}
    return sorted(chosen)


# -- matching the rate ----------------------------------------------------------------------------------------------


def _match(
    family: Family,
    regime: Regime,
    sequence: ClipSequence,
    source: Clip,
    target: float,
    points: int,
    cache: Cache,
    plugins: Sequence[str],
) -> Match:
    """The family's best stream (PSNR-Y) within TOLERANCE of the target rate, or else its closest."""
    sha256 = source.sha256()
    seen: dict[VideoCodec, Match] = {}

    def remember(codec: VideoCodec, entry: dict[str, Any]) -> float:
        kbps = float(8 * entry["bytes"] / source.seconds / 1000)
        seen[codec] = Match(family, codec, entry, kbps)
        return kbps

    def rate(codec: VideoCodec) -> float:
        key = stream_key(sha256, codec)
        entry = cache.load_entry(key)
        if entry is None:
            if _given_up.is_set():
                raise CancelledError
            job = CodeJob(sequence, codec, key, cache.root)
            entry = submit_job(pickle.dumps(job), tuple(plugins), RECODE_TIMEOUT_S)
        return remember(codec, entry)

    for codec in family.candidates(regime, points):
        entry = cache.load_entry(stream_key(sha256, codec))
        if entry is not None:
            remember(codec, entry)
    if not seen:
        raise InputError(f"the cache {cache.root} holds no stream of {family.name} for {sequence.name}")
    if not any(_equal(match.kbps, target) for match in seen.values()):
        try:
            nearest = min(seen, key=lambda codec: _distance(seen[codec].kbps, target))
            _search(nearest, rate, target, free_offset=family.hull)
        except (OSError, CancelledError):
            raise
        except Exception as error:  # whatever a codec raised, there is a stream to show
            if _given_up.is_set():
                raise
            print(f"failed: {family.name} on {sequence.name} near {target:.2f} kbps: {error}", file=sys.stderr)
    near = [match for match in seen.values() if _equal(match.kbps, target)]
    near = near or [min(seen.values(), key=lambda match: _distance(match.kbps, target))]
    return max(near, key=lambda match: float(match.entry["psnr_y"]))


def _search(codec: VideoCodec, rate: Callable[[VideoCodec], float], target: float, free_offset: bool) -> None:
    """Walks along the codec's curve to the target rate, with few encodes; `rate` codes, and remembers what it coded.

    free_offset: the family leaves the intra offset free, so that it may serve as a finer step.
    """
    if not isinstance(codec, Tunable):
        return
    quantiser, kbps = codec.quantiser, rate(codec)
    tried = {quantiser: kbps}
    while len(tried) < MAX_ENCODES and not _equal(kbps, target):
        # closer by the usual slope, and at least one step towards the target
        step = round(math.log(kbps / target) / LOG_RATE_PER_STEP) or (1 if kbps > target else -1)
        step = _within_the_standard(codec, quantiser, step)
        if not step or quantiser + step in tried:
            break
        quantiser += step
        kbps = tried[quantiser] = rate(codec.with_quantiser(quantiser))
    best = min(tried, key=lambda q: _distance(tried[q], target))
    if _equal(tried[best], target) or not free_offset or getattr(codec, "i_offset", None) is None:
        return
    for change in (1, -1, 2, -2, 3, -3):  # finer than a quantiser step: intra pictures a little better or worse
        nearby: Any = replace(codec.with_quantiser(best), i_offset=codec.i_offset + change)  # type: ignore[type-var,attr-defined]
        if _equal(rate(nearby), target):
            return


def _within_the_standard(codec: Tunable, quantiser: int, step: int) -> int:
    """The step, halved until the standard has the quantiser that it leads to; 0 where it has none."""
    while step:
        try:
            codec.with_quantiser(quantiser + step)
            break
        except InputError:
            step = int(step / 2)
    return step


def _equal(kbps: float, target: float) -> bool:
    return abs(kbps / target - 1) <= TOLERANCE


def _distance(kbps: float, target: float) -> float:
    return abs(math.log(kbps / target))


# -- pictures -------------------------------------------------------------------------------------------------------


def _write_dump(
    folder: Path,
    name: str,
    regime: str,
    source: Clip,
    target: float,
    matches: list[Match],
    decoded: list[Clip],
    video: bool,
) -> dict[str, Any]:
    """Writes strip and video of one sequence in one regime; returns its entry of the index."""
    psnr = np.stack([_frames_of(measure(source, clip, ["psnr_y"])["psnr_y"]) for clip in decoded])
    numbers = choose_frames(psnr, regime)
    stem = file_stem(name)
    picture = strip(
        [(match.label, _pick(clip, numbers)) for match, clip in zip(matches, decoded, strict=True)],
        _pick(source, numbers),
        numbers,
    )
    write_png(picture, folder / f"{stem}.{regime}.png")
    entry: dict[str, Any] = {
        "sequence": name,
        "regime": regime,
        "target_kbps": round(target, 3),
        "strip": f"{stem}.{regime}.png",
        "video": None,
        "views": [],
        "frames": numbers,
        "codecs": [
            {
                "codec": match.family.name,
                "kbps": round(match.kbps, 3),
                "within_5_percent": _equal(match.kbps, target),
                "setting": match.entry["label"],
                "psnr_y": round(match.entry["psnr_y"], 3),
            }
            for match in matches
        ],
    }
    if video:
        labelled = [("source", source)]
        labelled += [(f"{m.family.name}\n{m.kbps:.2f} kbps", clip) for m, clip in zip(matches, decoded, strict=True)]
        write_video(side_by_side(labelled), source.fps, folder / f"{stem}.{regime}.mp4")
        entry["video"] = f"{stem}.{regime}.mp4"
    return entry


def _views(match: Match, codec: Viewable, stream: bytes, own: Clip, numbers: list[int]) -> NDArray[np.uint8]:
    """Frames of a stream as they are, and from elsewhere."""
    columns = [(f"{match.family.name}\n{match.kbps:.2f} kbps", _pick(own, numbers))]
    for label, view in VIEWS.items():
        columns.append((label, codec.decode_view(stream, view, numbers).rgb()))
    return grid(columns, numbers)


def _frames_of(score: Any) -> NDArray[np.float64]:
    if isinstance(score, Exception):
        raise HdacError(str(score))
    frames: NDArray[np.float64] = score.frames
    return frames


def _pick(clip: Clip, numbers: list[int]) -> NDArray[np.uint8]:
    part = replace(clip, y=clip.y[numbers], u=clip.u[numbers], v=clip.v[numbers])
    return part.rgb()


# -- command ---------------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """`rd-dump`."""
    parser = argparse.ArgumentParser(
        prog="rd-dump",
        description="Side-by-side pictures and videos of a sweep at matched rate, into DIR/dumps.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="DIR", help="output folder of a sweep")
    parser.add_argument("--cache", type=Path, help="the sweep's cache (default: DIR/cache)")
    parser.add_argument("--sequences", nargs="+", metavar="S", help="default: all")
    parser.add_argument("--regime", nargs="+", metavar="R", help="default: all")
    parser.add_argument("--codecs", nargs="+", metavar="C", help="default: all")
    parser.add_argument("--kbps", type=float, metavar="R", help="target rate (default: lowest that all codecs reach)")
    parser.add_argument("--no-video", action="store_true", help="only the picture strips")
    args = parser.parse_args(argv)
    return run_command(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    index = write_dumps(
        args.out,
        args.cache or args.out / "cache",
        args.sequences,
        args.regime,
        args.codecs,
        args.kbps,
        video=not args.no_video,
    )
    print(f"{len(index)} dumps written to {args.out / 'dumps'}")


if __name__ == "__main__":
    sys.exit(main())
