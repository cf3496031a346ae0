"""Who computes a decoder's network in 8-bit integers fastest: ONNX Runtime, or PyTorch's own quantisation (torch.ao)?

    python -m tests.bench.bench_backends --calibrate CLIPS [--networks NAME ..] [--out FILE]

Of the part that repairs moved pictures (`AnimationNet.decode`), folded, at 256x256, one thread: milliseconds, the best of some
runs. torch.ao is the static quantisation of FX graphs, with its own default settings for either engine.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from data.cli import run
from data.files import write_atomic
from hdac import weights
from hdac.int8 import SUFFIX, part_of
from hdac.nets.animation import AnimationNet
from hdac.nets.folding import FoldedBeside, folded
from hdac.nets.hybrid import condition
from hdac.network import by_name, load
from hdac.training.cache import find_clips
from hdac.training.quantise import quantise, spread
from rd import provenance
from tests.bench.bench_networks import speed

ENGINES = ("x86", "onednn")
SIDE = 128  # of packed pictures


class _Beside(nn.Module):
    """`FoldedBeside` of modules, which torch.ao knows."""

    def __init__(self, of: FoldedBeside) -> None:
        super().__init__()
        out, n_in, kernel, _ = of.left.shape
        self.left = nn.Conv2d(n_in, out, kernel)
        self.right = nn.Conv2d(of.right.shape[1], out, kernel)
        self.left.weight.data, self.left.bias.data = of.left.data, of.bias.data  # type: ignore[union-attr]
        self.right.weight.data, self.right.bias.data = of.right.data, torch.zeros(out)  # type: ignore[union-attr]

    def forward(self, x: Tensor, left: Tensor, right: Tensor) -> Tensor:
        total: Tensor = self.right(right) + self.left(left) + x
        return total


class _Decode(nn.Module):
    """`AnimationNet.decode` of three sizes, without what torch.ao cannot trace."""

    def __init__(self, net: AnimationNet, known: Tensor) -> None:
        super().__init__()
        self.blocks, self.ups, self.beside, self.last = net.blocks, net.ups, net.beside, net.last
        for up in self.ups:
            up.skip = _Beside(up.skip)  # type: ignore[arg-type]
        with torch.no_grad():
            self.scale, self.shift = (part.clone() for part in net.film(known)[:, :, None, None].chunk(2, dim=1))

    def forward(self, full: Tensor, half: Tensor, quarter: Tensor, warped: Tensor) -> Tensor:
        x = self.blocks(quarter * (1 + self.scale) + self.shift)
        x = self.ups[0](x, half, self.beside[1](F.avg_pool2d(warped, 2)), None)
        x = self.ups[1](x, full, self.beside[0](warped), None)
        out: Tensor = self.last(F.relu(x))
        return out


def milliseconds(function: Callable[[], Any]) -> float:
    return round(1000 / speed(function), 2)


def measure(name: str, calibration: list[Path]) -> dict[str, Any]:
    """One network without drawn polygons."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    known = condition(None, torch.tensor([30.0]), torch.tensor([1.0]))
    net = folded(by_name(name, AnimationNet).net, known)
    widths = net.settings.widths
    shapes = [(width, SIDE >> level, SIDE >> level) for level, width in enumerate(widths)] + [(6, SIDE, SIDE)]
    args = [torch.rand(1, *shape).contiguous(memory_format=torch.channels_last) for shape in shapes]
    decode = _Decode(net, known).eval()
    with torch.inference_mode():
        row: dict[str, Any] = {"network": name, "float_ms": milliseconds(lambda: decode(*args))}
    for engine in ENGINES:
        torch.backends.quantized.engine = engine
        prepared = prepare_fx(copy.deepcopy(decode), get_default_qconfig_mapping(engine), tuple(args))
        with torch.inference_mode():
            prepared(*args)
            quantised = convert_fx(prepared)
            row[f"torch_ao_{engine}_ms"] = milliseconds(lambda: quantised(*args))  # noqa: B023
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"{name}{SUFFIX}"
        quantise(load(weights.find(name)), calibration, out)
        session = part_of(out, "decode").session
    fed = {one.name: torch.rand(*one.shape).numpy() for one in session.get_inputs()}
    return row | {"onnxruntime_ms": milliseconds(lambda: session.run(None, fed))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["fomm", "motion-net-20l"])
    parser.add_argument("--calibrate", type=Path, required=True, help="a folder of clips")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # torch.ao's, about itself
    rows = [measure(name, spread(find_clips(args.calibrate), 2)) for name in tqdm(args.networks, unit="network")]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if args.out:
        command = f"python -m tests.bench.bench_backends --calibrate <folder> --networks {' '.join(args.networks)}"
        facts = {"command": command, "commit": provenance.commit(), "machine": provenance.machine()}
        write_atomic(args.out, json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run(main))
