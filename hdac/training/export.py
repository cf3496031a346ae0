"""From a training run to weights that ship: fp16 safetensors and a model card."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import torch

from data.errors import InputError
from hdac.nets.models import build
from hdac.network import save
from hdac.training.settings import TrainSettings
from hdac.weights import weights_id


def export(run: Path, out: Path, data: str, machine: str) -> dict[str, Any]:
    """Writes `out` and its card; returns the card. Raises InputError where `run` holds no run."""
    if not (run / "last.pt").exists():
        raise InputError(f"{run} holds no training run")
    state = torch.load(run / "last.pt", map_location="cpu", weights_only=True)
    settings = TrainSettings.from_dict(state["settings"])
    net = build(settings.net)
    net.load_state_dict(state["ema"])
    log = run / "log.csv"
    rows = list(csv.DictReader(log.read_text().splitlines())) if log.exists() else []
    rows = [row for row in rows if int(row["step"]) == state["step"]]  # after a kill the log may be ahead of the checkpoint
    card: dict[str, Any] = {
        "network": settings.net.name,
        "parameters": sum(p.numel() for p in net.parameters()),
        "data": data,
        "machine": machine,
        "steps": state["step"],
        "pictures": state["pictures"],
        "hours": round(state["seconds"] / 3600, 2),
        "held_out": {name: float(value) for row in rows[-1:] for name, value in row.items() if value},
        "settings": json.loads(json.dumps(state["settings"])),
    }
    save(net, out, card)
    return {**card, "id": weights_id(out).hex()}
