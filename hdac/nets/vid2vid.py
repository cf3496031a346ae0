"""The networks of face-vid2vid: Wang, Mallya, Liu, "One-shot free-view neural talking-head synthesis for video
conferencing", CVPR 2021. Letters are the paper's.

    reference --> F: 2D blocks, 1x1, folded into a volume, 3D blocks --> appearance volume --- warp --\\
        \\------> L: U-Net, 2D down and 3D up --> canonical keypoints x_c \\                           > G: 2D blocks -->
         picture \\-----> H: head pose (R, t) \\          (Eq. 1, 3) x = R x_c + t + delta --> M: 3D U-Net --/
    target -----> Delta: expression --/                                              masks of K + 1 flows, occlusion

What a stream carries of a target picture is its `Parameters`: three angles, a translation, and K deformations, of which those
behind the first few may be missing (keypoint dropout at training). Jacobians of keypoints are not estimated: with J = R J_c
(Eq. 2, 4), in J_s J_d^-1 = R_s R_d^T (Eq. 6) the canonical ones cancel.

Sizes: `PAPER` has the widths of the paper's Fig. 12 and works on RGB; `LITE` has the same parts with volumes of 8 channels, 8
slices and 32x32 samples, works on packed 4:2:0 pictures, and (ours) warps the reference picture itself, too: M says which
slice of the volume is seen at each place, and the flow there, without its depth, is a motion of the picture. G corrects what
has been moved, as in `hdac.nets.hybrid`. And (ours) its keypoints spread over the whole reference picture, each near an anchor
of its own, found by heat maps as FOMM's; and where they have gone to in a target picture, the encoder knows from optical flow
(`tracked`), better than a small network can say from that picture alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from hdac.nets.fusion import FUSIONS
from hdac.nets.hybrid import CONDITION, MOTION_SIDE, Encoder, Level, NetSettings, Output, Window
from hdac.nets.keypoints import HEAT_SIDE, TEMPERATURE, DetectorSettings, KeypointDetector, Keypoints, anchors
from hdac.nets.layers import (
    AntiAlias,
    DownBlock,
    ResBlock,
    SameBlock,
    UpBlock,
    conv,
    resize_field,
    warp,
    warp_packed,
)
from hdac.nets.motion import REFINEMENT, VARIANCE, Motion, followed
from hdac.nets.picture import PACKED_CHANNELS, from_rgb, to_rgb
from hdac.nets.settings import NetworkSettings
from hdac.nets.volume import Conv3d, Hourglass3d, ResBlock3d, SameBlock3d, UpBlock3d, coordinate_grid3d, warp3d
from hdac.parameters import MAX_KEYPOINTS, table_shape

MASK_REACH, MASK_BACKGROUND = 0.2, -4.0  # chosen on people held out of training: flow is interpolated well with these alone
OWN_SHARE = 0.2  # chosen: a person's own canonical keypoints are the template and so much of what L finds
ANCHORED = 0.15  # chosen: about half the distance from anchor to anchor, so that they stay apart
N_BINS, BIN_DEGREES = 66, 3.0  # section A.1: the full range of an angle, in bins; Hopenet's (Ruiz et al.) are 3 degrees wide


class Parameters(NamedTuple):
    """Motion of a picture: what H and Delta find.

    angles:      (B, 3) yaw, pitch, roll in radians.
    translation: (B, 3), (x, y, z) in units of keypoints.
    deformation: (B, K, 3).
    """

    angles: Tensor
    translation: Tensor
    deformation: Tensor

    def first(self, k: Tensor, before: Parameters, held: Tensor) -> Parameters:
        """With the first k, (B,), deformations alone; the others are those of before where `held`, (B,), is true, else zero."""
        number = torch.arange(self.deformation.shape[1], device=k.device)
        rest = before.deformation * held[:, None, None]
        return self._replace(deformation=torch.where((number < k[:, None])[..., None], self.deformation, rest))


class Reference(NamedTuple):
    """What a decoder keeps of a reference picture."""

    picture: Tensor
    """Packed (B, 6, H/2, W/2)."""
    canonical: Tensor
    """x_c, (B, K, 3)."""
    parameters: Parameters
    volume: Tensor
    """f_s, (B, C, D, h, w)."""
    features: list[Tensor]
    """Of F's 2D blocks, largest size first."""


@dataclass(frozen=True)
class Vid2VidSettings(NetworkSettings):
    """Everything that determines the shapes; a checkpoint carries it. The defaults are the paper's."""

    name: str
    n_keypoints: int = 20
    colour: str = "rgb"
    """What convolutions see: "rgb" at full size, or "packed" 4:2:0 at half size."""
    widths: tuple[int, ...] = (64, 128, 256)
    """Channels of F's 2D blocks and of G, at full, half, .. size of what convolutions see."""
    volume_channels: int = 32
    volume_depth: int = 16
    n_volume_blocks: int = 6
    n_blocks: int = 6
    """2D residual blocks of G at the smallest size."""
    n_outer_blocks: tuple[int, ...] = (0, 0)
    kernel: int = 7
    """Of the first and last convolutions of F and G."""
    detector: tuple[int, int, int] = (32, 1024, 5)
    """L: width, largest width, down blocks of its U-Net over 64x64 pictures."""
    volume_side: int = 64
    """Height and width of the volume and of L's heat maps: a quarter of a 256x256 picture's; those of other sizes are scaled
    to it."""
    estimator_first: int = 64
    """H, Delta: channels of the first convolution."""
    estimator: tuple[tuple[int, int], ...] = ((256, 3), (512, 4), (1024, 6), (2048, 3))
    """Channels and number of bottleneck blocks from 64x64 on, each stage but the first at half the size: ResNet-50."""
    located: tuple[int, int, int] | None = None
    """Keypoints by heat maps over 64x64 pictures, around anchors (ours): width, largest width, down blocks of their U-Net.
    None: t and Delta linear in H's features, as published."""
    tracked: bool = False
    """Whether keypoints of a target picture are where optical flow says (ours), or where Delta does."""
    motion: tuple[int, int, int, int] = (32, 1024, 5, 4)
    """M: width, largest width and down blocks of its U-Net, channels of the volume that its K + 1 flows warp."""
    motion_kernel: int = 7
    """Of the masks."""
    motion_first: int = 0
    """M: channels after a 1x1x1 convolution in front of the U-Net; 0: there is none."""
    skips: bool = False
    """Whether the reference picture itself is moved, and G corrects it."""
    conditioned: bool = False
    """Whether residual blocks know the reference's QP and the wish for best look."""

    def __post_init__(self) -> None:
        if self.colour not in ("rgb", "packed"):
            raise InputError(f"colour {self.colour!r} is not one of rgb, packed")
        if not 1 <= self.n_keypoints <= MAX_KEYPOINTS:
            raise InputError(f"{self.n_keypoints} keypoints cannot be coded, only 1 to {MAX_KEYPOINTS}")
        if len(self.n_outer_blocks) != len(self.widths) - 1:
            raise InputError(f"{len(self.widths)} widths need {len(self.widths) - 1} n_outer_blocks, got {self.n_outer_blocks}")

    @property
    def multiple(self) -> int:
        """Coded pictures are padded to multiples of this, in luma samples."""
        return (2 if self.colour == "packed" else 1) << len(self.widths) - 1

    @property
    def generator(self) -> NetSettings:
        """Of the parts of G and F that are those of `hdac.nets.hybrid`."""
        return NetSettings(
            self.name,
            colour=self.colour,
            widths=self.widths,
            n_blocks=self.n_blocks,
            n_outer_blocks=self.n_outer_blocks,
            kernel=self.kernel,
            skips=self.skips,
            normalise=not self.skips,
            strided=self.skips,
            conditioned=self.conditioned,
            fusion="gated",
        )


PAPER = Vid2VidSettings("face-vid2vid-paper")
LITE = Vid2VidSettings(
    "face-vid2vid",
    colour="packed",
    widths=(32, 64, 96),
    volume_channels=8,
    volume_depth=8,
    n_volume_blocks=1,
    n_blocks=4,
    n_outer_blocks=(1, 1),
    kernel=3,
    detector=(32, 128, 3),
    volume_side=32,
    estimator_first=32,
    estimator=((64, 2), (128, 3), (256, 4), (512, 2)),
    located=(16, 256, 4),
    tracked=True,
    motion=(12, 96, 3, 2),
    motion_kernel=3,
    motion_first=12,
    skips=True,
    conditioned=True,
)
SIZES = {settings.name: settings for settings in (PAPER, LITE)}


def rotation(angles: Tensor) -> Tensor:
    """R, (B, 3, 3), of yaw, pitch, roll in radians, (B, 3); x to the right, y down, z towards the camera.

    R = R_x(pitch) R_y(-yaw) R_z(roll): the axes that the usual drawings of a head pose show for these angles.
    """
    yaw, pitch, roll = angles.float().unbind(-1)
    (sy, cy), (sp, cp), (sr, cr) = ((torch.sin(a), torch.cos(a)) for a in (-yaw, pitch, roll))
    rows = (
        (cy * cr, -cy * sr, sy),
        (cp * sr + sp * sy * cr, cp * cr - sp * sy * sr, -sp * cy),
        (sp * sr - cp * sy * cr, sp * cr + cp * sy * sr, cp * cy),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def keypoints(canonical: Tensor, parameters: Parameters, turned: Tensor | None = None) -> Tensor:
    """Eq. 1 and 3: x = R x_c + t + delta, (B, K, 3). turned: R of another head pose than that of the parameters, (B, 3, 3)."""
    r = rotation(parameters.angles) if turned is None else turned
    moved = (r[:, None] * canonical[:, :, None]).sum(-1)  # no matrix product: autocast would round it to bfloat16
    return moved + parameters.translation[:, None] + parameters.deformation


def tracked(reference: Reference, found: Parameters, flow: Tensor) -> Parameters:
    """The parameters found in a target picture, with such translation and deformations that its keypoints are where optical
    flow says that those of the reference have gone to.

    flow: (B, h, w, 2) from the target to the reference, offsets in units of sampling grids.
    What has moved as one is translation; depth stays as it was found.
    """
    at = followed(keypoints(reference.canonical, reference.parameters)[..., :2], flow)
    moved = at - keypoints(reference.canonical, found)[..., :2]
    together = moved.mean(1)
    return found._replace(
        translation=found.translation + F.pad(together, (0, 1)),
        deformation=found.deformation + F.pad(moved - together[:, None], (0, 1)),
    )


class AppearanceExtractor(nn.Module):
    """F: a picture to a volume, and the features of its 2D blocks."""

    def __init__(self, s: Vid2VidSettings, n_in: int) -> None:
        super().__init__()
        self.shape, self.side = (s.volume_channels, s.volume_depth), s.volume_side
        self.encoder = Encoder(n_in, s.generator)
        self.fold = conv(s.widths[-1], s.volume_channels * s.volume_depth, kernel=1)
        self.blocks = nn.Sequential(*(ResBlock3d(s.volume_channels) for _ in range(s.n_volume_blocks)))

    def forward(self, picture: Tensor) -> tuple[list[Tensor], Tensor]:
        features: list[Tensor] = self.encoder(picture)
        volume: Tensor = self.blocks(self.fold(_scaled(features[-1], (self.side, self.side))).unflatten(1, self.shape))
        return features, volume


class CanonicalDetector(nn.Module):
    """L: a small picture (64x64) to K keypoints of its face, neutral and seen from the front: (B, K, 3) in [-1, 1]."""

    def __init__(self, s: Vid2VidSettings, n_in: int) -> None:
        super().__init__()
        width, max_width, depth = s.detector
        widths = [n_in, *(min(max_width, width << level) for level in range(1, depth + 1))]
        self.down = nn.Sequential(*(DownBlock(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)))
        side, channels = MOTION_SIDE >> depth, widths[-1] // (2 if s.skips else 1)
        self.shape = channels, s.volume_depth
        self.fold = conv(widths[-1], channels * s.volume_depth, kernel=1)
        ups: list[nn.Module] = []
        while side < s.volume_side:
            ups.append(UpBlock3d(channels, max(16, channels // 2)))
            side, channels = 2 * side, max(16, channels // 2)
        self.up = nn.Sequential(*ups)
        self.heat = Conv3d(channels, s.n_keypoints)

    def forward(self, picture: Tensor) -> Tensor:
        heat = self.heat(self.up(self.fold(self.down(picture)).unflatten(1, self.shape))).float()
        weights = torch.softmax(heat.flatten(2) / TEMPERATURE, dim=-1)
        grid = coordinate_grid3d(heat.shape[2], heat.shape[3], heat.shape[4], heat).view(-1, 3)
        return (weights[..., None] * grid).sum(2)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with norms, beside the input (or a 1x1 of it): He et al., CVPR 2016."""

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        middle = n_out // 4
        self.main = nn.Sequential(
            conv(n_in, middle, 1),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            conv(middle, middle, 3, stride),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            conv(middle, n_out, 1),
            nn.BatchNorm2d(n_out),
        )
        self.beside = (
            nn.Sequential(conv(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out)) if (n_in, stride) != (n_out, 1) else None
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + (x if self.beside is None else self.beside(x)))


class MotionEstimator(nn.Module):
    """H and Delta: a picture to its head pose and the deformations of its expression.

    Where heat maps locate K points u of the picture, t is their mean, and what they are off a template of keypoints, moved as
    x_c is by H, are the deformations: u = R template + t + delta, without depth. So a keypoint (Eq. 1, 3) is where its point
    is, but for what the person's own x_c differs from the template.
    """

    def __init__(self, s: Vid2VidSettings, n_in: int) -> None:
        super().__init__()
        self.n_keypoints = s.n_keypoints
        # a packed picture has half the size already
        stem: list[nn.Module] = [conv(n_in, s.estimator_first, 5 if s.skips else 7, 2), nn.BatchNorm2d(s.estimator_first)]
        stem.append(nn.ReLU(inplace=True))
        if s.colour == "rgb":
            stem.append(nn.MaxPool2d(3, 2, padding=1))
        blocks: list[nn.Module] = []
        n_in = s.estimator_first
        for stage, (width, count) in enumerate(s.estimator):
            for i in range(count):
                halves = i == 0 and (stage > 0 or s.colour == "packed")
                blocks.append(Bottleneck(n_in, width, 2 if halves else 1))
                n_in = width
        self.body = nn.Sequential(*stem, *blocks)
        self.angles = nn.Linear(n_in, 3 * N_BINS)
        # of heat maps' points only the depth is left to say
        self.translation = nn.Linear(n_in, 1 if s.located else 3)
        self.deformation = nn.Linear(n_in, (1 if s.located else 3) * s.n_keypoints)
        for head in (self.translation, self.deformation):
            nn.init.normal_(head.weight, std=1e-3)
            nn.init.zeros_(head.bias)
        self.points = self.template = None
        if s.located is not None:
            n_channels = PACKED_CHANNELS if s.colour == "packed" else 3
            self.points = KeypointDetector(DetectorSettings(s.n_keypoints, False, *s.located, ANCHORED), n_channels)
            places = anchors(s.n_keypoints)
            self.template = nn.Parameter(F.pad(places - places.mean(0), (0, 1)))

    def locate(self, small: Tensor) -> Tensor:
        """Points of the picture, (B, K, 2), where there are heat maps: those of a heat map are of less than the picture."""
        assert self.points is not None
        found: Keypoints = self.points(small)
        return found.position * ((HEAT_SIDE - 1) / (MOTION_SIDE - 1))

    def forward(self, picture: Tensor, small: Tensor) -> Parameters:
        """picture: (B, n_in, side, side), twice MOTION_SIDE packed or four times; small: the same at MOTION_SIDE."""
        points = None if self.points is None else self.locate(small)
        pooled = self.body(picture).float().mean((2, 3))
        with torch.autocast(pooled.device.type, enabled=False):  # angles and positions are geometry
            bins = torch.softmax(self.angles(pooled).view(-1, 3, N_BINS), dim=-1)
            centres = (torch.arange(N_BINS, device=bins.device) - (N_BINS - 1) / 2) * BIN_DEGREES
            angles = torch.deg2rad((bins * centres).sum(-1))
            translation, deformation = self.translation(pooled), self.deformation(pooled)
            if points is None or self.template is None:
                return Parameters(angles, translation, deformation.view(-1, self.n_keypoints, 3))
            centre = points.mean(1)
            turned = (rotation(angles)[:, None] * self.template[:, None]).sum(-1)
            off = points - centre[:, None] - turned[..., :2]
            return Parameters(
                angles, torch.cat((centre, translation), dim=-1), torch.cat((off, deformation[..., None]), dim=-1)
            )


class MotionField(nn.Module):
    """M: K + 1 flows of the volume to one, and what of it can be seen."""

    def __init__(self, s: Vid2VidSettings) -> None:
        super().__init__()
        width, max_width, depth, compressed = s.motion
        n_seen = (s.n_keypoints + 1) * (compressed + 1)
        self.compress = SameBlock3d(s.volume_channels, compressed, 1)
        self.first = SameBlock3d(n_seen, s.motion_first, 1) if s.motion_first else None
        self.hourglass = Hourglass3d(s.motion_first or n_seen, width, max_width, depth)
        self.masks = Conv3d(self.hourglass.n_out, s.n_keypoints + 1, s.motion_kernel)
        self.reach = self.background = None
        if s.tracked:  # (ours) masks begin as bells around the keypoints of the target, in the picture's plane
            nn.init.zeros_(self.masks.weight)
            assert self.masks.bias is not None
            nn.init.zeros_(self.masks.bias)
            self.reach = nn.Parameter(torch.tensor(MASK_REACH).log())
            self.background = nn.Parameter(torch.tensor(MASK_BACKGROUND))
        n_flat = self.hourglass.n_out * s.volume_depth
        # of the projection to the picture (ours): which slice is seen, and the occlusion at twice the size
        self.flatten = nn.Sequential(SameBlock(n_flat, 48, 1), UpBlock(48, 32)) if s.skips else None
        self.seen = conv(32, s.volume_depth + 2, 3) if s.skips else None
        if self.seen is not None:
            for parameter in self.seen.parameters():
                nn.init.zeros_(parameter)
        self.occlusion = conv(32, 1, 3) if s.skips else conv(n_flat, 1, 7)

    def forward(self, volume: Tensor, kp_reference: Tensor, kp_target: Tensor, turn: Tensor) -> tuple[Tensor, Motion]:
        """volume: (B, C, D, h, w). kp_*: (B, K, 3). turn: R_s R_d^T, (B, 3, 3), or what `Vid2VidNet` has in its place.

        Returns the flow of the volume, (B, D, h, w, 3), and the motion of the picture: its deformation is that of the slice
        that is seen, or of the middle ones where there are no skips.
        """
        b, _, d, h, w = volume.shape
        grid = coordinate_grid3d(d, h, w, volume)
        # Eq. 6: J_s J_d^-1 (p - x_d) + x_s
        turned = (turn[:, None, None, None] * grid[..., None, :]).sum(-1)
        shift = kp_reference - (turn[:, None] * kp_target[:, :, None]).sum(-1)
        moved = turned[:, None] + shift[:, :, None, None, None]
        flows = torch.cat((grid.expand(b, 1, *grid.shape), moved), dim=1)
        n = flows.shape[1]
        thin = self.compress(volume)
        warped = warp3d(thin.repeat_interleave(n, dim=0), flows.flatten(0, 1)).unflatten(0, (b, n))
        heat = _gaussians(d, h, w, kp_target) - _gaussians(d, h, w, kp_reference)
        heat = F.pad(heat, (0, 0, 0, 0, 0, 0, 1, 0)).to(warped.dtype)  # the background has none
        seen = torch.cat((heat[:, :, None], warped), dim=2).flatten(1, 2)
        features = self.hourglass(seen if self.first is None else self.first(seen))
        scores = self.masks(features).float()
        if self.reach is not None and self.background is not None:
            squared = (grid[..., :2] - kp_target[:, :, None, None, None, :2]).square().sum(-1)
            near = -squared / (2 * (2 * self.reach).exp())
            scores = scores + torch.cat((self.background.expand(b, 1, d, h, w), near), dim=1)
        masks = torch.softmax(scores, dim=1)
        flow = (masks[..., None] * flows).sum(1)
        flat = features.flatten(1, 2)
        if self.flatten is None or self.seen is None:
            middle = flow[:, d // 2 - 1 : d // 2 + 1, ..., :2].mean(1)
            return flow, Motion(middle, torch.sigmoid(self.occlusion(flat)))
        flat = self.flatten(flat)
        slices, bent = self.seen(flat).float().split([d, 2], dim=1)
        large = resize_field(flow[..., :2].movedim(1, 3).flatten(3), flat.shape[-2:]).unflatten(3, (d, 2))
        deformation = (torch.softmax(slices, dim=1).permute(0, 2, 3, 1)[..., None] * large).sum(3)
        deformation = deformation + REFINEMENT * torch.tanh(bent).permute(0, 2, 3, 1)
        return flow, Motion(deformation, torch.sigmoid(self.occlusion(flat)))


class Vid2VidNet(nn.Module):
    """All networks of face-vid2vid. Pictures are packed (`hdac.nets.picture`)."""

    tables: Tensor
    """Of the paper's coder of parameters (`hdac.parameters.Tables`), int32; zero until they are learnt."""

    def __init__(self, settings: Vid2VidSettings) -> None:
        super().__init__()
        s = self.settings = settings
        n_in = PACKED_CHANNELS if s.colour == "packed" else 3
        self.reduce = AntiAlias(n_in, factor=2 if s.colour == "packed" else 4)
        self.register_buffer("tables", torch.zeros(table_shape(s.n_keypoints), dtype=torch.int32))
        self.detector = CanonicalDetector(s, n_in)
        self.estimator = MotionEstimator(s, n_in)
        self.appearance = AppearanceExtractor(s, n_in)
        self.motion = MotionField(s)
        n_condition = CONDITION if s.conditioned else 0
        n_flat = s.volume_channels * s.volume_depth
        self.unfold = nn.Sequential(SameBlock(n_flat, s.widths[-1]), conv(s.widths[-1], s.widths[-1], 1))
        if s.skips:
            last = self.unfold[1]
            assert isinstance(last, nn.Conv2d)
            nn.init.zeros_(last.weight)  # weights of DAC's generator, where training begins from them, know no volume
            self.encode_warped = Encoder(n_in, s.generator)
            self.fuse = FUSIONS["gated"](s.widths[-1], s.n_blocks, n_condition, False)
        else:
            self.blocks = nn.ModuleList(ResBlock(s.widths[-1], n_condition) for _ in range(s.n_blocks))
        self.levels = nn.ModuleList(Level(s.generator, level) for level in reversed(range(len(s.widths) - 1)))
        self.last = conv(s.widths[0], n_in + s.skips, s.kernel)
        if s.skips:
            nn.init.zeros_(self.last.weight)
            assert self.last.bias is not None
            nn.init.zeros_(self.last.bias)

    def estimate(self, picture: Tensor) -> Parameters:
        """H and Delta: motion parameters of packed pictures."""
        seen = self._seen(picture)
        side = 2 * MOTION_SIDE * (1 if self.settings.colour == "packed" else 2)
        if seen.shape[-2:] != (side, side):
            seen = F.interpolate(seen.float(), size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        parameters: Parameters = self.estimator(seen, self.small(picture))
        return parameters

    def canonical(self, picture: Tensor) -> Tensor:
        """L: canonical keypoints of packed pictures, (B, K, 3)."""
        found: Tensor = self.detector(self.small(picture))
        template = self.estimator.template
        return found if template is None else template + OWN_SHARE * found

    def small(self, picture: Tensor) -> Tensor:
        """What L and the heat maps see."""
        seen = self._seen(picture)
        if seen.shape[-2:] == (MOTION_SIDE * self.reduce.factor,) * 2:
            reduced: Tensor = self.reduce(seen)
            return reduced
        return F.interpolate(
            seen.float(), size=(MOTION_SIDE, MOTION_SIDE), mode="bilinear", antialias=True, align_corners=False
        )

    def reference(self, picture: Tensor) -> Reference:
        """What the decoder computes once for a reference picture, packed (B, 6, H/2, W/2)."""
        features, volume = self.appearance(self._seen(picture))
        return Reference(picture, self.canonical(picture), self.estimate(picture), volume, features)

    def forward(
        self,
        reference: Reference,
        target: Parameters,
        condition: Tensor,
        window: Window | None = None,
        turned: Tensor | None = None,
        seen_from: Tensor | None = None,
    ) -> Output:
        """The target picture.

        condition: (B, 4), see `hdac.nets.hybrid.condition`; there is no base layer.
        window:    what to compute, or None: all.
        turned:    another head pose than the target's, R of (B, 3, 3): free view by the canonical keypoints' depth.
        seen_from: where in the target picture each sample comes from, sampling grids (B, h, w, 2): free view by another depth
                   (`hdac.nets.head`).
        """
        r_target = rotation(target.angles) if turned is None else turned
        r_reference = rotation(reference.parameters.angles)
        # R_s R_d^T; where keypoints are tracked, the shifts of many of them say better than two estimated poses how things
        # turn, and what is left is the turn that a viewer has added
        r_before = rotation(target.angles) if self.settings.tracked else r_reference
        turn = (r_before[:, :, None] * r_target[:, None]).sum(-1)
        kp_reference = keypoints(reference.canonical, reference.parameters, r_reference)
        kp_target = keypoints(reference.canonical, target, r_target)
        flow, motion = self.motion(reference.volume, kp_reference, kp_target, turn)
        x: Tensor = self.unfold(warp3d(reference.volume, flow).flatten(1, 2))
        if seen_from is not None:
            x, motion = warp(x, seen_from), motion.seen_from(seen_from)
        x = _scaled(x, reference.features[-1].shape[-2:])
        visible = motion.occlusion
        if not self.settings.skips:
            x = x * _scaled(visible, x.shape[-2:]).to(x.dtype)
            warped = warp_packed(reference.picture, motion.deformation)
            for block in self.blocks:
                x = block(x, condition)
            for level in self.levels:
                x = level(x, x, x, condition)
            return Output(from_rgb(torch.sigmoid(self.last(x))), warped, motion, None)
        animated = [self._animate(feature, motion) for feature in reference.features]
        animated[-1] = animated[-1] + x * _scaled(visible, x.shape[-2:]).to(x.dtype)
        warped = whole = warp_packed(reference.picture, motion.deformation)
        if window is not None:
            animated = [window.of(feature, whole.shape[-2]) for feature in animated]
            warped = window.of(whole, whole.shape[-2])
        side: list[Tensor] = self.encode_warped(self._seen(warped))
        x = self.fuse(animated[-1], side[-1], condition)
        for number, level in enumerate(self.levels, start=2):
            x = level(x, animated[-number], side[-number], condition)
        x = self.last(x)
        gate = torch.sigmoid(x[:, -1:])
        correction = gate * x[:, :-1]
        if self.settings.colour == "rgb":
            correction = from_rgb(correction, difference=True)
        return Output(warped + correction, whole, motion, gate)

    def _seen(self, picture: Tensor) -> Tensor:
        return picture if self.settings.colour == "packed" else to_rgb(picture)

    def _animate(self, feature: Tensor, motion: Motion) -> Tensor:
        return warp(feature, motion.deformation) * _scaled(motion.occlusion, feature.shape[-2:]).to(feature.dtype)


def _scaled(feature: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, h, w) of another size, bilinearly, corner pixels on corner pixels."""
    if feature.shape[-2:] == tuple(size):
        return feature
    return F.interpolate(feature, size=tuple(size), mode="bilinear", align_corners=True)


def _gaussians(depth: int, height: int, width: int, position: Tensor) -> Tensor:
    """(B, K, D, h, w): a bell of height 1 around each keypoint (B, K, 3); a product of three, one along each axis."""
    along = []
    for n, centre in zip((width, height, depth), position.unbind(-1), strict=True):
        line = torch.linspace(-1, 1, n, device=position.device)
        along.append(torch.exp(-0.5 * (line - centre[..., None]) ** 2 / VARIANCE))
    x, y, z = along
    return z[..., :, None, None] * y[..., None, :, None] * x[..., None, None, :]
