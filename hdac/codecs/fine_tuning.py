"""A network fine-tuned to the person of a call, from the reference pictures that a decoder has (Zakharov et al., "Few-shot
adversarial learning of realistic neural talking head models", ICCV 2019, section 3.3): for no bits, and for time.

The encoder does not know of it, and two machines do not come to the same pictures: it is what a viewer may ask for, as from
where a face is seen, and no part of the stream.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from hdac.nets.animation import PointNet, Points
from hdac.nets.keypoints import Keypoints

LEARNING_RATE = 2e-4  # chosen

NetT = TypeVar("NetT", bound=PointNet)


def fine_tuned(net: NetT, pictures: Sequence[tuple[Tensor, Points]], condition: Tensor, steps: int) -> NetT:
    """A copy that draws these pictures, packed (1, 6, H/2, W/2), from their own points more like what they are; each from
    itself, or, where the network merges several references, from all of them.

    The loss is the mean absolute difference of samples; norms keep their statistics.
    """
    with torch.inference_mode(False), torch.enable_grad():
        own = copy.deepcopy(net).eval().requires_grad_(True)
        seen = [(picture.clone(), _cloned(points)) for picture, points in pictures]
        known = condition.clone()
        optimizer = torch.optim.Adam(own.parameters(), LEARNING_RATE)
        for step in range(steps):
            picture, points = seen[step % len(seen)]
            together = seen if own.settings.frontal else [(picture, points)]
            reference = own.reference([own.source(*one) for one in together])
            loss = (own(reference, points, known).picture - picture).abs().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return own.requires_grad_(False)


def _cloned(points: Points) -> Points:
    """What is differentiated through must not have been made in inference mode."""
    learned = points.learned
    if learned is not None:
        learned = Keypoints(learned.position.clone(), None if learned.jacobian is None else learned.jacobian.clone())
    return Points(learned, *(None if part is None else part.clone() for part in points[1:]))
