"""Parts of a network of the mobile family, or of one of its students, in 8-bit integers (`hdac.int8`): as ONNX graphs, weights
quantised per channel, activations by the ranges that they have in calibration frames, whose references are coded at QPs from
fine to coarse."""

from __future__ import annotations

import json
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from tqdm import tqdm

from data.clip import Clip
from data.errors import CodecUnavailable, InputError
from data.faces import onnx_session
from data.files import write_atomic
from data.io import read_clip
from hdac.codecs import reference as reference_picture
from hdac.codecs.animator import Stage
from hdac.codecs.base_layer import Planes
from hdac.codecs.point_animator import animator_of
from hdac.int8 import replace_part, tensors_of, with_tensors
from hdac.nets.animation import PointNet
from hdac.nets.folding import folded
from hdac.nets.hybrid import condition
from hdac.nets.landmarks import LandmarkNet
from hdac.nets.segmentation import SegmentationNet
from hdac.network import Network, of_kind

FRAMES = 4
"""Chosen: calibration frames of a clip, spread over it."""
QPS = (24, 32, 40, 48)
"""Of references, clip by clip."""
OPSET = 18
_ALL = ["Conv", "Relu", "Clip", "Add", "Resize", "Concat"]
OPERATORS = {"motion": ["Conv"], "detector": ["Conv"]}
"""What is done in integers, else _ALL. Of dense motion and keypoints convolutions only: sampling grids and softmax want more
than 8 bits. Not linear layers (Gemm): of a few numbers, among them the QP of the reference, which calibration frames do not
all have, or to places."""
MULTIPLE = 8
"""Of the sides of pictures that students see here."""


class _Recorder:
    """Stands for a part and keeps what it is called with."""

    def __init__(self, part: Callable[..., Any]) -> None:
        self.part = part
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *args: Any) -> Any:
        self.calls.append(args)
        return self.part(*args)


class _Flat(nn.Module):
    """A part with all its tensors one after the other, as a graph has them."""

    def __init__(self, net: nn.Module, part: Callable[..., Any], example: tuple[Any, ...]) -> None:
        super().__init__()
        self.net, self.part, self.example = net, part, example

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensors_of((self.part(*with_tensors(self.example, iter(tensors))),)))


Quantisable = PointNet | LandmarkNet | SegmentationNet
_Recorded = dict[str, tuple[nn.Module, _Recorder]]
"""By part: the network that has it, and what it was called with."""


def spread(clips: list[Path], most: int) -> list[Path]:
    """So many of the clips, all over the list: neighbours are of the same person."""
    return clips[:: max(1, len(clips) // most)][:most]


def quantise(network: Network[nn.Module], clips: list[Path], out: Path) -> int:
    """Writes the network's parts in 8 bits; returns the number of calibration frames.

    network: of the mobile family, or one of its students. clips: pictures of 256x256 of nobody who is measured on; what is
    shown at another size cannot use the file.
    Raises CodecUnavailable without the packages of `pip install hdac[int8]`, InputError for other networks and for clips of
    different sizes.
    """
    net = network.net
    if not isinstance(net, Quantisable):
        raise InputError(f"the weights {network.name} are those of a {type(net).__name__}, which is not quantised")
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise CodecUnavailable(f"networks are quantised with the packages of `pip install hdac[int8]`: {error}") from error
    if not clips:
        raise InputError("no clips to calibrate on")
    recorded, size = _animated(of_kind(network, PointNet), clips) if isinstance(net, PointNet) else _seen(net, clips)
    parts = {
        name: torch.frombuffer(bytearray(zlib.compress(_graph(name, of, recorder), 9)), dtype=torch.uint8)
        for name, (of, recorder) in recorded.items()
    }
    said = {"of": network.weights_id.hex(), "size": json.dumps(size)}
    write_atomic(out, safetensors.torch.save(parts, said))
    return FRAMES * len(clips)


def _animated(network: Network[PointNet], clips: list[Path]) -> tuple[_Recorded, list[int]]:
    """What shows frames of all clips, and finds what is sent of them; and the size of their packed pictures."""
    found: _Recorded = {}
    net: PointNet | None = None
    sizes: dict[tuple[int, ...], Path] = {}
    for number, path in enumerate(tqdm(clips, desc="calibrating", unit="clip")):
        clip, qp = read_clip(path), QPS[number % len(QPS)]
        animator = animator_of(network, clip, qp)
        if net is None:
            net = animator.net
            found = _recorders(net)
        animator.net = net
        pictures = _pictures(clip)
        coded = reference_picture.encode(pictures[0], clip.colour, qp, "bpg")
        animator.rest_at(animator.refer_to(reference_picture.decode(coded, clip.height, clip.width, "bpg", clip.colour)))
        sizes.setdefault(tuple(animator.sources[0].seen.picture.shape[-2:]), path)
        if len(sizes) > 1:
            raise InputError(f"{path}: clips for calibration must be of one size; that of {next(iter(sizes.values()))} differs")
        for picture in pictures[1:]:
            shown = {name: len(found[name][1].calls) for name in net.parts}
            values = animator.values(picture)
            for name, n_calls in shown.items():  # an encoder tries what is not shown: see `PointAnimator._steadied`
                del found[name][1].calls[n_calls:]
            animator.task(values, (clip.height, clip.width))()
    return found, list(next(iter(sizes)))


@torch.inference_mode()
def _seen(student: LandmarkNet | SegmentationNet, clips: list[Path]) -> tuple[_Recorded, list[int]]:
    """What a student does on frames of all clips. Its parts see pictures of a size of their own."""
    net = folded(student, condition(None, torch.zeros(1), torch.zeros(1)))
    found, stage = _recorders(net), Stage(MULTIPLE, None)
    for path in tqdm(clips, desc="calibrating", unit="clip"):
        for picture in _pictures(read_clip(path))[1:]:
            net(stage.packed(stage.seen(picture)))
    return found, [0, 0]


def _recorders(net: Quantisable) -> _Recorded:
    """Puts one in the place of every part."""
    found: _Recorded = {}
    for name in (*net.parts, *net.finders):
        found[name] = net, _Recorder(getattr(net, name))
        replace_part(net, name, found[name][1])
    return found


def _pictures(clip: Clip) -> list[Planes]:
    """The first one, and FRAMES others, spread over the clip."""
    return [(clip.y[t], clip.u[t], clip.v[t]) for t in np.linspace(0, clip.n_frames - 1, FRAMES + 1).astype(int)]


def _graph(name: str, net: nn.Module, recorder: _Recorder) -> bytes:
    """A part in 8 bits."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    calls = [[np.ascontiguousarray(tensor.numpy()) for tensor in tensors_of(call)] for call in recorder.calls]
    example = tuple(torch.from_numpy(array) for array in calls[0])
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        for said in (DeprecationWarning, FutureWarning, UserWarning):  # of the exporter, about itself
            warnings.simplefilter("ignore", said)
        exact, small = Path(folder) / "exact.onnx", Path(folder) / "int8.onnx"
        flat = _Flat(net, recorder.part, recorder.calls[0]).eval()
        with torch.no_grad():
            torch.onnx.export(
                flat, example, str(exact), opset_version=OPSET, dynamo=True, external_data=False, verbose=False
            )
        names = [one.name for one in onnx_session(exact).get_inputs()]

        class Calibration(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
            def __init__(self) -> None:
                self.left = iter(calls)

            def get_next(self) -> dict[str, Any] | None:
                call = next(self.left, None)
                return None if call is None else dict(zip(names, call, strict=True))

        quantize_static(
            str(exact),
            str(small),
            Calibration(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=OPERATORS.get(name, _ALL),
        )
        return _with_small_matrices(small.read_bytes())


def _with_small_matrices(graph: bytes) -> bytes:
    """With the weights of linear layers as integers, a scale for every output: they are small to store, and computed with as
    they were."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(graph)
    matrices = {node.input[1] for node in model.graph.node if node.op_type == "Gemm"}
    for weight in [one for one in model.graph.initializer if one.name in matrices]:
        values, name = numpy_helper.to_array(weight), weight.name
        if values.dtype != np.float32:
            continue
        outputs = next(node for node in model.graph.node if name in node.input)
        axis = 0 if any(one.name == "transB" and one.i for one in outputs.attribute) else 1
        scale = np.maximum(np.abs(values).max(1 - axis), 1e-12) / 127
        integers = np.rint(values / np.expand_dims(scale, 1 - axis)).astype(np.int8)
        model.graph.initializer.remove(weight)
        model.graph.initializer.append(numpy_helper.from_array(integers, f"{name}.integers"))
        model.graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale"))
        inputs = [f"{name}.integers", f"{name}.scale"]
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [name], axis=axis))
    return bytes(model.SerializeToString())
