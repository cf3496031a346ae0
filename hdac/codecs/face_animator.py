"""face-vid2vid's networks at work on 8-bit planes: what its encoder and decoder run alike (see `hdac.codecs.animator`)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from data.crop import Box
from hdac.codecs.animator import Size, Stage
from hdac.codecs.base_layer import Planes
from hdac.codecs.view import View
from hdac.nets import vid2vid
from hdac.nets.folding import folded
from hdac.nets.hybrid import condition
from hdac.nets.vid2vid import Parameters, Vid2VidNet
from hdac.network import Network
from hdac.parameters import Motion


@dataclass(frozen=True)
class FaceReference:
    """A reference picture, decoded, and what the networks have made of it."""

    planes: Planes
    seen: vid2vid.Reference


class FaceAnimator:
    """Shows target pictures from a reference and the motion that was sent.

    reference_qp, best_look, box: as of `hdac.codecs.animator.Animator`.
    view: free view (section 3.2): the decoder's own choice.
    """

    def __init__(
        self, network: Network[Vid2VidNet], reference_qp: int, best_look: bool, box: Box | None = None, view: View | None = None
    ) -> None:
        self.condition = condition(None, torch.tensor([float(reference_qp)]), torch.tensor([float(best_look)]))
        self.net = folded(network.net, self.condition)
        self.stage = Stage(self.net.settings.multiple, box)
        self.view = view or View()
        self.reference: FaceReference | None = None

    @torch.inference_mode()
    def refer_to(self, planes: Planes, motion: Motion | None = None) -> None:
        """Takes a new reference picture. motion: as it was sent; None: as the networks find it."""
        seen = self.net.reference(self.stage.packed(self.stage.seen(planes)))
        if motion is not None:
            seen = seen._replace(parameters=_parameters(motion))
        self.reference = FaceReference(planes, seen)

    @torch.inference_mode()
    def motion(self, planes: Planes) -> Motion:
        """Head pose and deformations of a picture."""
        found = self.net.estimate(self.stage.packed(self.stage.seen(planes)))
        return Motion(*(values[0].numpy() for values in found))

    @property
    def at_rest(self) -> Motion:
        """Of the reference."""
        assert self.reference is not None
        return Motion(*(values[0].numpy() for values in self.reference.seen.parameters))

    def rest_at(self, motion: Motion) -> None:
        """Takes another motion of the reference: rounded as that which is sent, so that a still head stays still."""
        assert self.reference is not None
        seen = self.reference.seen._replace(parameters=_parameters(motion))
        self.reference = replace(self.reference, seen=seen)

    def task(self, motion: Motion, size: Size, reference: FaceReference | None = None) -> Callable[[], Planes]:
        """What shows the target picture; several may run at once (`hdac.codecs.in_flight`)."""
        reference = self.reference if reference is None else reference
        assert reference is not None
        return functools.partial(self._shown, reference, motion, size)

    @torch.inference_mode()
    def _shown(self, reference: FaceReference, motion: Motion, size: Size) -> Planes:
        target = _parameters(motion)
        turned = None
        if not self.view.is_own:
            offset = torch.deg2rad(torch.tensor([self.view.angles]))
            turned = vid2vid.rotation(offset) @ vid2vid.rotation(target.angles)  # R_d <- R_u R_d
            target = target._replace(translation=target.translation + torch.tensor([self.view.translation]))
        out = self.net(reference.seen, target, self.condition, turned=turned)
        return self.stage.placed(out, None, reference.planes, reference.planes, size).at()


def _parameters(motion: Motion) -> Parameters:
    values: list[Tensor] = [torch.from_numpy(part)[None] for part in motion]
    return Parameters(*values)
