"""Network weights that ship with the package: fp16 safetensors with a model card, named in streams by their checksum.

    lite.safetensors    networks of DAC and H-DAC, size `lite`
    lite.json           model card: data, steps, hours, machine, held-out scores
    face-vid2vid.*      networks of face-vid2vid, size `face-vid2vid`
    residual.*          networks of binary residuals

`$HDAC_WEIGHTS` may name a folder with more of them: those of a training run of one's own. Here they are found; `hdac.network`
loads them.
"""

from __future__ import annotations

import os
from pathlib import Path

from data.errors import CodecUnavailable
from data.files import file_sha256

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
