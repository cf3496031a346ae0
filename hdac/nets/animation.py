"""The networks of the mobile family: keypoints and landmarks move a reference picture, small networks repair it.

    reference --> E --> features --------------------- warp, occlusion --> blocks -> up -> up --> correction --\\
        \\---> points \\                                /                   (SPADE)  (SPADE)                     > picture
    target ---> points > dense motion ---------------/---> reference picture, warped ------------------------/

Points are keypoints that the network finds itself (10 "U"), landmarks of the face (20, 33 or 68 "L", `hdac.landmarks`), or
both. Which of them, and what else a picture is made of, are settings of one network:

    FOMM              U with Jacobians, blocks of plain convolutions: Siarohin et al., NeurIPS 2019
    Motion Net        U, L, or both, no Jacobians: Oquab et al., CVPR workshops 2021, section 3.2
    Motion-SPADE      likewise, and SPADE normalisation in the up blocks by polygons of brows, eyes and mouth: section 3.4
    Frontalizer       up to three references, each warped to learned frontal positions of the points and merged by softmax
                      confidence; expression codes: Oquab et al., "Efficient conditioned face animation using frontally-viewed
                      embedding", CVPR workshops 2022, sections 3.2.1 and 3.2.2
    ultra-lightweight FOMM with half the channels and a detector of 0.16 M parameters: Lu and Zheng, ZTE Communications 2023

What differs from the papers, in lite size:
    pictures          packed 4:2:0 (`hdac.nets.picture`); the reference picture itself is warped, and what the blocks give is a
                      gated correction of it, as everywhere in this project; networks are told the quantiser of the reference
    decoder           moved features of every size go beside it (published: the smallest alone); three blocks and two ups
                      (five and three); SPADE in front of an up's block (behind its last convolution); Frontalizer merges
                      96x32x32 and two larger sizes (appendix of 2022: 32x32x32), and moves the pictures themselves, of which it
                      shows mixtures, from where they are to where they go and not by way of the frontal position
    dense motion      MobileNetV2's U-Net in all of them, `fomm`, too, as in 2022's FOM-Mobile; it sees the reference as it is,
                      not moved K + 1 times. Masks begin as bells around the points, so that points move what is near them
                      before anything is learnt; detectors begin at a grid of places
    expression codes  of a network for 64x64 pictures, into the blocks by scale and shift (published: a small network behind
                      the keypoint encoder, maps beside the features); nothing like 2022's L_E, facial action units, asks them
                      for anything: what they say, pictures teach alone
    training          PSNR, LPIPS and optical flow (`hdac.training`) in the place of adversarial and feature-matching terms
    Lu and Zheng      keypoints are looked for in heat maps of 16x16, made of what the blocks say at each of their sizes (of
                      theirs, a simplified MobileNetV2, that much is unsaid): linear layers on what the last block says, with
                      as many parameters, were twice as far off the teacher on people held out (`LightDetector`);
                      whole blocks are pruned (last convolutions); by turns with fine-tuning, in which distillation goes on;
                      the generator never learns with the teacher's detector first (their step 3); dense motion, which is
                      small here, keeps its channels: generator and dense motion together have 44 % of FOMM's parameters (35 %)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from hdac.landmarks import DRAWN, FRONTAL, N_LABELS, SUBSETS
from hdac.nets.hybrid import CONDITION, MOTION_SIDE, Output, Window
from hdac.nets.keypoints import DetectorSettings, KeypointDetector, Keypoints, anchors, around_anchors, from_maps
from hdac.nets.layers import (
    AntiAlias,
    Beside,
    InvertedResidual,
    ResBlock,
    SameBlock,
    UNet,
    conv,
    coordinate_grid,
    resize_field,
    warp,
    warp_packed,
)
from hdac.nets.motion import REFINEMENT, VARIANCE, Motion, sparse_motions
from hdac.nets.picture import PACKED_CHANNELS
from hdac.nets.settings import NetworkSettings
from hdac.published_coders import KINDS, N_BINS, N_CLASSES

HEAT_SIDE = 32
"""Of what dense motion sees."""
REACH_LEARNED, REACH_LANDMARKS = 0.2, 0.08
"""Chosen: of the bells that masks begin as; landmarks lie closer together."""
BACKGROUND = -4.0
SPADE_HIDDEN = 32  # section 4.1


LIGHT_BLOCKS = ((16, 1), (24, 2), (40, 2), (56, 2), (72, 2), (72, 1), (72, 1))
"""Chosen: widths and strides of Lu and Zheng's detector, which they do not publish, for its number of parameters."""


LIGHT_MAPS, LIGHT_MAP_SIDE = 24, 16
"""Chosen: channels and side of what its heat maps are made from."""
ANCHORED = 0.2
"""Chosen: width of the bell around a place of its own in which a keypoint is looked for."""


@dataclass(frozen=True)
class AnimationSettings(NetworkSettings):
    """Everything that determines the shapes; a checkpoint carries it."""

    name: str
    n_learned: int = 10
    """Keypoints that the network finds."""
    jacobians: bool = False
    """Of them."""
    n_landmarks: int = 0
    """Landmarks that move the picture: the size of one of `hdac.landmarks.SUBSETS`, or 0."""
    spade: bool = False
    """Whether up blocks see polygons; their landmarks are sent, too."""
    frontal: bool = False
    """Whether there may be several references, merged in a frontal position."""
    n_expression: int = 0
    """Numbers of the free expression code."""
    dense: bool = False
    """Plain convolutions instead of MobileNetV2's blocks."""
    light_detector: bool = False
    """The keypoint detector of Lu and Zheng."""
    light_blocks: int = len(LIGHT_BLOCKS)
    """Of it: how many of its blocks pruning has left."""
    tracked: bool = True
    """Whether learned keypoints of a target picture are where optical flow says that those of the reference are, or where the
    detector finds them."""
    widths: tuple[int, ...] = (24, 48, 96)
    """Channels at the size of packed pictures, half of it, .."""
    n_blocks: int = 3
    """At the smallest size."""
    expansion: int = 3
    motion: tuple[int, int, int] = (32, 96, 3)
    """Width, largest width and down blocks of the U-Net of dense motion."""
    only_drawn: bool = False
    """Of the landmarks for polygons those that are corners of one travel, 42; else all of the paper's 60."""
    direct: bool = False
    """Whether reference pictures that features are merged of move by their own points and the target's; else twice, by way of
    the frontal position, which leaves of a face that is at rest what two motions that undo each other leave."""
    light_maps: bool = False
    """Whether the light detector finds keypoints in heat maps, as FOMM's does; else its last layer says where they are."""

    # what networks that draw have (`hdac.nets.synthesis`)
    sketched: ClassVar[bool] = False
    map_side: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.n_landmarks and self.n_landmarks not in SUBSETS:
            raise InputError(f"{self.n_landmarks} landmarks; there are {', '.join(map(str, SUBSETS))}")
        if not self.n_learned and not self.n_landmarks:
            raise InputError("a network with neither keypoints nor landmarks moves nothing")
        if (self.jacobians or self.light_detector) and not self.n_learned:
            raise InputError("Jacobians and a detector are those of learned keypoints, of which there are none")
        if self.jacobians and self.tracked:
            raise InputError("keypoints that are followed by optical flow have no Jacobians")
        if self.jacobians and self.frontal:
            raise InputError("points with Jacobians have no frontal position")
        if self.direct and not self.frontal:
            raise InputError("pictures move directly, or by way of a frontal position, where there is one")
        if not 4 <= self.light_blocks <= len(LIGHT_BLOCKS):
            raise InputError(f"light_blocks={self.light_blocks} is not between 4 and {len(LIGHT_BLOCKS)}")

    @property
    def n_points(self) -> int:
        """That move the picture."""
        return self.n_learned + self.n_landmarks

    @property
    def landmarks_sent(self) -> tuple[int, ...]:
        """Which landmarks travel: those that move the picture, and those of the polygons."""
        moving = set(SUBSETS[self.n_landmarks]) if self.n_landmarks else set()
        drawn = set(DRAWN if self.only_drawn else SUBSETS[60]) if self.spade else set()
        return tuple(sorted(moving | drawn))

    @property
    def multiple(self) -> int:
        """Coded pictures are padded to multiples of this, in luma samples."""
        return 2 << len(self.widths) - 1


def _family() -> dict[str, AnimationSettings]:
    named: dict[str, dict[str, Any]] = {
        "fomm": {"jacobians": True, "dense": True, "tracked": False},
        "motion-net-10u": {},
        "motion-net-20l": {"n_learned": 0, "n_landmarks": 20},
        "motion-net-68l": {"n_learned": 0, "n_landmarks": 68},
        "motion-net-10u+20l": {"n_landmarks": 20},
        "motion-spade-10u": {"spade": True, "only_drawn": True},
        "motion-spade-20l": {"n_learned": 0, "n_landmarks": 20, "spade": True, "only_drawn": True},
        "motion-spade-10u+20l": {"n_landmarks": 20, "spade": True, "only_drawn": True},
        "frontalizer-unsup": {"frontal": True, "direct": True},
        "frontalizer-sup": {"n_learned": 0, "n_landmarks": 33, "frontal": True, "direct": True},
        "frontalizer-sup+unsup": {"n_landmarks": 33, "frontal": True, "direct": True},
        "frontalizer-expr": {"n_landmarks": 33, "frontal": True, "direct": True, "n_expression": 16},
    }
    light: dict[str, Any] = {"jacobians": True, "dense": True, "tracked": False, "light_detector": True, "light_maps": True}
    light["widths"] = (12, 24, 48)
    for n_blocks in range(len(LIGHT_BLOCKS), 4, -1):  # less and less of the detector, each trained from the one before
        left = "" if n_blocks == len(LIGHT_BLOCKS) else f"-{n_blocks}"
        named[f"ultralight{left}"] = {**light, "light_blocks": n_blocks}
    return {name: AnimationSettings(name, **values) for name, values in named.items()}


SIZES = _family()


class Points(NamedTuple):
    """What moves a picture, and what else is said of it.

    learned:    keypoints (B, U, 2) with or without Jacobians (B, U, 2, 2), (x, y) in [-1, 1]; None where there are none.
    landmarks:  (B, 68, 2) likewise; of those that do not travel anything may be said. None where none are needed.
    labels:     uint8 or int64 (B, h, w): with SPADE, `hdac.landmarks.label_map` at the size of packed pictures; of networks
                that draw, a sketch of that size, or a label map of any.
    expression: (B, M) in [-1, 1].
    """

    learned: Keypoints | None
    landmarks: Tensor | None = None
    labels: Tensor | None = None
    expression: Tensor | None = None


class Source(NamedTuple):
    """What a decoder keeps of a reference picture."""

    picture: Tensor
    """Packed (B, 6, H/2, W/2)."""
    small: Tensor
    """(B, 6, HEAT_SIDE, HEAT_SIDE)."""
    points: Keypoints
    """All that move the picture, (B, K, 2)."""
    features: list[Tensor]
    """Largest size first."""


class Reference(NamedTuple):
    """One or more sources; more than one, or a network with frontal positions: merged."""

    sources: list[Source]
    points: Keypoints
    """Where the points of the features are: those of the only source, or frontal."""
    small: Tensor
    features: list[Tensor]
    flows: list[Tensor] | None
    """From frontal positions to each source, (B, h, w, 2) sampling grids, and .."""
    shares: Tensor | None
    """.. what each of them contributes, (B, N, h, w); None without frontal positions."""


class Moved(NamedTuple):
    """A reference moved to a target."""

    motion: Motion
    """Of its features."""
    of_picture: Tensor
    """Of its first picture, (B, h, w, 2)."""
    warped: Tensor
    """Packed (B, 6, H/2, W/2)."""


class LightDetector(nn.Module):
    """Keypoints with Jacobians from a 64x64 picture, by strided MobileNetV2 blocks and linear layers: 0.14 M parameters
    (published: 0.16 M). Of older weights: `LightMapDetector` is nearer to its teacher."""

    def __init__(self, n_keypoints: int, jacobians: bool, n_in: int, n_blocks: int = len(LIGHT_BLOCKS)) -> None:
        """n_blocks: the first of LIGHT_BLOCKS; pruning takes the last ones away."""
        super().__init__()
        self.n_keypoints = n_keypoints
        layers: list[nn.Module] = [conv(n_in, 16, stride=2), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
        before = 16
        for width, stride in LIGHT_BLOCKS[:n_blocks]:
            layers.append(InvertedResidual(before, width, 3, stride))
            before = width
        self.body = nn.Sequential(*layers)
        self.places = nn.Linear(before * 4, 2 * n_keypoints)
        self.jacobian = nn.Linear(before * 4, 4 * n_keypoints) if jacobians else None
        nn.init.normal_(self.places.weight, std=1e-3)
        self.places.bias.data = anchors(n_keypoints).flatten()
        if self.jacobian is not None:
            nn.init.zeros_(self.jacobian.weight)
            self.jacobian.bias.data = torch.tensor([1.0, 0.0, 0.0, 1.0]).repeat(n_keypoints)

    def forward(self, picture: Tensor) -> Keypoints:
        seen = F.adaptive_avg_pool2d(self.body(picture - 0.5), 2).flatten(1)
        with torch.autocast(seen.device.type, enabled=False):
            seen = seen.float()
            position = self.places(seen).view(-1, self.n_keypoints, 2)
            jacobian = None if self.jacobian is None else self.jacobian(seen).view(-1, self.n_keypoints, 2, 2)
        return Keypoints(position.clamp(-1, 1), jacobian)


class LightMapDetector(nn.Module):
    """The same blocks; keypoints and Jacobians come from heat maps, as FOMM's do: what the blocks say at each of their sizes
    is added up to maps of 16x16. Where something is need not be learned anew for every place."""

    near: Tensor
    """(K, 256): logarithm of a bell around each anchor, as of the teacher."""

    def __init__(self, n_keypoints: int, jacobians: bool, n_in: int, n_blocks: int = len(LIGHT_BLOCKS)) -> None:
        """n_blocks: the first of LIGHT_BLOCKS; pruning takes the last ones away."""
        super().__init__()
        self.n_keypoints = n_keypoints
        self.first = nn.Sequential(conv(n_in, 16, stride=2), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.body = nn.ModuleList()
        self.lateral = nn.ModuleDict()
        """By the number of the block behind which they are, the last of its size."""
        before, size = 16, 32
        for number, (width, stride) in enumerate(LIGHT_BLOCKS[:n_blocks]):
            self.body.append(InvertedResidual(before, width, 3, stride))
            before, size = width, size // stride
            last_of_size = number + 1 == n_blocks or LIGHT_BLOCKS[number + 1][1] > 1
            if last_of_size and size <= LIGHT_MAP_SIDE:
                self.lateral[str(number)] = conv(width, LIGHT_MAPS, 1)
        self.mix = InvertedResidual(LIGHT_MAPS, LIGHT_MAPS, 3)
        self.heat = conv(LIGHT_MAPS, n_keypoints)
        self.jacobian = conv(LIGHT_MAPS, 4 * n_keypoints) if jacobians else None
        for head in (self.heat, self.jacobian):  # at the anchors and the identity, to begin with
            if head is not None:
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)  # type: ignore[arg-type]
        if self.jacobian is not None:
            self.jacobian.bias.data = torch.tensor([1.0, 0.0, 0.0, 1.0]).repeat(n_keypoints)  # type: ignore[union-attr]
        self.register_buffer("near", around_anchors(n_keypoints, LIGHT_MAP_SIDE, ANCHORED), persistent=False)

    def forward(self, picture: Tensor) -> Keypoints:
        x = self.first(picture - 0.5)
        behind = []
        for number, block in enumerate(self.body):
            x = block(x)
            if str(number) in self.lateral:
                behind.append(self.lateral[str(number)](x))
        maps = behind.pop()
        for finer in reversed(behind):
            maps = finer + F.interpolate(maps, size=finer.shape[-2:], mode="nearest")
        maps = self.mix(maps)
        return from_maps(self.heat(maps), None if self.jacobian is None else self.jacobian(maps), self.near)


class MobileHourglass(UNet):
    """FOMM's U-Net of MobileNetV2's blocks: strided ones down, nearest neighbour and a block up, skips by concatenation."""

    def __init__(self, n_in: int, width: int, max_width: int, depth: int, expansion: int) -> None:
        super().__init__()
        widths = [n_in, *(min(max_width, width << level) for level in range(depth))]
        self.down = nn.ModuleList(
            InvertedResidual(a, b, expansion, stride=2) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.up = nn.ModuleList()
        for level in reversed(range(depth)):
            n_skipped = 1 if level == depth - 1 else 2
            out = widths[level] if level else width
            self.up.append(
                nn.Sequential(nn.Upsample(scale_factor=2), InvertedResidual(n_skipped * widths[level + 1], out, expansion))
            )
        self.n_out = width + n_in


class Field(NamedTuple):
    """What is known of the motion from a reference to a target."""

    motion: Motion
    confidence: Tensor
    """(B, 1, h, w), for merging."""
    masks: Tensor | None = None
    """(B, K + 1, h, w), background first; with `bent` where pictures move directly."""
    bent: Tensor | None = None
    """(B, h, w, 2), the refinement."""

    def from_source(self, source: Keypoints, target: Keypoints) -> Tensor:
        """The same masks and refinement on the way from other points, without Jacobians: (B, h, w, 2)."""
        assert self.masks is not None and self.bent is not None
        height, width = self.masks.shape[-2:]
        grid = coordinate_grid(height, width, self.masks)
        shifts = source.position - target.position
        # no einsum: autocast would round it to bfloat16
        moved = (self.masks[:, 1:, ..., None] * shifts[:, :, None, None]).sum(1)
        return grid + moved + self.bent


class MotionField(nn.Module):
    """Points of a reference and of a target to a motion field: masks over K + 1 motions, occlusion, a refinement and, for
    merging, a confidence.

    Seen are differences of Gaussians around the points, and the reference picture, small.
    """

    def __init__(self, s: AnimationSettings) -> None:
        super().__init__()
        width, max_width, depth = s.motion
        self.first = SameBlock(s.n_points + PACKED_CHANNELS, width, 1)
        self.hourglass = MobileHourglass(width, width, max_width, depth, s.expansion)
        k = s.n_points
        self.heads = conv(self.hourglass.n_out, k + 1 + 1 + 2 + 1)
        nn.init.zeros_(self.heads.weight)
        assert self.heads.bias is not None
        self.heads.bias.data = torch.tensor([*[0.0] * (k + 1), 2.0, 0.0, 0.0, 0.0])
        reach = torch.tensor([REACH_LEARNED] * s.n_learned + [REACH_LANDMARKS] * s.n_landmarks)
        self.reach = nn.Parameter(reach.log())
        self.background = nn.Parameter(torch.tensor(BACKGROUND))
        self.direct = s.direct

    def forward(self, small: Tensor, at_reference: Keypoints, at_target: Keypoints) -> Field:
        """small: (B, 6, HEAT_SIDE, HEAT_SIDE). Returns all of it at MOTION_SIDE."""
        grid = coordinate_grid(HEAT_SIDE, HEAT_SIDE, small)
        heat = _bells(grid, at_target.position, VARIANCE) - _bells(grid, at_reference.position, VARIANCE)
        out = self.heads(self.hourglass(self.first(torch.cat((heat.to(small.dtype), small - 0.5), dim=1)))).float()
        out = F.interpolate(out, size=(MOTION_SIDE, MOTION_SIDE), mode="bilinear", align_corners=True)
        k = at_target.position.shape[1]
        scores, occlusion, bent, confidence = out.split([k + 1, 1, 2, 1], dim=1)
        grid = coordinate_grid(MOTION_SIDE, MOTION_SIDE, small)
        squared = (grid - at_target.position[:, :, None, None]).square().sum(-1)
        near = -squared / (2 * (2 * self.reach).exp()[:, None, None])
        scores = scores + torch.cat((self.background.expand(len(near), 1, *near.shape[2:]), near), dim=1)
        masks = torch.softmax(scores, dim=1)
        motions = sparse_motions(grid, at_reference, at_target)
        refinement = REFINEMENT * torch.tanh(bent).permute(0, 2, 3, 1)
        motion = Motion((masks[..., None] * motions).sum(1) + refinement, torch.sigmoid(occlusion))
        return Field(motion, confidence, masks, refinement) if self.direct else Field(motion, confidence)


class Spade(nn.Module):
    """Spatially adaptive normalisation (Park et al., CVPR 2019) by label maps, with 1x1 kernels (section 4.1)."""

    def __init__(self, channels: int, n_labels: int = N_LABELS) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.seen = conv(n_labels, SPADE_HIDDEN, 1)
        self.scales = conv(SPADE_HIDDEN, 2 * channels, 1)
        nn.init.zeros_(self.scales.weight)
        assert self.scales.bias is not None
        nn.init.zeros_(self.scales.bias)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """labels: one-hot (B, n_labels, h, w)."""
        scale, shift = self.scales(F.relu(self.seen(labels))).chunk(2, dim=1)
        return self.norm(x) * (1 + scale) + shift


class Up(nn.Module):
    """One size of the decoder: up, the animated features of that size beside it, SPADE, a block."""

    def __init__(self, s: AnimationSettings, level: int) -> None:
        super().__init__()
        width = s.widths[level]
        self.up = nn.Sequential(conv(s.widths[level + 1], width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.skip = Beside(width)
        self.spade = Spade(width) if s.spade else None
        self.block = _block(s, width)

    def forward(self, x: Tensor, animated: Tensor, warped: Tensor, labels: Tensor | None) -> Tensor:
        x = F.interpolate(self.up(x), scale_factor=2, mode="nearest")
        x = self.skip(x, animated, warped)
        if self.spade is not None:
            assert labels is not None
            x = self.spade(x, labels)
        return self.block(x)


def _block(s: AnimationSettings, width: int) -> nn.Module:
    return ResBlock(width, normalise=False) if s.dense else InvertedResidual(width, width, s.expansion)


class PointNet(nn.Module, ABC):
    """What all networks of the mobile family have; pictures are packed (B, 6, H/2, W/2)."""

    parts: ClassVar[tuple[str, ...]]
    """What runs for every picture that is shown, by the names of submodules or methods, but for what warps (`hdac.int8`)."""
    settings: Any
    huffman: Tensor
    """Of the published coders (`hdac.published_coders`): lengths of the Huffman code of 2021; zero until they are learnt."""
    prior: Tensor
    """Likewise of the prior of 2022."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("huffman", torch.zeros(N_BINS, dtype=torch.uint8))
        self.register_buffer("prior", torch.zeros(len(KINDS), N_CLASSES, dtype=torch.int32))

    @property
    def finders(self) -> tuple[str, ...]:
        """Likewise what an encoder runs for every picture that it codes."""
        return ()

    def detect(self, picture: Tensor) -> Keypoints | None:
        """Learned keypoints, where there are any."""
        return None

    def express(self, picture: Tensor) -> Tensor | None:
        """Expression codes (B, M) in [-1, 1], where there are any."""
        return None

    @abstractmethod
    def source(self, picture: Tensor, points: Points) -> Any:
        """What the decoder computes once for a reference picture."""

    @abstractmethod
    def reference(self, sources: Sequence[Any]) -> Any:
        """What it computes of all of them. Raises InputError for more than one where one is all there may be."""


class AnimationNet(PointNet):
    """Decoder and, for its keypoints and expression codes, encoder network of what moves a picture."""

    parts = ("motion", "decode")

    def __init__(self, settings: AnimationSettings) -> None:
        super().__init__()
        s = self.settings = settings
        self.reduce = AntiAlias(PACKED_CHANNELS, factor=2)
        self.detector: LightDetector | LightMapDetector | KeypointDetector | None = None
        if s.light_detector:
            light = LightMapDetector if s.light_maps else LightDetector
            self.detector = light(s.n_learned, s.jacobians, PACKED_CHANNELS, s.light_blocks)
        elif s.n_learned:
            self.detector = KeypointDetector(
                DetectorSettings(s.n_learned, s.jacobians, 16, 128, 3, anchored=ANCHORED), PACKED_CHANNELS
            )
        self.motion = MotionField(s)
        self.first = SameBlock(PACKED_CHANNELS, s.widths[0])
        self.down = nn.ModuleList(_down(s, a, b) for a, b in zip(s.widths[:-1], s.widths[1:], strict=True))
        self.beside = nn.ModuleList(conv(PACKED_CHANNELS, width, 1) for width in s.widths[:-1])
        n_known = CONDITION + s.n_expression
        self.film = nn.Linear(n_known, 2 * s.widths[-1])
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        self.blocks = nn.Sequential(*(_block(s, s.widths[-1]) for _ in range(s.n_blocks)))
        self.ups = nn.ModuleList(Up(s, level) for level in reversed(range(len(s.widths) - 1)))
        self.last = conv(s.widths[0], PACKED_CHANNELS + 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)
        self.frontalize, self.frontal = None, None
        if s.frontal:
            self.frontalize = MotionField(s)
            self.frontal = nn.Parameter(frontal_places(s))
        self.expression = ExpressionEncoder(s.n_expression) if s.n_expression else None

    # -- what is found in a picture ----------------------------------------------------------------------------------

    @property
    def finders(self) -> tuple[str, ...]:
        s = self.settings
        return ("detector",) * bool(s.n_learned and not s.tracked) + ("expression",) * bool(s.n_expression)

    def detect(self, picture: Tensor) -> Keypoints | None:
        return None if self.detector is None else self.detector(self.small(picture))

    def express(self, picture: Tensor) -> Tensor | None:
        return None if self.expression is None else self.expression(self.small(picture))

    def moving(self, points: Points) -> Keypoints:
        """All that move the picture, learned keypoints first."""
        s = self.settings
        if not s.n_landmarks:
            assert points.learned is not None
            return points.learned
        assert points.landmarks is not None
        chosen = points.landmarks[:, list(SUBSETS[s.n_landmarks])]
        if points.learned is None:
            return Keypoints(chosen)
        jacobian = points.learned.jacobian
        if jacobian is not None:
            still = torch.eye(2, device=chosen.device).expand(*chosen.shape[:2], 2, 2)
            jacobian = torch.cat((jacobian, still), dim=1)
        return Keypoints(torch.cat((points.learned.position, chosen), dim=1), jacobian)

    # -- references --------------------------------------------------------------------------------------------------

    def source(self, picture: Tensor, points: Points) -> Source:
        features = [self.first(picture)]
        for block in self.down:
            features.append(block(features[-1]))
        small = F.avg_pool2d(self.small(picture), MOTION_SIDE // HEAT_SIDE)
        return Source(picture, small, self.moving(points), features)

    def reference(self, sources: Sequence[Source]) -> Reference:
        """With frontal positions, features merged there; without there may be but one."""
        first = sources[0]
        if self.frontalize is None or self.frontal is None:
            if len(sources) > 1:
                raise InputError(f"a network without frontal positions, and {len(sources)} references")
            return Reference([first], first.points, first.small, first.features, None, None)
        front = Keypoints(self.frontal.expand(len(first.picture), -1, -1))
        found = [self.frontalize(one.small, one.points, front) for one in sources]
        shares = torch.softmax(torch.cat([field.confidence for field in found], dim=1), dim=1)
        flows = [field.motion.deformation for field in found]
        features = [
            self._merged([one.features[level] for one in sources], flows, shares) for level in range(len(first.features))
        ]
        small = self._merged([one.small for one in sources], flows, shares)
        return Reference(list(sources), front, small, features, flows, shares)

    def _merged(self, features: list[Tensor], flows: list[Tensor], shares: Tensor) -> Tensor:
        weights = shares
        if shares.shape[-2:] != features[0].shape[-2:]:
            weights = F.interpolate(shares, size=features[0].shape[-2:], mode="bilinear", align_corners=True)
        parts = [
            warp(feature, flow) * weights[:, n : n + 1].to(feature.dtype)
            for n, (feature, flow) in enumerate(zip(features, flows, strict=True))
        ]
        return torch.stack(parts).sum(0)

    # -- pictures ----------------------------------------------------------------------------------------------------

    def forward(self, reference: Reference, target: Points, condition: Tensor, window: Window | None = None) -> Output:
        """The target picture. condition: (B, 4), see `hdac.nets.hybrid.condition`. window: what to compute, or None: all."""
        moved = self.moved(reference, target)
        warped = whole = moved.warped
        animated = [self._animate(feature, moved.motion) for feature in reference.features]
        labels = None
        if self.settings.spade:
            assert target.labels is not None
            labels = F.one_hot(target.labels.long(), N_LABELS).permute(0, 3, 1, 2).to(whole.dtype)
        if window is not None:
            height = whole.shape[-2]
            animated = [window.of(feature, height) for feature in animated]
            warped = window.of(whole, height)
            labels = None if labels is None else window.of(labels, height)
        known = condition
        if target.expression is not None:
            known = torch.cat((condition, target.expression.to(condition.dtype)), dim=1)
        x = self.decode(animated, warped, labels, known)
        gate = torch.sigmoid(x[:, -1:])
        return Output(warped + gate * x[:, :-1], whole, moved.motion._replace(deformation=moved.of_picture), gate)

    def moved(self, reference: Reference, target: Points) -> Moved:
        """The reference before anything is repaired."""
        at_target = self.moving(target)
        field = self.motion(reference.small, reference.points, at_target)
        flows = self._flows(reference, field, at_target)
        return Moved(field.motion, flows[0], self._warped(reference, field.motion, flows))

    def decode(self, animated: list[Tensor], warped: Tensor, labels: Tensor | None, known: Tensor) -> Tensor:
        """What the moved picture lacks, packed, and how much of it is shown, before its sigmoid: (B, 7, H/2, W/2).

        animated: moved features, largest size first. labels: one-hot. known: condition and expression codes.
        """
        scale, shift = self.film(known)[:, :, None, None].chunk(2, dim=1)
        x = self.blocks(animated[-1] * (1 + scale) + shift)
        for number, up in enumerate(self.ups, start=2):
            size = animated[-number].shape[-2:]
            seen = warped if warped.shape[-2:] == size else F.interpolate(warped, size=tuple(size), mode="area")
            side = self.beside[-number + 1](seen)
            here = labels
            if labels is not None and labels.shape[-2:] != size:
                here = F.interpolate(labels, size=tuple(size), mode="area")
            x = up(x, animated[-number], side, here)
        lacking: Tensor = self.last(F.relu(x))
        return lacking

    def _flows(self, reference: Reference, field: Field, target: Keypoints) -> list[Tensor]:
        """By which each of the reference pictures moves, (B, h, w, 2)."""
        if reference.flows is None:
            return [field.motion.deformation]
        if self.settings.direct:
            return [field.from_source(one.points, target) for one in reference.sources]
        there = field.motion.deformation
        return [warp(flow.permute(0, 3, 1, 2), there).permute(0, 2, 3, 1) for flow in reference.flows]

    def _warped(self, reference: Reference, motion: Motion, flows: list[Tensor]) -> Tensor:
        """The reference picture, moved; of several what each contributes, each moved once."""
        if reference.shares is None:
            return warp_packed(reference.sources[0].picture, flows[0])
        shares = warp(reference.shares, motion.deformation)
        total = torch.zeros_like(reference.sources[0].picture)
        for n, (one, flow) in enumerate(zip(reference.sources, flows, strict=True)):
            share = F.interpolate(shares[:, n : n + 1], size=total.shape[-2:], mode="bilinear", align_corners=True)
            total = total + share * warp_packed(one.picture, flow)
        return total

    def small(self, picture: Tensor) -> Tensor:
        """What detectors see of a picture, and what they see of that: (B, 6, MOTION_SIDE, MOTION_SIDE)."""
        if picture.shape[-2:] == (MOTION_SIDE,) * 2:
            return picture.float()
        if picture.shape[-2:] == (MOTION_SIDE * self.reduce.factor,) * 2:
            small: Tensor = self.reduce(picture)
            return small
        size = (MOTION_SIDE, MOTION_SIDE)
        return F.interpolate(picture.float(), size=size, mode="bilinear", antialias=True, align_corners=False)

    def _animate(self, feature: Tensor, motion: Motion) -> Tensor:
        visible = resize_field(motion.occlusion.permute(0, 2, 3, 1), feature.shape[-2:]).permute(0, 3, 1, 2)
        return warp(feature, motion.deformation) * visible.to(feature.dtype)


def _down(s: AnimationSettings, n_in: int, n_out: int) -> nn.Module:
    if s.dense:
        return nn.Sequential(conv(n_in, n_out, stride=2), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))
    return InvertedResidual(n_in, n_out, s.expansion, stride=2)


class ExpressionEncoder(nn.Module):
    """The free expression code of a 64x64 picture (2022, section 3.2.2): what points do not say, in M numbers."""

    def __init__(self, n_codes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(PACKED_CHANNELS, 16, stride=2), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
        before = 16
        for width in (24, 48, 64):
            layers.append(InvertedResidual(before, width, 3, stride=2))
            before = width
        self.body = nn.Sequential(*layers)
        self.code = nn.Sequential(nn.Linear(16 * before, 32), nn.BatchNorm1d(32), nn.ReLU(inplace=True), nn.Linear(32, n_codes))

    def forward(self, picture: Tensor) -> Tensor:
        return torch.tanh(self.code(self.body(picture - 0.5).flatten(1)).float())


def _bells(grid: Tensor, position: Tensor, variance: float) -> Tensor:
    """(B, K, h, w): a bell of height 1 around each point."""
    return torch.exp(-0.5 * (grid - position[:, :, None, None]).square().sum(-1) / variance)


def frontal_places(s: AnimationSettings) -> Tensor:
    """Where frontal positions of the points begin, (K, 2): anchors for the learned ones, a face that looks into the camera for
    landmarks."""
    places = [anchors(s.n_learned)] if s.n_learned else []
    if s.n_landmarks:
        places.append(torch.tensor(FRONTAL)[list(SUBSETS[s.n_landmarks])])
    return torch.cat(places)
