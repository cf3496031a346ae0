"""The cache of a sweep: every stream and every score under a key that holds all that it depends on.

    <root>/streams/ab/abcd....bin     the stream, as the codec wrote it
    <root>/streams/ab/abcd....json    what is known about it: {"sha256", "bytes", "layers", "encode_s", ..}, sealed
    <root>/frames/ab/abcd....z        what it decodes to, where decoding takes long
    <root>/scores/ab/abcd....json     scores of one metric family for one stream

The key of a stream hashes the clip (samples, fps, colour), the codec with all settings, and the versions of tool and code;
the key of scores adds metric family and version. Entries are written beside their place and moved, so a killed sweep leaves
whole entries or none; an entry that does not match its own checksum counts as missing.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from baselines.codec import VideoCodec
from baselines.stream import Ledger
from data.clip import Clip
from data.errors import InputError
from data.files import file_sha256, write_atomic


def stream_key(clip_sha256: str, codec: VideoCodec) -> str:
    """Key of the stream of a clip by a codec.

    A codec of a plug-in is known by its class and by the source of its file, which its author changes as he likes; our
    own codecs by their name and by a version that is raised with every change.
    """
    return _hash("stream", clip_sha256, repr(codec), codec.version, *_foreign_code(type(codec)))


@functools.cache
def _foreign_code(codec: type) -> tuple[str, ...]:
    if codec.__module__.split(".")[0] in ("baselines", "hdac"):
        return ()
    file = inspect.getsourcefile(codec)
    return codec.__module__, codec.__qualname__, file_sha256(file) if file else ""


def scores_key(stream: str, versions: dict[str, str]) -> str:
    """Key of a stream's scores. versions: of every metric column that is stored under it."""
    return _hash("scores", stream, *(text for item in versions.items() for text in item))


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
        write_atomic(path.with_suffix(".json"), _sealed(entry))
        return entry

    def load_entry(self, key: str) -> dict[str, Any] | None:
        """What is known about a stream, or None where it is not there or was damaged."""
        path = self.stream_path(key)
        try:
            entry = _unsealed(path.with_suffix(".json").read_bytes())
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

    # -- frames ------------------------------------------------------------------------------------------------------

    def frames_path(self, key: str) -> Path:
        return self.root / "frames" / key[:2] / f"{key}.z"

    def store_frames(self, key: str, decoded: Clip) -> None:
        """Stores what a stream decodes to."""
        write_atomic(self.frames_path(key), zlib.compress(decoded.yuv_bytes(), 1))

    def load_frames(self, key: str, like: Clip, sha256: str) -> Clip | None:
        """What a stream decodes to: the frames of that hash, in size, rate and colour like `like`; or None where they were not
        stored, or were damaged."""
        try:
            planes = zlib.decompress(self.frames_path(key).read_bytes())
            clip = Clip.from_yuv_bytes(planes, like.width, like.height, like.fps, like.colour)
        except (FileNotFoundError, NotADirectoryError, zlib.error, InputError):
            return None
        return clip if clip.sha256() == sha256 else None

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
        write_atomic(self.scores_path(key), _sealed(body))

    def load_scores(self, key: str) -> dict[str, Any] | None:
        """{"values", "frames" (float64 arrays), "missing", "seconds"}, or None where not there or damaged."""
        try:
            body = _unsealed(self.scores_path(key).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        body["frames"] = {name: np.array(scores, np.float64) for name, scores in body["frames"].items()}
        return body


def _sealed(body: dict[str, Any]) -> str:
    """JSON behind its own checksum."""
    text = json.dumps(body)
    return f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n"


def _unsealed(data: bytes) -> dict[str, Any]:
    """The reverse of `_sealed`; raises ValueError where the checksum does not fit."""
    checksum, _, text = data.decode().partition("\n")
    if hashlib.sha256(text.rstrip("\n").encode()).hexdigest() != checksum:
        raise ValueError("the entry does not match its checksum")
    body: dict[str, Any] = json.loads(text)
    return body
