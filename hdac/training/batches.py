"""Batches of a training run, from the clips of a cache."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdac.label_maps import MIRRORED_CLASSES
from hdac.landmarks import COUNT, MIRRORED
from hdac.nets.flow import optical_flow
from hdac.nets.picture import pack
from hdac.nets.segmentation import SIDE
from hdac.training.cache import HEIGHT, WIDTH, CachedClip

UNKNOWN = 255
"""A label that nobody knows."""

FlowFrom = Literal["base", "source", ""]


@dataclass(frozen=True)
class Batch:
    """A batch of B pictures, and what is known about them.

    source, base, reference: packed (B, 6, H/2, W/2). base_qp, reference_qp: (B,).
    flow:      (B, H/2, W/2, 2) from the base layer, or the source, to the reference; zero where nobody wants it.
    pose:      (B, 3) yaw, pitch and roll of the source in radians, NaN where nobody knows.
    landmarks: (B, 68, 2) of the source in [-1, 1], likewise.
    others:    (B, N, 6, H/2, W/2), more frames of the clips; N = 0 where nobody wants them.
    labels:    uint8 (B, 64, 64), the label maps of the sources, UNKNOWN where nobody knows.
    """

    source: Tensor
    base: Tensor
    reference: Tensor
    base_qp: Tensor
    reference_qp: Tensor
    flow: Tensor
    pose: Tensor
    landmarks: Tensor
    others: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class Wants:
    """What an objective needs besides pictures."""

    flow_from: FlowFrom = ""
    """Whose optical flow to the reference, if any."""
    n_others: int = 0
    """How many more frames of every clip, fewer than `cache.N_TURNED`: those with the head turned farthest to either side, if
    its poses are known."""


def draw(clips: list[CachedClip], rng: np.random.Generator, size: int, wants: Wants = Wants("base")) -> Batch:
    """A random batch: people with equal chances, then one of their clips, a variant, a frame; half of them mirrored.

    Where other frames are wanted, every second picture is of a clip in which the head turns, if there is any; and of those
    every second one has the head turned as far as one of the other frames, the rest less far.
    """
    everybody, turning = _people(clips), _people([clip for clip in clips if wants.n_others and clip.yaw_range > TURNING])
    picks = []
    for i in range(size):
        people = turning if turning and i % 2 else everybody
        person = people[rng.integers(len(people))]
        clip = person[rng.integers(len(person))]
        targets = clip.targets(near=bool(i // 2 % 2)) if people is turning else range(len(clip.source))
        picks.append((clip, int(rng.integers(len(clip.bases))), targets[int(rng.integers(len(targets)))]))
    batch = collect(picks, wants)
    mirrored = torch.from_numpy(rng.random(size) < 0.5)
    return replace(
        batch,
        source=_mirror(batch.source, mirrored),
        base=_mirror(batch.base, mirrored),
        reference=_mirror(batch.reference, mirrored),
        flow=torch.where(mirrored[:, None, None, None], batch.flow.flip(2) * torch.tensor([-1.0, 1.0]), batch.flow),
        pose=torch.where(mirrored[:, None], batch.pose * torch.tensor([-1.0, 1.0, -1.0]), batch.pose),
        landmarks=torch.where(
            mirrored[:, None, None], batch.landmarks[:, MIRRORED] * torch.tensor([-1.0, 1.0]), batch.landmarks
        ),
        others=_mirror(batch.others, mirrored[:, None]),
        labels=torch.where(mirrored[:, None, None], mirrored_labels(batch.labels), batch.labels),
    )


TURNING = 17.2
"""Degrees of yaw, 0.3 rad, by which the head turns in clips that Frontalizer's sources come from (Oquab et al., 2022)."""


def _people(clips: list[CachedClip]) -> list[list[CachedClip]]:
    by_person: dict[str, list[CachedClip]] = {}
    for clip in clips:
        by_person.setdefault(clip.identity, []).append(clip)
    return list(by_person.values())


def collect(picks: list[tuple[CachedClip, int, int]], wants: Wants = Wants("base")) -> Batch:
    """The batch of these (clip, variant, index of a stored frame)."""
    chosen = [(clip, clip.variants[v], v, t) for clip, v, t in picks]
    sources = [clip.source[t] for clip, _, _, t in chosen]
    bases = [clip.bases[v][t] for clip, _, v, t in chosen]
    references = [clip.intras[v][variant["intra_index"][t]] for clip, variant, v, t in chosen]
    flows = [np.zeros((HEIGHT // 2, WIDTH // 2, 2), np.float32)] * len(picks)
    if wants.flow_from:
        moved = sources if wants.flow_from == "source" else bases
        flows = [optical_flow(_luma(one), _luma(reference)) for one, reference in zip(moved, references, strict=True)]
    unsegmented = np.full((SIDE, SIDE), UNKNOWN, np.uint8)
    unknown, nowhere = np.full(3, np.nan, np.float32), np.full((COUNT, 2), np.nan, np.float32)
    poses = [unknown if clip.poses is None else np.radians(clip.poses[t]) for clip, _, _, t in chosen]
    landmarks = [nowhere if clip.landmarks is None else clip.landmarks[t] for clip, _, _, t in chosen]
    return Batch(
        _packed(sources),
        _packed(bases),
        _packed(references),
        torch.tensor([float(variant["qp"]) for _, variant, _, _ in chosen]),
        torch.tensor([float(variant["reference_qp"]) for _, variant, _, _ in chosen]),
        torch.from_numpy(np.stack(flows)),
        torch.from_numpy(np.stack(poses)),
        torch.from_numpy(np.stack(landmarks)),
        _others(picks, wants.n_others),
        torch.from_numpy(np.stack([unsegmented if clip.labels is None else clip.labels[t] for clip, _, _, t in chosen])),
    )


def _others(picks: list[tuple[CachedClip, int, int]], count: int) -> Tensor:
    if not count:
        return torch.zeros(len(picks), 0, 6, HEIGHT // 2, WIDTH // 2)
    frames = [other for clip, v, t in picks for other in clip.others(count, v, t)]
    return _packed(frames).unflatten(0, (len(picks), count))


def _luma(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return frame[: HEIGHT * WIDTH].reshape(HEIGHT, WIDTH)


def _packed(frames: list[Any]) -> Tensor:
    return pack(torch.from_numpy(np.stack(frames)), HEIGHT, WIDTH)


def mirrored_labels(labels: Tensor) -> Tensor:
    """Left and right changed, of places and of classes."""
    table = torch.arange(256, dtype=torch.uint8)
    for left, right in MIRRORED_CLASSES:
        table[left], table[right] = right, left
    return table[labels.flip(-1).long()]


def _mirror(packed: Tensor, which: Tensor) -> Tensor:
    """Left and right changed in the pictures of `which`: columns, and the two columns of luma within a packed pixel."""
    flipped = packed.flip(-1)[..., [1, 0, 3, 2, 4, 5], :, :]
    return torch.where(which[..., None, None, None], flipped, packed)
