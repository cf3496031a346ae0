"""The two kinds of work of a sweep, as functions that run in a child process (`rd.isolate`).

    CodeJob      encode a clip, decode the bytes, PSNR-Y           -> the stream and what is known about it, in the cache
    MeasureJob   decode a stored stream anew, score it             -> scores, in the cache

What took SLOW_DECODE_S or longer to decode is not decoded anew: the frames that its CodeJob got from the bytes are kept.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pickle
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from baselines.codec import VideoCodec
from data.clip import Clip
from data.errors import ExternalCodecError, HdacError, InputError
from rd.cache import Cache, scores_key
from rd.columns import METRICS
from rd.isolate import run_isolated

if TYPE_CHECKING:
    from data.sequences import Sequence as ClipSequence


SLOW_DECODE_S = 2.0


@dataclass(frozen=True)
class CodeJob:
    """Encode a clip, decode the bytes, store stream and facts under `key`."""

    sequence: ClipSequence
    codec: VideoCodec
    key: str
    cache: Path

    def run(self) -> dict[str, Any]:
        """The stream's cache entry. Raises what the codec raises, and ExternalCodecError for frames that do not match
        the source in number, size or rate."""
        from rd.metrics.fidelity import measure as fidelity

        clip = _load(self.sequence)
        started = time.perf_counter()
        stream = self.codec.encode(clip)
        encoded = time.perf_counter()
        decoded = self.codec.decode(stream)
        finished = time.perf_counter()
        if decoded.y.shape != clip.y.shape or decoded.fps != clip.fps:
            raise ExternalCodecError(
                [self.codec.label],
                0,
                f"{clip.n_frames} frames of {clip.width}x{clip.height} at {clip.fps} fps went in, "
                f"{decoded.n_frames} of {decoded.width}x{decoded.height} at {decoded.fps} fps came out",
            )
        ledger = self.codec.ledger(stream)
        if sum(ledger.totals.values()) != len(stream):
            raise HdacError(f"{self.codec.label}: the layers sum to {sum(ledger.totals.values())} of {len(stream)} bytes")
        score = fidelity(clip, decoded, ["psnr_y"])["psnr_y"]
        if isinstance(score, Exception):
            raise HdacError(f"{self.codec.label}: {score}")
        facts = {
            "label": self.codec.label,
            "settings": repr(self.codec),
            "version": self.codec.version,
            "command": self.codec.command(clip),
            "encode_s": encoded - started,
            "decode_s": finished - encoded,
            "psnr_y": score.value,
            "decoded_sha256": decoded.sha256(),
            "job_s": time.perf_counter() - started,
        }
        cache = Cache(self.cache)
        if finished - encoded >= SLOW_DECODE_S:
            cache.store_frames(self.key, decoded)
        return cache.store_stream(self.key, stream, ledger, facts)


@dataclass(frozen=True)
class MeasureJob:
    """Score the stream that `codec` wrote and the cache holds under `key`, by some metric columns.

    force: compute again what the cache holds.
    """

    sequence: ClipSequence
    codec: VideoCodec
    key: str
    columns: tuple[str, ...]
    cache: Path
    force: bool = False

    def run(self) -> dict[str, Any]:
        """{"values", "frames", "missing", "seconds"}. Families are stored one by one, so that a new family does not
        cost the others again."""
        import rd.metrics

        cache = Cache(self.cache)
        source = decoded = None
        found: dict[str, Any] = {"values": {}, "frames": {}, "missing": {}, "seconds": 0.0}
        for columns in _by_family(self.columns).values():
            key = _scores_key(self.key, columns)
            scores = None if self.force else cache.load_scores(key)
            if scores is None:
                if source is None or decoded is None:
                    source = _load(self.sequence)
                    decoded = _decode(cache, self.key, self.codec, source)
                measured = rd.metrics.compute(source, decoded, columns)
                seconds = sum(measured.seconds.values())
                scores = {"values": measured.values, "frames": measured.frames, "missing": measured.missing}
                scores["seconds"] = seconds
                cache.store_scores(key, **scores)
            for part in ("values", "frames", "missing"):
                found[part].update(scores[part])
            found["seconds"] += scores["seconds"]
        return found


Job = CodeJob | MeasureJob


def load_scores(job: MeasureJob) -> dict[str, Any] | None:
    """What `job.run()` would give, if all of it is in the cache already; else None."""
    found: dict[str, Any] = {"values": {}, "frames": {}, "missing": {}, "seconds": 0.0}
    for columns in _by_family(job.columns).values():
        scores = Cache(job.cache).load_scores(_scores_key(job.key, columns))
        if scores is None:
            return None
        for part in ("values", "frames", "missing"):
            found[part].update(scores[part])
        found["seconds"] += scores["seconds"]
    return found


def submit_job(job: bytes, plugins: tuple[str, ...], timeout_s: float) -> dict[str, Any]:
    """Runs a pickled job in the child process of this thread: what an executor is given, local pool and Dask alike."""
    return run_isolated(run_pickled, job, plugins, timeout_s=timeout_s)


def run_pickled(job: bytes, plugins: tuple[str, ...]) -> dict[str, Any]:
    """In the child: imports the plug-ins, so that their codecs can be unpickled, then runs the job."""
    for plugin in plugins:
        load_plugin(plugin)
    loaded: Job = pickle.loads(job)
    return loaded.run()


def load_plugin(plugin: str) -> ModuleType:
    """Imports a user's codecs: a module name, or the path of a .py file. Raises InputError where that fails."""
    path = Path(plugin)
    name = path.stem if plugin.endswith(".py") else plugin
    if name in sys.modules:
        return sys.modules[name]
    try:
        if not plugin.endswith(".py"):
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None  # true for every path that ends in .py
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    except (ImportError, OSError, SyntaxError) as error:
        sys.modules.pop(name, None)
        raise InputError(f"cannot import the plug-in {plugin}: {error}") from error
    return module


def _scores_key(stream: str, columns: Sequence[str]) -> str:
    import rd.metrics

    return scores_key(stream, {column: rd.metrics.version(column) for column in columns})


def _by_family(columns: Sequence[str]) -> dict[str, list[str]]:
    families: dict[str, list[str]] = {}
    for column in columns:
        families.setdefault(METRICS[column].family, []).append(column)
    return families


@functools.lru_cache(maxsize=1)
def _load(sequence: ClipSequence) -> Clip:
    return sequence.load()  # jobs of one clip follow each other


def _decode(cache: Cache, key: str, codec: VideoCodec, source: Clip) -> Clip:
    entry = cache.load_entry(key)
    kept = cache.load_frames(key, source, entry["decoded_sha256"]) if entry else None
    if kept is not None:
        return kept
    decoded = codec.decode(cache.load_stream(key))
    if entry is None or decoded.sha256() != entry["decoded_sha256"]:
        raise HdacError(f"stream {key} decodes to other frames than when it was made")
    return decoded
