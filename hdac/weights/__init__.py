"""Network weights that ship with the package: fp16 safetensors with a model card, named in streams by their checksum.

    lite.safetensors    networks of DAC and H-DAC, size `lite`
    lite.json           model card: data, steps, hours, machine, held-out scores
    face-vid2vid.*      networks of face-vid2vid, size `face-vid2vid`
    residual.*          networks of binary residuals
    landmarks.*         the landmark student, for free view and the mobile family
    fomm, motion-net-*, ..   networks of the mobile family, by system

`$HDAC_WEIGHTS` may name a folder with more of them: those of a training run of one's own. Here they are found; `hdac.network`
loads them.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

from data.errors import CodecUnavailable, InputError
from data.files import file_sha256

MAX_HEADER = 1 << 24
"""Bytes of a file's header that are looked at."""
ID_BYTES = 4
"""Of the SHA-256 of the file; what a stream carries."""


def folders() -> list[Path]:
    """Where weights are looked for, first to last."""
    own = os.environ.get("HDAC_WEIGHTS")
    return [*([Path(own)] if own else []), Path(__file__).parent]


def find(name: str) -> Path:
    """The file of the weights of that name. Raises CodecUnavailable where there is none."""
    for folder in folders():
        if (folder / f"{name}.safetensors").exists():
            return folder / f"{name}.safetensors"
    raise CodecUnavailable(f"no weights {name}.safetensors in {' or '.join(map(str, folders()))}")


def missing(name: str) -> str | None:
    """Why the weights of that name cannot be used, or None."""
    try:
        find(name)
    except CodecUnavailable as error:
        return str(error)
    return None


def weights_id(path: Path) -> bytes:
    """What a stream calls these weights."""
    return bytes.fromhex(file_sha256(path))[:ID_BYTES]


def settings(path: Path) -> dict[str, Any]:
    """Of the network in a file, without reading its weights. Raises InputError for a file that holds none of ours."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            said: dict[str, Any] = json.loads(json.loads(file.read(min(size, MAX_HEADER)))["__metadata__"]["settings"])
    except (struct.error, KeyError, ValueError) as error:
        raise InputError(f"{path} holds no network: {error}") from error
    return said
