"""What a training run minimises: one objective a kind of network (`hdac.nets.models`), all made of the same terms."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from hdac.codecs.mobile import Mobile
from hdac.codecs.point_animator import drawing
from hdac.keypoints import KeypointSettings
from hdac.landmarks import OUTER_EYE_CORNERS
from hdac.nets import vid2vid
from hdac.nets.animation import AnimationNet, PointNet, Points
from hdac.nets.hybrid import HybridNet, Window, condition
from hdac.nets.keypoints import Keypoints
from hdac.nets.landmarks import LandmarkNet, Square, cut, reduced, square_around, to_samples
from hdac.nets.motion import followed
from hdac.nets.picture import to_rgb
from hdac.nets.residual import BLOCK, SHRINK, ResidualNet, blocks_to_samples, gain_number, gain_of, signs_of
from hdac.nets.segmentation import SegmentationNet
from hdac.nets.synthesis import SynthesisNet
from hdac.nets.vid2vid import Parameters, Vid2VidNet
from hdac.network import by_name
from hdac.points import MAX_SOURCES
from hdac.training.batches import UNKNOWN, Batch, Wants
from hdac.training.losses import (
    ThinPlateSpline,
    equivariance,
    flow_error,
    jacobian_equivariance,
    keypoint_prior,
    ms_ssim,
    pose_error,
    psnr_db,
)
from hdac.training.settings import LOADERS, TrainSettings

JACOBIAN_STEP = KeypointSettings.jacobian_step
MAKER, FACE_MAKER = "lite", "face-vid2vid"
"""Weights that make the pictures that residuals are trained on."""
KINDS_OF_PICTURES = ("base", "hdac", "dac", "vid2vid")
"""These pictures."""
STUDENT, SEGMENTER = Mobile.landmark_network, Mobile.segmentation_network
"""Weights that find landmarks, and label maps."""
FEATURES = {"mouth": slice(48, 68), "eyes": slice(36, 48)}
"""Which of the 68 landmarks."""
MARGIN, FEATURE_SIDE = 1.5, 64
"""Chosen: side of the square around mouth or eyes, in that of their longer extent; and in luma samples, when compared."""
CODED = 0.3
"""Chosen: share of base layers among what the landmark student is trained on."""

Outcome = tuple[Tensor, dict[str, Tensor], Tensor, Tensor, Tensor]
"""(loss, its terms, what came out and what was wanted as R'G'B', (B,) which of them ask for best look)."""


class Objective(nn.Module, ABC):
    """The loss of a batch: one forward pass of everything, so that DDP sees all of it. All choices are drawn picture by
    picture."""

    @property
    def wants(self) -> Wants:
        """What batches need besides pictures."""
        return Wants()

    corrections: ClassVar[tuple[str, ...]] = ()
    """Names of `pictures` whose gain over the base layer is reported."""

    def __init__(self, net: nn.Module, settings: TrainSettings) -> None:
        super().__init__()
        self.net = net
        self.settings = settings
        # in a list: neither trained nor saved
        self.judge = [LOADERS[settings.perceptual]()] if settings.perceptual else []

    @abstractmethod
    def forward(self, batch: Batch, generator: torch.Generator) -> Outcome:
        """The loss of a batch."""

    @abstractmethod
    def pictures(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """What validation looks at, packed, by name: pictures of a network, and those that they are compared with."""

    def errors(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """What validation reports besides pictures: by name, a value per picture."""
        return {}

    def all_look(self, look: Tensor, conditioned: bool) -> Tensor:
        """Which pictures ask for best look: all or none of a network that is not told, or where no term would know."""
        s = self.settings
        if (s.perceptual or s.adversarial_weight) and conditioned:
            return look
        return torch.full_like(look, bool(s.perceptual or s.adversarial_weight))

    def window(self, generator: torch.Generator, height: int) -> Window:
        """What is refined and compared of pictures of that height, packed."""
        side = min(self.settings.window // 2, height)
        top, left = (4 * int(torch.randint((height - side) // 4 + 1, (), generator=generator)) for _ in range(2))
        return Window(top, left, side)

    def compare(self, picture: Tensor, wanted: Tensor, look: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
        """Loss and terms of packed pictures against what was wanted, and both as R'G'B'."""
        s = self.settings
        terms = {"psnr": -psnr_db(picture, wanted).mean()}
        loss = s.psnr_weight * terms["psnr"]
        rgb, wanted_rgb = to_rgb(picture.float()), to_rgb(wanted)
        if s.l1_weight:
            terms["l1"] = (rgb - wanted_rgb).abs().mean()
            loss = loss + s.l1_weight * terms["l1"]
        if s.mse_weight:
            terms["mse"] = (rgb - wanted_rgb).square().mean()
            loss = loss + s.mse_weight * terms["mse"]
        if s.ms_ssim_weight:
            terms["ms_ssim"] = 1 - ms_ssim(picture, wanted).mean()
            loss = loss + s.ms_ssim_weight * terms["ms_ssim"]
        rgb = rgb.clamp(0, 1)
        if self.judge and look.any():
            distance = self.judge[0](wanted_rgb[look].clamp(0, 1), rgb[look])
            terms[self.judge[0].column] = distance.mean()
            loss = loss + s.perceptual_weight * distance.sum() / len(look)
        return loss, terms, rgb, wanted_rgb


class HybridObjective(Objective):
    """Of DAC and H-DAC: one network for all of their uses."""

    corrections = ("hdac", "hdac_look")
    net: HybridNet

    @property
    def wants(self) -> Wants:
        return Wants("base")

    def forward(self, batch: Batch, generator: torch.Generator) -> Outcome:
        s, device, b = self.settings, batch.source.device, len(batch.source)
        shares = torch.tensor([[1 - s.no_base], [s.sent], [s.look]])
        with_base, sent, look = (torch.rand(3, b, generator=generator) < shares).to(device)
        look = self.all_look(look, self.net.settings.conditioned)
        sent = sent | ~with_base
        of_source = self.net.detect(batch.source)
        of_base = of_source if s.sent >= 1 else self.net.detect(batch.base)
        reference = self.net.reference(batch.reference)
        target = chosen(sent, quantised(of_source, s.keypoint_step), of_base)
        at_rest = chosen(sent, quantised(reference.keypoints, s.keypoint_step), reference.keypoints)
        known = condition(batch.base_qp, batch.reference_qp, look.float())
        known = torch.cat((known[:, :2] * with_base[:, None], known[:, 2:]), dim=1)
        height = batch.source.shape[-2]
        window = self.window(generator, height)
        part = window if self.net.settings.colour == "packed" else None
        out = self.net(reference._replace(keypoints=at_rest), target, batch.base, known, part, batch.flow)
        picture, wanted = out.picture if part else window.of(out.picture, height), window.of(batch.source, height)
        loss, terms, rgb, wanted_rgb = self.compare(picture, wanted, look)
        terms["warp"] = -psnr_db(out.warped, batch.source).mean()
        loss = loss + s.warp_weight * terms["warp"]
        jacobian_weight = s.jacobian_weight if of_source.jacobian is not None else 0
        if s.equivariance_weight or jacobian_weight:
            transform = ThinPlateSpline(b, generator)
            deformed = self.net.detect(transform.deform(batch.source))
            terms["equivariance"] = equivariance(of_source, deformed, transform)
            loss = loss + s.equivariance_weight * terms["equivariance"]
            if jacobian_weight:
                terms["jacobian"] = jacobian_equivariance(of_source, deformed, transform)
                loss = loss + jacobian_weight * terms["jacobian"]
        return loss, terms, rgb, wanted_rgb, look

    def pictures(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The base layer, H-DAC (motion from the base layer) for least error and best look, H-DAC with sent keypoints, DAC."""
        assert isinstance(net, HybridNet)
        step = self.settings.keypoint_step
        none, all_ = torch.zeros_like(batch.base_qp), torch.ones_like(batch.base_qp)
        reference = net.reference(batch.reference)
        at_rest = reference._replace(keypoints=quantised(reference.keypoints, step))
        seen, sent = net.detect(batch.base), quantised(net.detect(batch.source), step)
        known, look = (condition(batch.base_qp, batch.reference_qp, wish) for wish in (none, all_))
        return {
            "base": batch.base,
            "hdac": net(reference, seen, batch.base, known, flow=batch.flow).picture,
            "hdac_sent": net(at_rest, sent, batch.base, known, flow=batch.flow).picture,
            "hdac_look": net(reference, seen, batch.base, look, flow=batch.flow).picture,
            "dac": net(at_rest, sent, None, condition(None, batch.reference_qp, none)).picture,
            "dac_look": net(at_rest, sent, None, condition(None, batch.reference_qp, all_)).picture,
        }


class Vid2VidObjective(Objective):
    """Of face-vid2vid: Eq. 5 with the weights of section A.2, and our terms of PSNR and flow."""

    net: Vid2VidNet

    @property
    def wants(self) -> Wants:
        wanted = self.net.settings.tracked or self.settings.flow_weight
        return Wants("source" if wanted and not self.settings.only_pose else "")

    def forward(self, batch: Batch, generator: torch.Generator) -> Outcome:
        s, device, b = self.settings, batch.source.device, len(batch.source)
        found = self.net.estimate(batch.source)
        pose = pose_error(found.angles, batch.pose)
        if s.only_pose:
            rgb = to_rgb(batch.source)
            return s.pose_weight * pose, {"pose": pose}, rgb, rgb, torch.zeros(b, dtype=torch.bool, device=device)
        drawn = torch.rand(2, b, generator=generator)
        look = self.all_look((drawn[0] < s.look).to(device), self.net.settings.conditioned)
        n = self.net.settings.n_keypoints
        kept = (n * (1 - s.dropout * drawn[1])).round().to(device)
        kept = torch.where(torch.arange(b, device=device) % 2 == 0, n, kept)  # half of them: all
        # of our coder what is not sent stays what it was, at first that of the reference; of the paper's it is zero
        held = (torch.rand(b, generator=generator) < 0.5).to(device)
        reference = self.net.reference(batch.reference)
        sent = vid2vid.tracked(reference, found, batch.flow) if self.net.settings.tracked else found
        target = quantised_parameters(sent, s.keypoint_step).first(kept, reference.parameters, held)
        known = condition(None, batch.reference_qp, look.float())
        height = batch.source.shape[-2]
        window = self.window(generator, height)
        part = window if self.net.settings.skips else None
        out = self.net(reference, target, known, part)
        picture, wanted = out.picture if part else window.of(out.picture, height), window.of(batch.source, height)
        loss, terms, rgb, wanted_rgb = self.compare(picture, wanted, look)
        terms["warp"] = -psnr_db(out.warped, batch.source).mean()
        loss = loss + s.warp_weight * terms["warp"]
        placed = vid2vid.keypoints(reference.canonical, found)
        transform = ThinPlateSpline(b, generator)
        deformed = vid2vid.keypoints(reference.canonical, self.net.estimate(transform.deform(batch.source)))
        terms["equivariance"] = equivariance(Keypoints(placed[..., :2]), Keypoints(deformed[..., :2]), transform)
        terms["prior"] = keypoint_prior(placed)
        terms["pose"] = pose
        terms["deformation"] = sent.deformation.abs().sum(-1).mean()
        if self.net.estimator.template is not None:  # what a person's own canonical keypoints differ by deforms them, too
            own = reference.canonical - self.net.estimator.template
            terms["deformation"] = terms["deformation"] + own.abs().sum(-1).mean()
        if s.flow_weight:
            terms["flow"] = flow_error(out.motion.deformation, batch.flow, batch.source, batch.reference)
            loss = loss + s.flow_weight * terms["flow"]
        weights = {
            "equivariance": s.equivariance_weight,
            "prior": s.prior_weight,
            "pose": s.pose_weight,
            "deformation": s.deformation_weight,
        }
        for name, weight in weights.items():
            loss = loss + weight * terms[name]
        return loss, terms, rgb, wanted_rgb, look

    def errors(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The head pose against the teacher's: mean absolute difference of three angles in degrees, where it is known."""
        assert isinstance(net, Vid2VidNet)
        known = ~batch.pose.isnan().any(-1)
        difference = (net.estimate(batch.source).angles - batch.pose)[known]
        return {"pose_degrees": torch.rad2deg(difference.abs().mean(-1))}

    def pictures(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The reference as it is, moved by all deformations, by all for best look, by a quarter of them, and by the pose
        alone."""
        assert isinstance(net, Vid2VidNet)
        if self.settings.only_pose:
            return {}
        reference = net.reference(batch.reference)
        found = net.estimate(batch.source)
        if net.settings.tracked:
            found = vid2vid.tracked(reference, found, batch.flow)
        found = quantised_parameters(found, self.settings.keypoint_step)
        none, all_ = torch.zeros_like(batch.base_qp), torch.ones_like(batch.base_qp)
        known, look = (condition(None, batch.reference_qp, wish) for wish in (none, all_))
        n = net.settings.n_keypoints
        return {
            "reference": batch.reference,
            "moved": net(reference, found, look).warped,
            "vid2vid": net(reference, found, known).picture,
            "vid2vid_look": net(reference, found, look).picture,
            "vid2vid_quarter": net(reference, found.first(all_ * (n // 4), reference.parameters, all_ > 0), look).picture,
            "vid2vid_pose": net(reference, found.first(none, reference.parameters, none > 0), look).picture,
        }


class ResidualObjective(Objective):
    """Of binary residuals: over base layers, and over what networks that are there already make of them."""

    net: ResidualNet

    @property
    def wants(self) -> Wants:
        return Wants("base")

    def __init__(self, net: nn.Module, settings: TrainSettings) -> None:
        super().__init__(net, settings)
        if settings.window % (BLOCK * SHRINK):
            raise InputError(f"window {settings.window} is not a multiple of a residual's blocks, {BLOCK * SHRINK}")
        # in lists: neither trained nor saved
        self.maker = [by_name(MAKER, HybridNet).net]
        self.face_maker = [by_name(FACE_MAKER, Vid2VidNet).net]

    def lacking(self, batch: Batch, kind: Tensor, look: Tensor) -> Tensor:
        """Pictures that lack something, packed. kind, (B,): index in KINDS_OF_PICTURES. look, (B,): which of them were made for
        best look."""
        maker, face_maker = self.maker[0].to(batch.source.device), self.face_maker[0].to(batch.source.device)
        found = batch.base.clone()
        with torch.no_grad():
            if (fused := kind == 1).any():
                base, reference = batch.base[fused], maker.reference(batch.reference[fused])
                known = condition(batch.base_qp[fused], batch.reference_qp[fused], look[fused].float())
                picture = maker(reference, maker.detect(base), base, known, flow=batch.flow[fused]).picture
                found[fused] = picture.to(found.dtype)
            if (animated := kind == 2).any():
                reference = maker.reference(batch.reference[animated])
                known = condition(None, batch.reference_qp[animated], look[animated].float())
                found[animated] = maker(reference, maker.detect(batch.source[animated]), None, known).picture.to(found.dtype)
            if (faces := kind == 3).any():
                seen = face_maker.reference(batch.reference[faces])
                known = condition(None, batch.reference_qp[faces], look[faces].float())
                motion = face_maker.estimate(batch.source[faces])
                if face_maker.settings.tracked:  # the base layer's flow is nearly the source's
                    motion = vid2vid.tracked(seen, motion, batch.flow[faces])
                motion = quantised_parameters(motion, self.settings.keypoint_step)
                found[faces] = face_maker(seen, motion, known).picture.to(found.dtype)
        return found.clamp(0, 1)

    def forward(self, batch: Batch, generator: torch.Generator) -> Outcome:
        s, device, b = self.settings, batch.source.device, len(batch.source)
        kind = torch.randint(len(KINDS_OF_PICTURES), (b,), generator=generator).to(device)
        made_for_look, judged = (torch.rand(2, b, generator=generator) < torch.tensor([[0.5], [s.look]])).to(device)
        look = judged & bool(s.perceptual or s.adversarial_weight)  # the network is not told: they are what it is judged by
        picture, height = self.lacking(batch, kind, made_for_look), batch.source.shape[-2]
        window = self.window(generator, height)
        picture, wanted = (window.of(one, height) for one in (picture, batch.source))
        gain = gain_of(gain_number(wanted - picture))[:, None, None, None]
        signs = signs_of(self.net.encode((wanted - picture) / gain))
        shape = (b, 1, *(n // BLOCK for n in signs.shape[-2:]))
        whole = torch.rand(b, 1, 1, 1, generator=generator) >= s.holes
        kept = (torch.rand(shape, generator=generator) > torch.rand(b, 1, 1, 1, generator=generator)) | whole
        blocks = kept.to(device, signs.dtype)
        there = blocks_to_samples(blocks)
        signs = signs * there
        enhanced = picture + gain * self.net.decode(signs, blocks)
        loss, terms, rgb, wanted_rgb = self.compare(enhanced, wanted, look)
        surprise = F.softplus(-self.net.context(signs).float() * signs.float()) * there.float() / math.log(2)
        terms["bits"] = surprise.sum() / (there.float().sum() * signs.shape[1]).clamp_min(1)
        return loss + s.rate_weight * terms["bits"], terms, rgb, wanted_rgb, look

    def pictures(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The base layer, H-DAC's picture for least error, DAC's, and face-vid2vid's for best look, without and with their
        residuals."""
        assert isinstance(net, ResidualNet)
        found = {}
        for number, name in enumerate(KINDS_OF_PICTURES):
            kind = torch.full_like(batch.base_qp, number)
            picture = self.lacking(batch, kind, torch.full_like(kind, float(name == "vid2vid")))
            gain = gain_of(gain_number(batch.source - picture))[:, None, None, None]
            signs = signs_of(net.encode((batch.source - picture) / gain))
            blocks = torch.ones_like(signs[:, :1, ::BLOCK, ::BLOCK])
            found[name] = picture
            found[f"{name}_residual"] = picture + gain * net.decode(signs, blocks)
        return found


class AnimationObjective(Objective):
    """Of the mobile family. Landmarks, and label maps, are those that the students find, as in the codec."""

    net: PointNet

    def __init__(self, net: nn.Module, settings: TrainSettings) -> None:
        super().__init__(net, settings)
        s = self.net.settings
        # in lists: neither trained nor saved
        self.student = [by_name(STUDENT, LandmarkNet).net] if s.landmarks_sent else []
        self.segmenter = [by_name(SEGMENTER, SegmentationNet).net] if s.map_side else []
        self.teacher = [by_name(settings.teacher, PointNet).net] if settings.teacher else []

    @property
    def wants(self) -> Wants:
        return Wants("" if self.settings.only_detector else "source", MAX_SOURCES - 1 if self.net.settings.frontal else 0)

    def landmarks(self, picture: Tensor) -> Tensor | None:
        """(B, 68, 2), as a decoder has them; None where the network needs none."""
        if not self.student:
            return None
        student = self.student[0].to(picture.device)
        with torch.no_grad(), torch.autocast(picture.device.type, enabled=False):
            return _rounded(student(picture).clamp(-1, 1), self.settings.keypoint_step)

    def labels(self, picture: Tensor, landmarks: Tensor | None) -> Tensor | None:
        """What the network wants drawn of landmarks, or the label map; (B, h, w)."""
        if self.segmenter:
            segmenter = self.segmenter[0].to(picture.device)
            with torch.no_grad(), torch.autocast(picture.device.type, enabled=False):
                found: Tensor = segmenter(picture, self.net.settings.map_side).argmax(1)
            return found
        if landmarks is None:
            return None
        drawn = [drawing(self.net, points, picture.shape[-2:]) for points in landmarks.cpu().numpy()]
        there = [one for one in drawn if one is not None]
        return torch.from_numpy(np.stack(there)).to(picture.device) if there else None

    def reference(self, net: PointNet, batch: Batch, n_others: int) -> Any:
        """Of the batch's references and the first of its other frames."""
        pictures = [batch.reference, *batch.others.unbind(1)[:n_others]]
        sources = []
        for picture in pictures:
            learned = net.detect(picture)
            learned = None if learned is None else quantised(learned, self.settings.keypoint_step)
            landmarks = self.landmarks(picture)
            labels = self.labels(picture, landmarks) if net.settings.sketched else None
            sources.append(net.source(picture, Points(learned, landmarks, labels)))
        return net.reference(sources)

    def target(self, net: PointNet, batch: Batch, reference: Any, found: Keypoints | None) -> Points:
        """What is sent of the batch's sources. found: keypoints that the detector has found in them."""
        s, step = net.settings, self.settings.keypoint_step
        learned = found
        if learned is not None and s.tracked:
            start = reference.sources[0].points.position[:, : s.n_learned]
            learned = Keypoints(followed(start, batch.flow))
        landmarks = self.landmarks(batch.source)
        labels = self.labels(batch.source, landmarks)
        expression = net.express(batch.source)
        if expression is not None:
            expression = _rounded(expression, step)
        return Points(None if learned is None else quantised(learned, step), landmarks, labels, expression)

    def forward(self, batch: Batch, generator: torch.Generator) -> Outcome:
        s, device, b = self.settings, batch.source.device, len(batch.source)
        terms: dict[str, Tensor] = {}
        loss = torch.zeros((), device=device)
        told = isinstance(self.net, AnimationNet)  # networks that draw do not look at the condition
        look = self.all_look((torch.rand(b, generator=generator) < s.look).to(device), told)
        if s.only_detector:  # which sees small pictures: all else is done at that size, too
            assert isinstance(self.net, AnimationNet)
            batch = replace(batch, source=self.net.small(batch.source))
        found = self.net.detect(batch.source)
        if s.only_detector:
            assert found is not None
            blank = torch.zeros(b, 3, 1, 1, device=device)
            return self.detected(found, batch, generator, terms), terms, blank, blank, torch.zeros_like(look)
        n_others = int(torch.randint(MAX_SOURCES, (), generator=generator)) if self.net.settings.frontal else 0
        reference = self.reference(self.net, batch, n_others)
        target = self.target(self.net, batch, reference, found)
        known = condition(None, batch.reference_qp, look.float())
        height = batch.source.shape[-2]
        window = self.window(generator, height)
        out = self.net(reference, target, known, window)
        compared, more, rgb, wanted_rgb = self.compare(out.picture, window.of(batch.source, height), look)
        terms.update(more)
        loss = loss + compared
        if s.feature_weight:
            loss = loss + s.feature_weight * self.features(out.picture, window, batch, look, terms)
        terms["warp"] = -psnr_db(out.warped, batch.source).mean()
        loss = loss + s.warp_weight * terms["warp"]
        if s.flow_weight and self.net.settings.n_points and (reference.flows is None or self.net.settings.direct):
            terms["flow"] = flow_error(out.motion.deformation, batch.flow, batch.source, batch.reference)
            loss = loss + s.flow_weight * terms["flow"]
        if found is not None:
            loss = loss + self.detected(found, batch, generator, terms)
        return loss, terms, rgb, wanted_rgb, look

    def features(self, picture: Tensor, window: Window, batch: Batch, look: Tensor, terms: dict[str, Tensor]) -> Tensor:
        """The loss of mouths and eyes, of those that lie in the window as a whole. picture: of the window, packed."""
        height, width = (2 * n for n in batch.source.shape[-2:])
        points = to_samples(batch.landmarks, height, width)
        corner = torch.tensor([2.0 * window.left, 2.0 * window.top], device=points.device)
        loss = torch.zeros((), device=picture.device)
        for name, part in FEATURES.items():
            low, high = points[:, part].amin(1), points[:, part].amax(1)
            square = Square((low + high) / 2, MARGIN * (high - low).amax(-1), torch.zeros_like(low[:, 0]))
            far = torch.minimum(square.centre - corner, corner + 2 * window.side - 1 - square.centre)
            inside = far.amin(-1) >= square.side / 2
            if not inside.any():  # or no landmarks are known: comparisons with NaN are false
                continue
            there = Square(*(values[inside] for values in square))
            wanted = cut(batch.source[inside], there, FEATURE_SIDE)
            shown = cut(picture[inside], there._replace(centre=there.centre - corner), FEATURE_SIDE)
            off = -psnr_db(shown, wanted)
            terms[name] = off.mean()
            loss = loss + self.settings.psnr_weight * off.sum() / len(picture)
            best = look[inside]
            if self.judge and best.any():
                distance = self.judge[0](to_rgb(wanted)[best].clamp(0, 1), to_rgb(shown)[best].clamp(0, 1))
                loss = loss + self.settings.perceptual_weight * distance.sum() / len(picture)
        return loss

    def detected(self, found: Keypoints, batch: Batch, generator: torch.Generator, terms: dict[str, Tensor]) -> Tensor:
        """The terms of the keypoint detector, on what it has found in sources."""
        s = self.settings
        loss = torch.zeros((), device=found.position.device)
        seen, picture = found, batch.source
        jacobian_weight = s.jacobian_weight if found.jacobian is not None else 0
        if s.equivariance_weight or jacobian_weight:
            transform = ThinPlateSpline(len(batch.source), generator)
            changed = transform.deform(batch.source)
            deformed = self.net.detect(changed)
            assert deformed is not None
            if s.only_detector:  # a teacher has something to say of these, too, and there are more of them than of frames
                half = len(batch.source) // 2
                seen, picture = _joined(found, deformed, half), torch.cat((batch.source[:half], changed[half:]))
            terms["equivariance"] = equivariance(found, deformed, transform)
            loss = loss + s.equivariance_weight * terms["equivariance"]
            if jacobian_weight:
                terms["jacobian"] = jacobian_equivariance(found, deformed, transform)
                loss = loss + jacobian_weight * terms["jacobian"]
        if s.tracking_weight and not s.only_detector:
            at_rest = self.net.detect(batch.reference)
            assert at_rest is not None
            terms["tracking"] = (found.position - followed(at_rest.position.detach(), batch.flow)).abs().sum(-1).mean()
            loss = loss + s.tracking_weight * terms["tracking"]
        if self.teacher:
            terms["distill"] = self.unlike_teacher(seen, picture).mean()
            loss = loss + s.distill_weight * terms["distill"]
        return loss

    def unlike_teacher(self, found: Keypoints, picture: Tensor) -> Tensor:
        """The distillation loss of every picture, (B,), whose form Lu and Zheng leave open. Chosen: the distance of keypoints
        and a tenth of that of Jacobians."""
        with torch.no_grad():
            wanted = self.teacher[0].to(picture.device).detect(picture)
        assert wanted is not None
        distance = (found.position - wanted.position).abs().sum(-1).mean(-1)
        if found.jacobian is not None and wanted.jacobian is not None:
            distance = distance + 0.1 * (found.jacobian - wanted.jacobian).abs().mean((1, 2, 3))
        return distance

    def errors(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """What the keypoints are unlike the teacher's, where there is one."""
        assert isinstance(net, PointNet)
        found = net.detect(batch.source) if self.teacher else None
        return {} if found is None else {"unlike_teacher": self.unlike_teacher(found, batch.source)}

    def pictures(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The reference as it is, moved, and repaired for least error and for best look; with all sources there are."""
        assert isinstance(net, PointNet)
        if self.settings.only_detector:
            return {}
        none, all_ = torch.zeros_like(batch.base_qp), torch.ones_like(batch.base_qp)
        known, look = (condition(None, batch.reference_qp, wish) for wish in (none, all_))
        reference = self.reference(net, batch, batch.others.shape[1])
        target = self.target(net, batch, reference, net.detect(batch.source))
        best = net(reference, target, look)
        return {
            "reference": batch.reference,
            "moved": best.warped,
            "animated": net(reference, target, known).picture,
            "animated_look": best.picture,
        }


def _joined(a: Keypoints, b: Keypoints, n: int) -> Keypoints:
    """The first n of one, the others of the other."""
    jacobian = None if a.jacobian is None or b.jacobian is None else torch.cat((a.jacobian[:n], b.jacobian[n:]))
    return Keypoints(torch.cat((a.position[:n], b.position[n:])), jacobian)


class SegmentationObjective(Objective):
    """Of the segmentation student: cross entropy against the teacher's classes, on sources and coded pictures."""

    net: SegmentationNet

    def forward(self, batch: Batch, generator: torch.Generator) -> Outcome:
        device, b = batch.source.device, len(batch.source)
        coded = (torch.rand(b, 1, 1, 1, generator=generator) < CODED).to(device)
        scores = self.net(torch.where(coded, batch.base, batch.source), batch.labels.shape[-1])
        known = (batch.labels != UNKNOWN).sum().clamp_min(1)
        loss = F.cross_entropy(scores, batch.labels.long(), ignore_index=UNKNOWN, reduction="sum") / known
        blank = torch.zeros(b, 3, 1, 1, device=device)
        return loss, {"segmentation": loss}, blank, blank, torch.zeros(b, dtype=torch.bool, device=device)

    def pictures(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {}

    def errors(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Share of samples with another class than the teacher's."""
        assert isinstance(net, SegmentationNet)
        found = net(batch.source, batch.labels.shape[-1]).argmax(1)
        known = batch.labels != UNKNOWN
        wrong = (found != batch.labels) & known
        return {"wrong_labels": wrong.sum((1, 2)) / known.sum((1, 2)).clamp_min(1)}


class LandmarkObjective(Objective):
    """Of the landmark student: distance from the teacher's points over that of the outer eye corners, of both its networks.

    The coarse network sees pictures scaled, turned and shifted, the fine one squares that are off by as much as those of the
    coarse one are; both see coded pictures as well as sources, in all shades.
    """

    net: LandmarkNet

    def forward(self, batch: Batch, generator: torch.Generator) -> Outcome:
        device, b = batch.source.device, len(batch.source)

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return (low + (high - low) * torch.rand(b, *shape, generator=generator)).to(device)

        picture = torch.where(uniform(0, 1, 1, 1, 1) < CODED, batch.base, batch.source)
        picture = (picture * uniform(0.7, 1.3, 1, 1, 1) + uniform(-0.1, 0.1, 1, 1, 1)).clamp(0, 1)
        height, width = (2 * n for n in picture.shape[-2:])
        known = ~batch.landmarks.isnan().any(-1).any(-1)
        points = to_samples(batch.landmarks.nan_to_num(), height, width)
        around, whole = square_around(points), self.net.whole(picture)
        far = Square(
            around.centre + around.side[:, None] * uniform(-0.2, 0.2, 2),
            torch.maximum(whole.side * uniform(0.5, 1.2), 1.2 * around.side),
            uniform(-0.5, 0.5),
        )
        near = Square(
            around.centre + around.side[:, None] * uniform(-0.08, 0.08, 2),
            around.side * uniform(0.85, 1.2),
            around.angle + uniform(-0.2, 0.2),
        )
        terms = {}
        sides = self.net.settings.sides
        for name, network, square, seen, side in (
            ("coarse", self.net.coarse, far, reduced(picture), sides[0]),
            ("fine", self.net.fine, near, picture, sides[1]),
        ):
            wanted = square.from_picture(points)
            off = eye_distances(network(cut(seen, square, side)), wanted)
            terms[name] = (off * known).sum() / known.sum().clamp_min(1)
        blank = torch.zeros(b, 3, 1, 1, device=device)
        return terms["coarse"] + terms["fine"], terms, blank, blank, torch.zeros(b, dtype=torch.bool, device=device)

    def pictures(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {}

    def errors(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """NME against the teacher, on sources and on their base layers: distance over that of the outer eye corners."""
        assert isinstance(net, LandmarkNet)
        known = ~batch.landmarks.isnan().any(-1).any(-1)
        found = {"nme": net(batch.source), "nme_base": net(batch.base)}
        return {name: eye_distances(points, batch.landmarks)[known] for name, points in found.items()}


def eye_distances(points: Tensor, wanted: Tensor) -> Tensor:
    """Mean distance of landmarks (B, 68, 2) from those that were wanted, over the distance of their outer eye corners, (B,)."""
    left, right = (wanted[:, i] for i in OUTER_EYE_CORNERS)
    eyes = torch.linalg.vector_norm(right - left, dim=-1).clamp_min(1e-3)
    return torch.linalg.vector_norm(points - wanted, dim=-1).mean(-1) / eyes


OBJECTIVES: dict[type[nn.Module], type[Objective]] = {
    HybridNet: HybridObjective,
    Vid2VidNet: Vid2VidObjective,
    ResidualNet: ResidualObjective,
    LandmarkNet: LandmarkObjective,
    AnimationNet: AnimationObjective,
    SynthesisNet: AnimationObjective,
    SegmentationNet: SegmentationObjective,
}


def chosen(which: Tensor, a: Keypoints, b: Keypoints) -> Keypoints:
    """Those of `a` where `which`, (B,), is true, else those of `b`."""
    position = torch.where(which[:, None, None], a.position, b.position)
    if a.jacobian is None or b.jacobian is None:
        return Keypoints(position)
    return Keypoints(position, torch.where(which[:, None, None, None], a.jacobian, b.jacobian))


def quantised(found: Keypoints, step: int) -> Keypoints:
    """As a decoder gets them; the gradient passes as if they had not been rounded."""
    jacobian = None if found.jacobian is None else _rounded(found.jacobian, JACOBIAN_STEP)
    return Keypoints(_rounded(found.position, step), jacobian)


def quantised_parameters(found: Parameters, step: int) -> Parameters:
    """Likewise of face-vid2vid's."""
    return Parameters(*(_rounded(values, step) for values in found))


def _rounded(values: Tensor, step: int) -> Tensor:
    return values + ((values * step).round() / step - values).detach()
