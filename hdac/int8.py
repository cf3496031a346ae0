"""Networks of the mobile family in 8-bit integers: what runs for every frame that is shown (`parts`), and what an encoder runs
for every frame to find points, codes or labels (`finders`), quantised after training and run by ONNX Runtime. Warping stays in
PyTorch, which is quicker at it, and what runs once a reference stays as it is.

`hdac.training.quantise` makes NAME.int8 from the weights NAME and clips; `show_by` and `find_by` put it in the place of the
network's own parts.

Pictures differ a little from those of the network itself, which an encoder that looks at them does not know: a choice of the
decoder, as fine-tuning is. Points that are found are sent: a choice of the encoder that no decoder has to know. Those of a
reference are found by the networks themselves on both sides. The file is safetensors of the parts' ONNX graphs, deflated; it
says which weights it was made from, and for pictures of which size.
"""

from __future__ import annotations

import functools
import hashlib
import json
import zlib
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
from hdac.nets.animation import Field, PointNet
from hdac.nets.keypoints import Keypoints
from hdac.nets.landmarks import LandmarkNet
from hdac.nets.motion import Motion
from hdac.nets.segmentation import SegmentationNet
from hdac.network import NetT, Network, load

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


def finders_id(name: str) -> str:
    """Of the file that was made from these weights; "" of networks that find nothing. Raises CodecUnavailable where there is
    none."""
    network = load(weights.find(name))
    if not getattr(network.net, "finders", ()):
        return ""
    path, _ = _find(network)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def _find(network: Network[NetT]) -> tuple[Path, _Said]:
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


def show_by(net: PointNet, network: Network[PointNet]) -> None:
    """Puts what shows pictures of `network`'s 8-bit file into `net`, a folded copy of its network.

    Raises CodecUnavailable where there is no file of these weights, InputError for one that does not hold this network.
    """
    _apply(net, network, net.parts)


def find_by(net: PointNet | LandmarkNet | SegmentationNet, network: Network[NetT]) -> None:
    """Likewise what finds points, codes or labels."""
    if net.finders:
        _apply(net, network, net.finders)


def _apply(net: PointNet | LandmarkNet | SegmentationNet, network: Network[NetT], names: tuple[str, ...]) -> None:
    path, said = _find(network)
    of_network = (*net.parts, *net.finders)
    if said.parts != set(of_network):
        raise InputError(f"{path} has the parts {', '.join(sorted(said.parts))}, the network {', '.join(of_network)}")
    for name in names:
        replace_part(net, name, part_of(path, name))


def part_of(path: Path, name: str) -> _Part:
    """A part of a file. Raises InputError for a file that is none of ours."""
    return _part(path, path.stat().st_mtime_ns, name, _said(path).size)


@functools.lru_cache(maxsize=8)
def _part(path: Path, mtime_ns: int, name: str, size: tuple[int, ...]) -> _Part:  # time: a file that was replaced is read anew
    with safe_open(path, "pt") as file:
        deflated = file.get_tensor(name).numpy().tobytes()
    try:
        return _Part(name, zlib.decompress(deflated), size)
    except zlib.error as error:
        raise InputError(f"{path} holds no ONNX graph of {name}: {error}") from error


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
        if len(self.session.get_outputs()) not in _RESULTS[name][0]:
            raise InputError(f"an ONNX graph of {name} with {len(self.session.get_outputs())} results")

    def __call__(self, *args: Any) -> Any:
        tensors = list(tensors_of(args))
        sizes = {value for value in args if isinstance(value, tuple) and all(isinstance(side, int) for side in value)}
        if sizes - {self.size} or [tuple(one.shape) for one in tensors] != [shape for _, shape in self.inputs]:
            raise InputError(f"the network in 8-bit integers is for pictures of {2 * self.size[1]}x{2 * self.size[0]} only")
        fed = {name: np.ascontiguousarray(tensor.numpy()) for (name, _), tensor in zip(self.inputs, tensors, strict=True)}
        return _RESULTS[self.name][1](*map(torch.from_numpy, self.session.run(None, fed)))


def _only(result: Tensor) -> Tensor:
    return result


_RESULTS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "motion": ((3, 5), lambda deformation, occlusion, *more: Field(Motion(deformation, occlusion), *more)),
    "detector": ((1, 2), Keypoints),
    **{name: ((1,), _only) for name in ("decode", "generate", "expression", "coarse", "fine", "scored")},
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
