"""Networks and their files: fp16 safetensors with the settings in the metadata, and a model card beside them."""

from __future__ import annotations

import ctypes
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import nn

from data.errors import InputError, WeightsMismatch
from data.files import write_atomic
from hdac.nets.layers import channels_last
from hdac.nets.models import HYBRID, Net, Settings, build, kind_of, settings_from
from hdac.weights import find, folders, weights_id

NetT = TypeVar("NetT", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Network(Generic[NetT]):
    """A loaded network, ready to run on the CPU."""

    net: NetT
    weights_id: bytes
    name: str


def by_name(name: str, kind: type[NetT]) -> Network[NetT]:
    """The network of these weights. Raises CodecUnavailable where they are not here, InputError for those of another kind."""
    return of_kind(load(find(name)), kind)


def of_kind(network: Network[nn.Module], kind: type[NetT]) -> Network[NetT]:
    """The same, known to be of this kind. Raises InputError where it is of another."""
    if not isinstance(network.net, kind):
        raise InputError(f"the weights {network.name} are those of a {type(network.net).__name__}, not of a {kind.__name__}")
    return cast("Network[NetT]", network)


def by_id(wanted: bytes, kind: type[NetT]) -> Network[NetT]:
    """The network that a stream was made with. Raises WeightsMismatch where it is not here, or is of another kind."""
    here = {}
    for folder in folders():
        for path in sorted(folder.glob("*.safetensors")):
            if weights_id(path) == wanted:
                try:
                    return of_kind(load(path), kind)
                except InputError as error:
                    raise WeightsMismatch(f"the stream was made with the weights {wanted.hex()}: {error}") from error
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


def load(path: Path) -> Network[nn.Module]:
    """Reads weights once; raises InputError for a file that holds no network of ours."""
    _keep_memory()
    return _load(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _load(path: Path, mtime_ns: int) -> Network[nn.Module]:  # time: a file that was replaced is read anew
    try:
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
            settings = settings_from(said.get("kind", HYBRID), json.loads(said["settings"]))
            state = {name: file.get_tensor(name) for name in file.keys()}
        net = build(settings)
        counters = {name: value for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")}
        net.load_state_dict({**counters, **state})  # batch norm's counters serve training only
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} holds no network: {error}") from error
    net.eval().requires_grad_(False)
    return Network(channels_last(net), weights_id(path), path.stem)


def _metadata(settings: Settings) -> dict[str, str]:
    kind = kind_of(settings)
    return {"settings": json.dumps(settings.to_dict()), **({} if kind == HYBRID else {"kind": kind})}


def save(net: Net, path: Path, card: dict[str, Any]) -> None:
    """Writes weights as fp16, with their settings, and the model card beside them."""
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous().clone()
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    # not save_file, whose files nobody but their owner may read
    write_atomic(path, safetensors.torch.save(state, _metadata(net.settings)))
    write_atomic(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
