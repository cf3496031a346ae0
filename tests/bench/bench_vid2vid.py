"""Parameters and products of face-vid2vid's networks, part by part, 256x256.

    python -m tests.bench.bench_vid2vid [--out FILE]

    F, L            what runs once a reference: the appearance volume, and canonical keypoints
    H, Delta        head pose and deformations: of a reference, and in the encoder of every frame (optical flow is not counted)
    M               motion field of every frame that is shown
    G               what draws it, warping not counted
    residual        encoder, decoder and context model of binary residuals over a whole picture

MACs are products of convolutions and linear layers (PyTorch's counter, halved), in millions; `paper` is the published size.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data.cli import run
from data.files import write_atomic
from hdac.nets.hybrid import condition
from hdac.nets.residual import BLOCK, ResidualNet
from hdac.nets.residual import SIZES as RESIDUALS
from hdac.nets.vid2vid import LITE, PAPER, Vid2VidNet, Vid2VidSettings
from rd import provenance
from tests.bench.bench_networks import SIDE, macs

PARTS = {
    "F": ("appearance",),
    "L": ("detector",),
    "H, Delta": ("estimator",),
    "M": ("motion",),
}
"""The rest is G's."""


def n_parameters(modules: list[nn.Module]) -> float:
    """Millions."""
    return round(sum(p.numel() for module in modules for p in module.parameters()) / 1e6, 3)


def measure(settings: Vid2VidSettings) -> dict[str, Any]:
    """One size."""
    net = Vid2VidNet(settings).eval()
    picture = torch.rand(1, 6, SIDE // 2, SIDE // 2)
    with torch.inference_mode():
        reference = net.reference(picture)
    known = condition(None, torch.tensor([30.0]), torch.tensor([1.0]))
    rows: dict[str, Any] = {}
    left = [module for name, module in net.named_children() if name not in {n for names in PARTS.values() for n in names}]

    def row(part: str, modules: list[nn.Module], function: Callable[[], Any], less: float = 0.0) -> None:
        rows[part] = {"params_m": n_parameters(modules), "macs_m": round(macs(function) - less, 1)}

    row("F", [net.appearance], lambda: net.appearance(net._seen(picture)))
    row("L", [net.detector], lambda: net.detector(net.small(picture)))
    row("H, Delta", [net.estimator], lambda: net.estimate(picture))
    volume = reference.volume
    at = torch.zeros(1, settings.n_keypoints, 3)
    row("M", [net.motion], lambda: net.motion(volume, at, at, torch.eye(3)[None]))
    row("G", left, lambda: net(reference, reference.parameters, known), less=rows["M"]["macs_m"])
    return {
        "volume": dict(zip(("channels", "depth", "side"), (*volume.shape[1:3], volume.shape[-1]), strict=True)),
        "params_m": n_parameters([net]),
        "parts": rows,
    }


def residual() -> dict[str, Any]:
    """Encoder and decoder of binary residuals over the whole of a picture."""
    net = ResidualNet(RESIDUALS["residual"]).eval()
    difference = torch.rand(1, 6, SIDE // 2, SIDE // 2)
    signs = torch.sign(net.encode(difference))
    blocks = torch.ones(1, 1, signs.shape[-2] // BLOCK, signs.shape[-1] // BLOCK)
    rows = {
        "encoder": {"params_m": n_parameters([net.encoder]), "macs_m": round(macs(lambda: net.encode(difference)), 1)},
        "decoder": {"params_m": n_parameters([net.decoder]), "macs_m": round(macs(lambda: net.decode(signs, blocks)), 1)},
        "context": {"params_m": n_parameters([net.context]), "macs_m": round(macs(lambda: net.context(signs)), 1)},
    }
    return {"params_m": n_parameters([net]), "parts": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the result to this JSON file, too")
    args = parser.parse_args()
    found = {"lite": measure(LITE), "paper": measure(PAPER), "residual": residual()}
    print(json.dumps(found, indent=1))
    if args.out:
        facts = {"command": "python -m tests.bench.bench_vid2vid", "commit": provenance.commit()}
        write_atomic(args.out, json.dumps({**facts, **found}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run(main))
