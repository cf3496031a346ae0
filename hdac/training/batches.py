"""Batches of a training run, from the clips of a cache."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdac.nets.flow import optical_flow
from hdac.nets.picture import pack
from hdac.training.cache import HEIGHT, WIDTH, CachedClip

FlowFrom = Literal["base", "source", ""]


@dataclass(frozen=True)
class Batch:
    """Pictures packed (B, 6, H/2, W/2); QPs (B,); flow (B, H/2, W/2, 2) from the base layer, or the source, to the reference,
    zero where nobody wants it; pose (B, 3), yaw, pitch and roll of the source in radians, NaN where nobody knows."""

    source: Tensor
    base: Tensor
    reference: Tensor
    base_qp: Tensor
    reference_qp: Tensor
    flow: Tensor
    pose: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


def draw(clips: list[CachedClip], rng: np.random.Generator, size: int, flow_from: FlowFrom = "base") -> Batch:
    """A random batch: people with equal chances, then one of their clips, a variant, a frame; half of them mirrored."""
    by_person: dict[str, list[CachedClip]] = {}
    for clip in clips:
        by_person.setdefault(clip.identity, []).append(clip)
    people = list(by_person.values())
    picks = []
    for _ in range(size):
        person = people[rng.integers(len(people))]
        clip = person[rng.integers(len(person))]
        picks.append((clip, int(rng.integers(len(clip.bases))), int(rng.integers(len(clip.source)))))
    batch = collect(picks, flow_from)
    mirrored = torch.from_numpy(rng.random(size) < 0.5)
    return replace(
        batch,
        source=_mirror(batch.source, mirrored),
        base=_mirror(batch.base, mirrored),
        reference=_mirror(batch.reference, mirrored),
        flow=torch.where(mirrored[:, None, None, None], batch.flow.flip(2) * torch.tensor([-1.0, 1.0]), batch.flow),
        pose=torch.where(mirrored[:, None], batch.pose * torch.tensor([-1.0, 1.0, -1.0]), batch.pose),
    )


def collect(picks: list[tuple[CachedClip, int, int]], flow_from: FlowFrom = "base") -> Batch:
    """The batch of these (clip, variant, index of a stored frame). flow_from: whose flow to the reference is wanted, if any."""
    chosen = [(clip, clip.variants[v], v, t) for clip, v, t in picks]
    sources = [clip.source[t] for clip, _, _, t in chosen]
    bases = [clip.bases[v][t] for clip, _, v, t in chosen]
    references = [clip.intras[v][variant["intra_index"][t]] for clip, variant, v, t in chosen]
    flows = [np.zeros((HEIGHT // 2, WIDTH // 2, 2), np.float32)] * len(picks)
    if flow_from:
        moved = sources if flow_from == "source" else bases
        flows = [optical_flow(_luma(one), _luma(reference)) for one, reference in zip(moved, references, strict=True)]
    unknown = np.full(3, np.nan, np.float32)
    poses = [unknown if clip.poses is None else np.radians(clip.poses[t]) for clip, _, _, t in chosen]
    return Batch(
        _packed(sources),
        _packed(bases),
        _packed(references),
        torch.tensor([float(variant["qp"]) for _, variant, _, _ in chosen]),
        torch.tensor([float(variant["reference_qp"]) for _, variant, _, _ in chosen]),
        torch.from_numpy(np.stack(flows)),
        torch.from_numpy(np.stack(poses)),
    )


def _luma(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return frame[: HEIGHT * WIDTH].reshape(HEIGHT, WIDTH)


def _packed(frames: list[Any]) -> Tensor:
    return pack(torch.from_numpy(np.stack(frames)), HEIGHT, WIDTH)


def _mirror(packed: Tensor, which: Tensor) -> Tensor:
    """Left and right changed in the pictures of `which`: columns, and the two columns of luma within a packed pixel."""
    flipped = packed.flip(-1)[:, [1, 0, 3, 2, 4, 5]]
    return torch.where(which[:, None, None, None], flipped, packed)
