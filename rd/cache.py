"""The cache of a sweep: every stream and every score under a key that holds all that it depends on.

    <root>/streams/ab/abcd....bin     the stream, as the codec wrote it
    <root>/streams/ab/abcd....json    what is known about it: {"sha256", "bytes", "layers", "encode_s", ..}
    <root>/scores/ab/abcd....json     scores of one metric family for one stream

The key of a stream hashes the clip (samples, fps, colour), the codec with all settings, and the versions of tool and code;
the key of scores adds metric family and version. Entries are written beside their place and moved, so a killed sweep leaves
whole entries or none; an entry that does not match its own checksum counts as missing.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from baselines.codec import VideoCodec
from baselines.stream import Ledger
from data.errors import InputError
from data.files import write_atomic


def stream_key(clip_sha256: str, codec: VideoCodec) -> str:
    """Key of the stream of a clip by a codec."""
    return _hash("stream", clip_sha256, repr(codec), codec.version)


def scores_key(stream: str, family: str, version: str) -> str:
    """Key of one metric family's scores of a stream."""
    return _hash("scores", stream, family, version)


def _hash(*fields: str) -> str:
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


class Cache:
    """root: folder of the cache; made when something is first stored."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    # -- streams -----------------------------------------------------------------------------------------------------

    def stream_path(self, key: str) -> Path:
        return self.root / "streams" / key[:2] / f"{key}.bin"

    def store_stream(self, key: str, stream: bytes, ledger: Ledger, facts: dict[str, Any]) -> dict[str, Any]:
        """Stores a stream with its ledger and `facts` (JSON values); returns its whole entry."""
        entry = {
            **facts,
            "key": key,
            "sha256": hashlib.sha256(stream).hexdigest(),
            "bytes": len(stream),
            "header_bytes": ledger.header,
            "layers": {name: per_frame.tolist() for name, per_frame in ledger.layers.items()},
        }
        path = self.stream_path(key)
        write_atomic(path, stream)
        write_atomic(path.with_suffix(".json"), json.dumps(entry))
        return entry

    def load_entry(self, key: str) -> dict[str, Any] | None:
        """What is known about a stream, or None where it is not there or was damaged."""
        path = self.stream_path(key)
        try:
            entry = json.loads(path.with_suffix(".json").read_bytes())
            intact = path.stat().st_size == entry["bytes"] and entry["key"] == key
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None
        return entry if intact and hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"] else None

    def load_stream(self, key: str) -> bytes:
        """The stream; raises InputError where it is missing or damaged."""
        entry = self.load_entry(key)
        if entry is None:
            raise InputError(f"the cache {self.root} has no intact stream {key}")
        return self.stream_path(key).read_bytes()

    # -- scores ------------------------------------------------------------------------------------------------------

    def scores_path(self, key: str) -> Path:
        return self.root / "scores" / key[:2] / f"{key}.json"

    def store_scores(
        self, key: str, values: dict[str, float], frames: dict[str, np.ndarray], missing: dict[str, str], seconds: float
    ) -> None:
        body = {
            "values": values,
            "frames": {name: [None if np.isnan(x) else float(x) for x in scores] for name, scores in frames.items()},
            "missing": missing,
            "seconds": seconds,
        }
        text = json.dumps(body)
        checked = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "scores": text}
        write_atomic(self.scores_path(key), json.dumps(checked))

    def load_scores(self, key: str) -> dict[str, Any] | None:
        """{"values", "frames" (float64 arrays), "missing", "seconds"}, or None where not there or damaged."""
        try:
            checked = json.loads(self.scores_path(key).read_bytes())
            if hashlib.sha256(checked["scores"].encode()).hexdigest() != checked["sha256"]:
                return None
            body = json.loads(checked["scores"])
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
            return None
        body["frames"] = {name: np.array(scores, np.float64) for name, scores in body["frames"].items()}
        return body
