"""Networks and their files: fp16 safetensors with the settings in the metadata, and a model card beside them."""

from __future__ import annotations

import ctypes
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open

from data.errors import InputError, WeightsMismatch
from data.files import write_atomic
from hdac.nets.hybrid import HybridNet, NetSettings
from hdac.nets.layers import channels_last
from hdac.weights import find, folders, weights_id


@dataclass(frozen=True, eq=False)
class Network:
    """A loaded network, ready to run on the CPU."""

    net: HybridNet
    weights_id: bytes
    name: str


def by_name(name: str) -> Network:
    """The network of these weights; raises CodecUnavailable where they are not here."""
    return load(find(name))


def by_id(wanted: bytes) -> Network:
    """The network that a stream was made with. Raises WeightsMismatch where it is not here."""
    here = {}
    for folder in folders():
        for path in sorted(folder.glob("*.safetensors")):
            if weights_id(path) == wanted:
                return load(path)
            here[path.stem] = weights_id(path).hex()
    known = ", ".join(f"{name} ({number})" for name, number in here.items()) or "none"
    raise WeightsMismatch(f"the stream was made with the weights {wanted.hex()}; here are {known}; $HDAC_WEIGHTS adds a folder")


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


@functools.cache
def _keep_memory() -> None:
    """Lets the C library keep what the whole process has got from the system: pages of every feature given back and asked for
    anew, thousands a picture, take a seventh of the time. Without effect where the library is not glibc."""
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    if set_option(_M_MMAP_THRESHOLD, 1 << 25):
        set_option(_M_TRIM_THRESHOLD, 1 << 28)


def load(path: Path) -> Network:
    """Reads weights once; raises InputError for a file that holds no network of ours."""
    _keep_memory()
    return _load(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _load(path: Path, mtime_ns: int) -> Network:  # time: a file that was replaced is read anew
    try:
        with safe_open(path, "pt") as file:
            settings = NetSettings.from_dict(json.loads((file.metadata() or {})["settings"]))
            state = {name: file.get_tensor(name).float() for name in file.keys()}
        net = HybridNet(settings)
        counters = {name: value for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")}
        net.load_state_dict({**counters, **state})  # batch norm's counters serve training only
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} holds no network: {error}") from error
    net.eval().requires_grad_(False)
    return Network(channels_last(net), weights_id(path), path.stem)


def save(net: HybridNet, path: Path, card: dict[str, Any]) -> None:
    """Writes weights as fp16, with their settings, and the model card beside them."""
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous().clone()
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    # not save_file, whose files nobody but their owner may read
    write_atomic(path, safetensors.torch.save(state, {"settings": json.dumps(net.settings.to_dict())}))
    write_atomic(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
