"""`rd-sweep`: sequences x codecs x regimes x rate points, from clips to points, tables, plots, dumps and report.

    plan      every curve (sequence, codec family, regime) and the codec of each of its candidate points
    code      encode to bytes, decode the bytes, PSNR-Y: one job per (clip, codec), done once whoever asks for it
    select    families that are a hull keep the upper convex hull of PSNR-Y over rate
    measure   all metrics of the selected points, from the stored streams decoded anew
    tell      points.csv, candidates.csv, frames.parquet, bd.csv, run.json, plots/, dumps/, report.html

Jobs run in child processes (`rd.isolate`), driven by threads of this process or by a Dask cluster through the same executor
interface. What a job made is in the cache (`rd.cache`) before the next one starts: a sweep that was killed goes on there.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import json
import os
import pickle
import shlex
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from baselines.codec import REGIMES, Family, Regime, Tunable, VideoCodec
from data.cli import run as run_command
from data.errors import HdacError, InputError
from data.files import atomic_path, write_atomic
from data.sequences import Sequence as ClipSequence
from data.sequences import resolve
from hdac.systems import FAMILIES
from rd import provenance
from rd.cache import Cache, stream_key
from rd.columns import METRICS, expand_metrics
from rd.earlier import Earlier, read_earlier
from rd.finish import finish
from rd.hull import upper_hull
from rd.isolate import close_children
from rd.jobs import CodeJob, Job, MeasureJob, load_plugin, load_scores, submit_job
from rd.metrics import version as metric_version
from rd.table import write_points, write_table

DEFAULT_METRICS = ("psnr", "ssim", "vmaf", "lpips")
DEFAULT_POINTS = 6
JOB_TIMEOUT_S = 1800.0
SCHEDULER_TIMEOUT_S = 30

_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""Errors of the file system after which no later job would fare better: the sweep stops."""


@dataclass(frozen=True)
class Settings:
    """What a sweep is to do; the command line, checked.

    out:      folder of the results.
    cache:    folder of streams and scores.
    columns:  metric columns.
    points:   rate points per setting.
    max_kbps: a setting is not taken to finer quantisers than the first one above this rate; None = no limit.
    jobs:     parallel jobs.
    scheduler: address of a Dask scheduler, or None for the local pool.
    timeout_s: time limit of one job.
    """

    out: Path
    cache: Path
    columns: tuple[str, ...]
    sequence_arguments: tuple[str, ...] = ()
    frames: int | None = None
    regimes: tuple[Regime, ...] = REGIMES
    points: int = DEFAULT_POINTS
    max_kbps: float | None = None
    jobs: int = 1
    scheduler: str | None = None
    timeout_s: float = JOB_TIMEOUT_S
    plugins: tuple[str, ...] = ()
    force: bool = False
    anchors: Path | None = None
    """Folder of an earlier sweep whose points of other codecs are taken over."""


@dataclass(frozen=True)
class Source:
    """A sequence as it will be coded."""

    sequence: ClipSequence
    n_frames: int
    width: int
    height: int
    fps: Fraction
    sha256: str


@dataclass
class Curve:
    """One curve of the results while it is being made."""

    source: Source
    family: Family
    regime: Regime
    candidates: dict[str, VideoCodec]
    """Stream key -> codec."""
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Stream key -> cache entry, of what is coded."""
    failures: dict[str, str] = field(default_factory=dict)
    """Stream key -> error, of what could not be coded."""
    unmeasured: dict[str, str] = field(default_factory=dict)
    """Stream key -> error, of what was coded and is a point of the curve, but could not be measured."""
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Stream key -> scores, of what is measured."""

    @property
    def name(self) -> tuple[str, str, str]:
        return self.source.sequence.name, self.family.name, self.regime

    def kbps(self, key: str) -> float:
        return float(8 * self.entries[key]["bytes"] * self.source.fps / self.source.n_frames / 1000)

    def in_play(self, key: str, max_kbps: float | None) -> bool:
        """Whether a candidate counts: no coarser quantiser of its setting is above `max_kbps` already.

        A curve that is not a hull has few points, and keeps them all.
        """
        codec = self.candidates[key]
        if max_kbps is None or not self.family.hull or not isinstance(codec, Tunable):
            return True
        setting = codec.with_quantiser(0)
        for other in self.entries:
            coarser = self.candidates[other]
            if isinstance(coarser, Tunable) and coarser.quantiser > codec.quantiser and self.kbps(other) > max_kbps:
                if coarser.with_quantiser(0) == setting:
                    return False
        return True

    def coded(self, max_kbps: float | None) -> bool:
        """Whether nothing is left to code."""
        done = self.entries.keys() | self.failures.keys()
        return all(key in done or not self.in_play(key, max_kbps) for key in self.candidates)

    def selected(self, max_kbps: float | None) -> list[str]:
        """Keys of the points of the curve, by rising rate."""
        keys = [key for key in self.candidates if key in self.entries and self.in_play(key, max_kbps)]
        rates = [self.kbps(key) for key in keys]
        if self.family.hull:
            order = upper_hull(rates, [self.entries[key]["psnr_y"] for key in keys])
        else:
            order = sorted(range(len(keys)), key=lambda i: rates[i])
        return [keys[i] for i in order]


# -- planning --------------------------------------------------------------------------------------------------------


def inspect(sequences: list[ClipSequence]) -> list[Source]:
    """Size, length and hash of every sequence; reads each clip once."""
    sources = []
    for sequence in tqdm(sequences, desc="reading clips", unit="clip", leave=False, disable=len(sequences) < 4):
        clip = sequence.load()
        sources.append(Source(sequence, clip.n_frames, clip.width, clip.height, clip.fps, clip.sha256()))
    return sources


def plan(sources: list[Source], families: list[Family], settings: Settings) -> list[Curve]:
    """The curves of a sweep; families that share a codec share its stream."""
    curves = []
    for source in sources:
        for regime in settings.regimes:
            for family in families:
                codecs = family.candidates(regime, settings.points)
                # coarse before fine, so that --max-kbps can stop a setting early
                codecs.sort(key=lambda codec: -codec.quantiser if isinstance(codec, Tunable) else 0)
                curves.append(Curve(source, family, regime, {stream_key(source.sha256, c): c for c in codecs}))
    return curves


def choose_families(names: list[str], families: dict[str, Family]) -> tuple[list[Family], dict[str, str]]:
    """Families by name ("all": every video codec), and why those that cannot run here cannot.

    Raises InputError for an unknown name, or for a name that was asked for and is not installed.
    """
    everything = [name for name, family in families.items() if not family.still]
    wanted = list(dict.fromkeys(n for name in names for n in (everything if name == "all" else [name])))
    unknown = [name for name in wanted if name not in families]
    if unknown:
        raise InputError(f"unknown codec {', '.join(map(repr, unknown))}; there are {', '.join(families)}")
    missing = {name: reason for name in wanted if (reason := families[name].missing())}
    if missing and "all" not in names:
        raise InputError("; ".join(f"codec {name} cannot run here: {reason}" for name, reason in missing.items()))
    return [families[name] for name in wanted if name not in missing], missing


# -- running ---------------------------------------------------------------------------------------------------------


class Runner:
    """Takes curves from planned to measured."""

    def __init__(self, curves: list[Curve], settings: Settings) -> None:
        self.curves = curves
        self.settings = settings
        self.cache = Cache(settings.cache)
        self.to_code: deque[CodeJob] = deque()
        self.to_measure: deque[MeasureJob] = deque()
        self.users: dict[str, list[Curve]] = {}
        """Stream key -> the curves that it is a candidate of."""
        self.job_seconds = 0.0
        """Seconds of encoding, decoding and scoring that this run paid for."""
        self.n_cached = 0

    def run(self) -> None:
        """Codes and measures everything; failures of single jobs are kept in their curves.

        Raises HdacError where going on makes no sense: a full or read-only disk.
        """
        self._queue_coding()
        with executor(self.settings) as (pool, width), self._progress() as bar:
            running: dict[Future[dict[str, Any]], Job] = {}
            while running or self.to_code or self.to_measure:
                while len(running) < width and (job := self._next()) is not None:
                    future = pool.submit(submit_job, pickle.dumps(job), self.settings.plugins, self.settings.timeout_s)
                    running[future] = job
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    self._finish(running.pop(future), future)
                bar.total = bar.n + len(done) + len(running) + len(self.to_code) + len(self.to_measure)
                bar.update(len(done))

    def _next(self) -> Job | None:
        """The next job; scores first: their clip is still decoded in a child, and finished curves are worth more."""
        if self.to_measure:
            return self.to_measure.popleft()
        while self.to_code:
            job = self.to_code.popleft()
            if any(curve.in_play(job.key, self.settings.max_kbps) for curve in self.users[job.key]):
                return job
        return None

    def _queue_coding(self) -> None:
        for curve in self.curves:
            for key, codec in curve.candidates.items():
                if key not in self.users:
                    entry = None if self.settings.force else self.cache.load_entry(key)
                    if entry is None:
                        self.to_code.append(CodeJob(curve.source.sequence, codec, key, self.settings.cache))
                    else:
                        self.n_cached += 1
                    self.users[key] = []
                else:
                    entry = next((c.entries[key] for c in self.users[key] if key in c.entries), None)
                self.users[key].append(curve)
                if entry is not None:
                    curve.entries[key] = entry
        for curve in self.curves:
            if curve.coded(self.settings.max_kbps):
                self._queue_measuring(curve)

    def _queue_measuring(self, curve: Curve) -> None:
        for key in curve.selected(self.settings.max_kbps):
            shared = next((other.scores[key] for other in self.users[key] if key in other.scores), None)
            job = MeasureJob(
                curve.source.sequence,
                curve.candidates[key],
                key,
                self.settings.columns,
                self.settings.cache,
                self.settings.force,
            )
            if shared is None and not self.settings.force:
                shared = load_scores(job)
            if shared is not None:
                curve.scores[key] = shared
            elif job not in self.to_measure:
                self.to_measure.append(job)

    def _finish(self, job: Job, future: Future[dict[str, Any]]) -> None:
        try:
            result = future.result()
        except OSError as error:
            if error.errno in _HOPELESS:
                raise HdacError(f"cannot go on: {error}") from error
            self._fail(job, error)
        except Exception as error:  # whatever a codec or a metric raised is that point's failure
            self._fail(job, error)
        else:
            if isinstance(job, CodeJob):
                self.job_seconds += result["job_s"]
                for curve in self.users[job.key]:
                    curve.entries[job.key] = result
                    if curve.coded(self.settings.max_kbps):
                        self._queue_measuring(curve)
            else:
                self.job_seconds += result["seconds"]
                for curve in self.users[job.key]:
                    curve.scores[job.key] = result

    def _fail(self, job: Job, error: Exception) -> None:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        for curve in self.users[job.key]:
            if isinstance(job, MeasureJob):
                curve.unmeasured[job.key] = text
                continue
            curve.failures[job.key] = text
            if curve.coded(self.settings.max_kbps):
                self._queue_measuring(curve)
        tqdm.write(f"failed: {self.users[job.key][0].candidates[job.key].label} on {job.sequence.name}: {text}", sys.stderr)

    def _progress(self) -> tqdm[Any]:
        return tqdm(
            total=len(self.to_code) + len(self.to_measure),
            desc="coding and measuring",
            unit="job",
            smoothing=0.05,
            mininterval=0.5 if sys.stderr.isatty() else 30,  # a log file gets a line now and then
        )


@contextmanager
def executor(settings: Settings) -> Iterator[tuple[Executor, int]]:
    """An executor and how many jobs to keep in it: a local pool of `jobs` workers, or a Dask cluster."""
    if settings.scheduler is None:
        pool = ThreadPoolExecutor(settings.jobs)
        try:
            yield pool, settings.jobs
        finally:
            close_children()  # ends jobs that still run where the sweep is given up
            pool.shutdown(cancel_futures=True)
        return
    try:
        import distributed
    except ImportError as error:
        raise InputError("--scheduler needs Dask: pip install 'hdac[cluster]'") from error
    try:
        client = distributed.Client(settings.scheduler, timeout=SCHEDULER_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {settings.scheduler}: {error}") from error
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise InputError(f"the Dask scheduler at {settings.scheduler} has no workers")
        yield client.get_executor(pure=False, retries=0), 2 * threads  # a second job waits at every thread


# -- results ---------------------------------------------------------------------------------------------------------


def points_table(curves: list[Curve], settings: Settings) -> pd.DataFrame:
    """One row per point of every curve, then its failures; columns as in `rd.table`."""
    rows = []
    for curve in curves:
        sequence, codec, regime = curve.name
        source = curve.source
        common = {
            "sequence": sequence,
            "codec": codec,
            "regime": regime,
            "n_frames": source.n_frames,
            "width": source.width,
            "height": source.height,
            "fps": str(source.fps),
        }
        points = curve.selected(settings.max_kbps)
        for point, key in enumerate(points):
            entry, scores = curve.entries[key], curve.scores.get(key, {"values": {}})
            layers = {f"bytes_{name}": sum(per_frame) for name, per_frame in entry["layers"].items()}
            rows.append(
                {
                    **common,
                    "point": point,
                    "setting": entry["label"],
                    "settings": entry["settings"],
                    "bytes": entry["bytes"],
                    "bytes_header": entry["header_bytes"],
                    **layers,
                    "kbps": curve.kbps(key),
                    "bpp": 8 * entry["bytes"] / (source.n_frames * source.width * source.height),
                    **scores["values"],
                    "encode_s": entry["encode_s"],
                    "decode_s": entry["decode_s"],
                    "key": key,
                    "status": "failed" if key in curve.unmeasured else "ok",
                    "error": curve.unmeasured.get(key, ""),
                }
            )
        for point, (key, error) in enumerate(curve.failures.items(), len(points)):
            failed = curve.candidates[key]
            rows.append(
                {**common, "point": point, "setting": failed.label, "settings": repr(failed), "key": key}
                | {"status": "failed", "error": error}
            )
    table = pd.DataFrame(rows)
    for column in ("bytes", "kbps", "bpp", "encode_s", "decode_s"):  # a sweep in which everything failed
        if column not in table:
            table[column] = None
    return table


def candidates_table(curves: list[Curve], settings: Settings) -> pd.DataFrame:
    """Every setting that a hull tried, with rate, PSNR-Y and whether it is a point of the curve."""
    rows = []
    for curve in curves:
        sequence, codec, regime = curve.name
        selected = set(curve.selected(settings.max_kbps))
        for key, entry in curve.entries.items():
            if not curve.in_play(key, settings.max_kbps):
                continue  # two jobs at a time may go one quantiser too far
            rows.append(
                {
                    "sequence": sequence,
                    "codec": codec,
                    "regime": regime,
                    "setting": entry["label"],
                    "bytes": entry["bytes"],
                    "kbps": round(curve.kbps(key), 4),
                    "psnr_y": round(entry["psnr_y"], 4),
                    "encode_s": round(entry["encode_s"], 3),
                    "selected": key in selected,
                }
            )
    return pd.DataFrame(rows)


def frames_table(curves: list[Curve], settings: Settings) -> pd.DataFrame:
    """One row per frame of every point: bytes, bytes per layer, per-frame scores."""
    tables = []
    for curve in curves:
        for point, key in enumerate(curve.selected(settings.max_kbps)):
            entry, scores = curve.entries[key], curve.scores.get(key, {"frames": {}})
            layers = {f"bytes_{name}": per_frame for name, per_frame in entry["layers"].items()}
            table = pd.DataFrame({"frame": range(curve.source.n_frames), **layers, **scores["frames"]})
            table.insert(1, "bytes", sum(map(pd.Series, layers.values())))
            for position, (column, value) in enumerate(zip(("sequence", "codec", "regime"), curve.name, strict=True)):
                table.insert(position, column, value)
            table.insert(3, "point", point)
            tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def run_facts(
    curves: list[Curve], settings: Settings, argv: list[str], missing_codecs: dict[str, str], at_start: dict[str, Any]
) -> dict[str, Any]:
    """The provenance of a run: what `run.json` holds. `at_start`: time, commit, versions and machine when it began."""
    computed: dict[str, None] = {}
    reasons: dict[str, str] = {}
    codecs: dict[str, dict[str, Any]] = {}
    sources: dict[str, dict[str, Any]] = {}
    for curve in curves:
        for scores in curve.scores.values():
            computed.update(dict.fromkeys(scores["values"]))
            for column, reason in scores["missing"].items():
                reasons.setdefault(column, reason)
        codec = codecs.setdefault(
            curve.family.name,
            {"title": curve.family.title, "description": curve.family.description, "commands": {}},
        )
        for entry in curve.entries.values():
            codec["commands"].setdefault(entry["label"], entry["command"])
        source = curve.source
        sources[source.sequence.name] = {
            "name": source.sequence.name,
            "source": source.sequence.source,
            "n_frames": source.n_frames,
            "width": source.width,
            "height": source.height,
            "fps": str(source.fps),
            "sha256": source.sha256,
        }
    return {
        "command": shlex.join(["rd-sweep", *argv]),
        **at_start,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "sequence_arguments": list(settings.sequence_arguments),
        "frames": settings.frames,
        "plugins": [os.path.relpath(plugin) if plugin.endswith(".py") else plugin for plugin in settings.plugins],
        "regimes": list(settings.regimes),
        "points": settings.points,
        "max_kbps": settings.max_kbps,
        "sequences": list(sources.values()),
        "codecs": codecs,
        "codecs_not_installed": missing_codecs,
        "metrics": {
            "computed": [column for column in METRICS if column in computed],
            "not_computed": {column: reasons[column] for column in METRICS if column in reasons},
            "versions": {column: metric_version(column) for column in METRICS if column in computed},
        },
    }


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """One sweep at a time on an output folder; the lock goes with the process, whatever ends it."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InputError(f"another sweep (process {file.read().strip() or '?'}) is writing to {out}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def sweep(
    sequences: list[ClipSequence], families: list[Family], settings: Settings, argv: list[str], missing: dict[str, str]
) -> list[Curve]:
    """Runs a sweep and writes its tables; plots, dumps and report are made from them afterwards."""
    begin = time.perf_counter()
    at_start = {
        "commit": provenance.commit(),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": provenance.versions(),
        "machine": provenance.machine(),
    }
    sources = inspect(sequences)
    curves = plan(sources, families, settings)
    earlier = _earlier(sources, families, settings)
    runner = Runner(curves, settings)
    runner.run()
    points, candidates = points_table(curves, settings), candidates_table(curves, settings)
    if earlier:
        points = pd.concat([earlier.points, points], ignore_index=True)
        candidates = pd.concat([earlier.candidates, candidates], ignore_index=True)
    write_points(points, settings.out / "points.csv")
    write_table(candidates, settings.out / "candidates.csv")
    with atomic_path(settings.out / "frames.parquet") as path:
        frames_table(curves, settings).to_parquet(path, index=False)
    facts = run_facts(curves, settings, argv, missing, at_start)
    if earlier:
        facts["codecs"] = {**earlier.codecs, **facts["codecs"]}
        facts["anchors"] = earlier.origin
    for reason, columns in _by_reason(facts["metrics"]["not_computed"]).items():
        print(f"not computed: {', '.join(columns)} ({reason})", file=sys.stderr)
    facts["seconds"] = {"wall": time.perf_counter() - begin, "jobs": runner.job_seconds, "cached": runner.n_cached}
    write_atomic(settings.out / "run.json", json.dumps(facts, indent=1))
    return curves


def _earlier(sources: list[Source], families: list[Family], settings: Settings) -> Earlier | None:
    if settings.anchors is None:
        return None
    clips = {source.sequence.name: source.sha256 for source in sources}
    return read_earlier(settings.anchors, clips, [family.name for family in families], settings.regimes, settings.columns)


def _by_reason(missing: dict[str, str]) -> dict[str, list[str]]:
    """Metrics that share a reason, so that it is said once."""
    reasons: dict[str, list[str]] = {}
    for column, reason in missing.items():
        reasons.setdefault(reason, []).append(column)
    return reasons


# -- command ---------------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """`rd-sweep`; exit status 1 where a job failed or the input cannot be used."""
    return run_command(lambda: _main(sys.argv[1:] if argv is None else argv))


def _main(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    families = dict(FAMILIES)
    for plugin in args.plugin:
        own = getattr(load_plugin(plugin), "FAMILIES", None)
        if not isinstance(own, dict):
            raise InputError(f"the plug-in {plugin} has no FAMILIES, a dict of name -> baselines.codec.Family")
        families.update(own)
    chosen, missing = choose_families(_names(args.codecs), families)
    for name, reason in missing.items():
        print(f"not installed: {name} ({reason})", file=sys.stderr)
    settings = Settings(
        out=args.out,
        cache=(args.cache or args.out / "cache").resolve(),  # Dask workers have a current folder of their own
        columns=tuple(expand_metrics(_names(args.metrics))),
        sequence_arguments=tuple(args.sequences),
        frames=args.frames,
        regimes=REGIMES if args.regime == "both" else (args.regime,),
        points=args.points,
        max_kbps=args.max_kbps,
        jobs=args.jobs,
        scheduler=args.scheduler,
        timeout_s=args.timeout,
        plugins=tuple(str(Path(p).resolve()) if p.endswith(".py") else p for p in args.plugin),
        force=args.force,
        anchors=args.anchors,
    )
    sequences = resolve(settings.sequence_arguments, frames=settings.frames)
    if args.dry_run:
        return _dry_run(sequences, chosen, settings)
    with lock(settings.out):
        curves = sweep(sequences, chosen, settings, argv, missing)
        finish(settings.out, args.anchor, settings.cache, dumps=not args.no_dumps, report=not args.no_report)
    failed = sum(len(curve.failures) + len(curve.unmeasured) for curve in curves)
    if failed:
        print(f"{failed} jobs failed; their rows in {settings.out / 'points.csv'} say why", file=sys.stderr)
    return 1 if failed else 0


def _names(values: list[str]) -> list[str]:
    """Names given with spaces or commas between them."""
    return [name for value in values for name in value.split(",") if name]


def _dry_run(sequences: list[ClipSequence], families: list[Family], settings: Settings) -> int:
    """Prints the matrix of jobs without doing any."""
    cache = Cache(settings.cache)
    curves = plan(inspect(sequences), families, settings)
    todo = {key for curve in curves for key in curve.candidates if cache.load_entry(key) is None}
    for curve in curves:
        sequence, codec, regime = curve.name
        source = curve.source
        print(
            f"{sequence}  {source.n_frames} frames {source.width}x{source.height} {source.fps} fps  {codec}  {regime}: "
            f"{len(curve.candidates)} candidates, {sum(key in todo for key in curve.candidates)} to code"
        )
    total = len({key for curve in curves for key in curve.candidates})
    print(f"{len(curves)} curves, {total} streams ({len(todo)} to code), metrics: {', '.join(settings.columns)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    def count(text: str) -> int:
        if not text.isdigit() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
        return int(text)

    parser = argparse.ArgumentParser(
        prog="rd-sweep",
        description="Codes sequences with codecs at several rates and leaves points, BD tables, plots, dumps and a report.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--sequences", nargs="+", required=True, metavar="S", help="set names (sample, ..), clips, or folders of clips")
    add("--codecs", nargs="+", default=["all"], metavar="C", help=f"codec names, or all: {', '.join(FAMILIES)}")
    add("--regime", choices=(*REGIMES, "both"), default="both", help="one intra picture, or one every 32 frames")
    add("--frames", type=count, metavar="N", help="code only the first N frames of each clip")
    add("--points", type=count, default=DEFAULT_POINTS, metavar="K", help="rate points per setting")
    add("--max-kbps", type=float, metavar="R", help="take no setting to finer quantisers than its first one above R kbit/s")
    add("--metrics", nargs="+", default=list(DEFAULT_METRICS), metavar="M", help="metric columns, families, or all")
    add("--anchor", metavar="C", help="anchor of the BD table (default: hevc, or else the first codec)")
    add("--anchors", type=Path, metavar="DIR", help="take other codecs' points from this earlier sweep of the same clips")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the results")
    add("--cache", type=Path, metavar="DIR", help="folder of streams and scores (default: OUT/cache)")
    add("--jobs", type=count, default=provenance.machine()["cores"], metavar="N", help="parallel jobs")
    add("--scheduler", metavar="ADDR", help="hand the jobs to the Dask cluster at this address")
    add("--timeout", type=float, default=JOB_TIMEOUT_S, metavar="S", help="time limit of one job in seconds")
    add("--plugin", action="append", default=[], metavar="P", help="module or .py file with more codecs (FAMILIES)")
    add("--dry-run", action="store_true", help="print the matrix of jobs and stop")
    add("--force", action="store_true", help="code and measure again what the cache holds")
    add("--no-dumps", action="store_true", help="leave out the picture dumps")
    add("--no-report", action="store_true", help="leave out plots, dumps and report")
    return parser


if __name__ == "__main__":
    sys.exit(main())
