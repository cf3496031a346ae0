"""Decoders of the mobile family in 8-bit integers: the parts of a network that run for every frame that is shown, quantised
after training and run by ONNX Runtime. Warping stays in PyTorch, which is quicker at it; detectors, students, and what runs
once a reference stay as they are.

`hdac.training.quantise` makes NAME.int8 from the weights NAME and clips; `apply` puts it in the place of the network's own
parts.

Pictures differ a little from those of the network itself, which an encoder that looks at them does not know: a choice of the
decoder, as fine-tuning is. The file is safetensors of the parts' ONNX graphs as bytes; it says which weights it was made from,
and for pictures of which size.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from data.errors import CodecUnavailable, InputError
from data.faces import onnx_session
from hdac import weights
from hdac.nets.animation import PointNet
from hdac.nets.motion import Motion
from hdac.network import Network

SUFFIX = ".int8"


class _Said(NamedTuple):
    """What a file says of itself."""

    of: str
    """Id of the weights that it was made from."""
    size: tuple[int, ...]
    """Height and width of the packed pictures that it is for."""
    parts: frozenset[str]


def _said(path: Path) -> _Said:
    """Raises InputError for a file that is none of ours."""
    try:
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
            height, width = json.loads(said["size"])
            return _Said(said["of"], (int(height), int(width)), frozenset(file.keys()))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds no network in 8-bit integers: {error}") from error


def _find(network: Network[PointNet]) -> tuple[Path, _Said]:
    """The file that was made from these weights. Raises CodecUnavailable where there is none."""
    stale = ""
    for folder in weights.folders():
        path = folder / f"{network.name}{SUFFIX}"
        if path.exists():
            said = _said(path)
            if said.of == network.weights_id.hex():
                return path, said
            stale = f"; {path} was made from other weights, {said.of}"
    places = " or ".join(map(str, weights.folders()))
    raise CodecUnavailable(f"no {network.name}{SUFFIX} in {places}{stale}: `hdac train quantise` makes it")


# -- running ---------------------------------------------------------------------------------------------------------


def apply(net: PointNet, network: Network[PointNet]) -> None:
    """Puts the parts of `network`'s 8-bit file into `net`, a folded copy of its network.

    Raises CodecUnavailable where there is no file of these weights, InputError for one that holds no parts of this network.
    """
    path, said = _find(network)
    if said.parts != set(net.parts):
        raise InputError(f"{path} has the parts {', '.join(sorted(said.parts))}, the network {', '.join(net.parts)}")
    for name in net.parts:
        replace_part(net, name, _part(path, path.stat().st_mtime_ns, name, said.size))


@functools.lru_cache(maxsize=8)
def _part(path: Path, mtime_ns: int, name: str, size: tuple[int, ...]) -> _Part:  # time: a file that was replaced is read anew
    with safe_open(path, "pt") as file:
        return _Part(name, file.get_tensor(name).numpy().tobytes(), size)


class _Part:
    """A part of a network as an ONNX graph; called as the part is."""

    def __init__(self, name: str, graph: bytes, size: tuple[int, ...]) -> None:
        """size: height and width of packed pictures that the graph is for."""
        self.name, self.size = name, size
        try:
            self.session = onnx_session(graph)
        except Exception as error:  # ONNX Runtime's own have no common base
            raise InputError(f"no ONNX graph of {name}: {error}") from error
        self.inputs = [(one.name, tuple(one.shape)) for one in self.session.get_inputs()]
        if len(self.session.get_outputs()) != _RESULTS[name][0]:
            raise InputError(f"an ONNX graph of {name} with {len(self.session.get_outputs())} results")

    def __call__(self, *args: Any) -> Any:
        tensors = list(tensors_of(args))
        sizes = {value for value in args if isinstance(value, tuple) and all(isinstance(side, int) for side in value)}
        if sizes - {self.size} or [tuple(one.shape) for one in tensors] != [shape for _, shape in self.inputs]:
            raise InputError(f"the network in 8-bit integers is for pictures of {2 * self.size[1]}x{2 * self.size[0]} only")
        fed = {name: np.ascontiguousarray(tensor.numpy()) for (name, _), tensor in zip(self.inputs, tensors, strict=True)}
        return _RESULTS[self.name][1](*map(torch.from_numpy, self.session.run(None, fed)))


_RESULTS: dict[str, tuple[int, Callable[..., Any]]] = {
    "motion": (3, lambda deformation, occlusion, confidence: (Motion(deformation, occlusion), confidence)),
    "decode": (1, lambda lacking: lacking),
    "generate": (1, lambda drawn: drawn),
}
"""How many tensors a graph gives, and what its part makes of them."""


def tensors_of(value: Any) -> Iterator[Tensor]:
    """All there are in nested tuples and lists, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from tensors_of(one)


def with_tensors(value: Any, tensors: Iterator[Tensor]) -> Any:
    """The same tuples and lists around other tensors."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, list):
        return [with_tensors(one, tensors) for one in value]
    if isinstance(value, tuple):
        parts = [with_tensors(one, tensors) for one in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def replace_part(net: nn.Module, name: str, part: Callable[..., Any]) -> None:
    """A part that is a submodule, or a method, by something that is called."""
    if name in dict(net.named_children()):
        delattr(net, name)
    setattr(net, name, part)
