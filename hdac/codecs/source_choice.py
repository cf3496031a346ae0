"""Which pictures of a clip are worth being references (Oquab et al. 2022): the one that looks most into the camera with open
eyes, then those that are turned farthest to either side."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.clip import Clip
from data.crop import Box
from hdac.codecs.animator import Stage
from hdac.landmarks import eyes_open, turn
from hdac.nets.landmarks import LandmarkNet
from hdac.network import Network

OPEN = 0.8
"""Chosen: eyes are open that are open by so much of what they are in half of the frames, or more."""


class SourceChoice:
    """Of a clip whose landmarks are known, float32 (T, 68, 2)."""

    def __init__(self, landmarks: NDArray[np.float32]) -> None:
        self.turns = np.array([turn(points) for points in landmarks])
        openness = np.array([eyes_open(points) for points in landmarks])
        awake = openness >= OPEN * np.median(openness)
        self.frontal = int(np.argmin(np.where(awake, np.abs(self.turns), np.inf)))

    @property
    def extremes(self) -> tuple[int, int]:
        """The frames that are turned farthest to either side."""
        return int(np.argmin(self.turns)), int(np.argmax(self.turns))

    def extreme(self, t: int) -> int:
        """The frame that is turned farthest to the side to which frame t is turned, seen from the frontal one."""
        towards = self.turns - self.turns[self.frontal]
        return int(np.argmax(towards if towards[t] >= 0 else -towards))


@torch.inference_mode()
def landmarks_of(clip: Clip, student: Network[LandmarkNet], multiple: int, box: Box | None) -> NDArray[np.float32]:
    """(T, 68, 2) of every picture, in [-1, 1] of what networks see of it. multiple, box: as of `Stage`."""
    stage = Stage(multiple, box)
    found: list[Tensor] = []
    for planes in zip(clip.y, clip.u, clip.v, strict=True):
        packed = stage.packed(stage.seen(planes))
        found.append(student.net.follow(packed, found[-1]) if found else student.net(packed))
    points: NDArray[np.float32] = torch.cat(found).numpy()
    return points
