"""The networks of the mobile family that draw faces instead of moving a picture (Oquab et al., CVPR workshops 2021, section 3).

    reference --> embedder --> style, or descriptor -----\\
    target: sketch of its landmarks, or its label map --> generator --> picture

    NTH       AdaIN by the style of one or more references, mean over them: Zakharov et al., ICCV 2019, section 3.1 there
    Bilayer   a coarse picture drawn likewise, and a texture of the reference, warped to the target, on top of it: Zakharov et
              al., ECCV 2020
    SegFace   a face descriptor decoded with SPADE normalisation by a label map of 15 classes at 48x48 or 64x64: section 3.3

In reduced form: pictures are packed 4:2:0 (`hdac.nets.picture`), embedder and descriptor are learnt with the rest where the
paper takes networks trained on faces at large, and PSNR and LPIPS teach them, nothing adversarial. Fine-tuning to a person is a
decoder's option (`hdac.codecs.fine_tuning`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from hdac.label_maps import N_LABELS as N_CLASSES
from hdac.landmarks import N_SKETCHED, SUBSETS
from hdac.nets.animation import PointNet, Points, Spade
from hdac.nets.hybrid import MOTION_SIDE, Output, Window
from hdac.nets.layers import conv, coordinate_grid, resize_field, warp_packed
from hdac.nets.motion import REFINEMENT, Motion
from hdac.nets.picture import PACKED_CHANNELS
from hdac.nets.settings import NetworkSettings

KINDS = ("nth", "bilayer", "segface")


@dataclass(frozen=True)
class SynthesisSettings(NetworkSettings):
    """Everything that determines the shapes; a checkpoint carries it."""

    name: str
    kind: str = "nth"
    map_side: int = 0
    """SegFace: of its label maps."""
    widths: tuple[int, ...] = (24, 48, 96, 128)
    """Channels at the size of packed pictures, half of it, .."""
    style: int = 128
    n_blocks: int = 3
    """At the smallest size."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if bool(self.map_side) != (self.kind == "segface"):
            raise InputError(f"label maps of {self.map_side} a side in a network of kind {self.kind}")

    # what `hdac.nets.animation` has as settings
    n_points: ClassVar[int] = 0
    n_learned: ClassVar[int] = 0
    n_expression: ClassVar[int] = 0
    jacobians: ClassVar[bool] = False
    tracked: ClassVar[bool] = False
    spade: ClassVar[bool] = False
    direct: ClassVar[bool] = False

    @property
    def frontal(self) -> bool:
        """Whether there may be several references."""
        return self.kind == "nth"

    @property
    def landmarks_sent(self) -> tuple[int, ...]:
        return () if self.map_side else SUBSETS[68]

    @property
    def sketched(self) -> bool:
        """Whether the network sees `hdac.landmarks.sketch_map`."""
        return not self.map_side

    @property
    def multiple(self) -> int:
        """Coded pictures are padded to multiples of this, in luma samples: the smallest features have 2x2 samples or more,
        which instance norm needs."""
        return 4 << len(self.widths) - 1


SIZES = {
    settings.name: settings
    for settings in (
        SynthesisSettings("nth", "nth"),
        SynthesisSettings("bilayer", "bilayer"),
        SynthesisSettings("segface-48", "segface", 48),
        SynthesisSettings("segface-64", "segface", 64),
    )
}


class Source(NamedTuple):
    """What a decoder keeps of a reference picture."""

    picture: Tensor
    style: Tensor
    """(B, style)."""
    texture: Tensor | None
    """Bilayer: packed, in the reference's own places."""


class Reference(NamedTuple):
    """Of all of them."""

    sources: list[Source]
    style: Tensor
    flows: None = None
    """There are none: see `hdac.nets.animation.Reference`."""


class AdaIn(nn.Module):
    """Instance normalisation with scales and shifts from a style (Huang and Belongie, ICCV 2017)."""

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.scales = nn.Linear(style, 2 * channels)
        nn.init.normal_(self.scales.weight, std=0.05)
        nn.init.zeros_(self.scales.bias)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale, shift = self.scales(style)[:, :, None, None].chunk(2, dim=1)
        return F.instance_norm(x.float()).to(x.dtype) * (1 + scale) + shift


class AdaInBlock(nn.Module):
    """AdaIN, ReLU, convolution, twice, plus the input."""

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(AdaIn(channels, style) for _ in range(2))
        self.convs = nn.ModuleList(conv(channels, channels) for _ in range(2))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        h = x
        for norm, convolution in zip(self.norms, self.convs, strict=True):
            h = convolution(F.relu(norm(h, style)))
        return x + h


class Down(nn.Sequential):
    """A strided convolution, norm, ReLU."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(conv(n_in, n_out, stride=2), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))


class Embedder(nn.Module):
    """A picture and its sketch to a style."""

    def __init__(self, s: SynthesisSettings, n_in: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (*s.widths[1:], s.widths[-1]):
            layers.append(Down(n_in, width))
            n_in = width
        self.body = nn.Sequential(*layers)
        self.style = nn.Linear(n_in * 4, s.style)

    def forward(self, picture: Tensor) -> Tensor:
        return self.style(F.adaptive_avg_pool2d(self.body(picture), 2).flatten(1))


class SketchGenerator(nn.Module):
    """NTH, and Bilayer's coarse picture: a sketch, down, AdaIN blocks, up."""

    def __init__(self, s: SynthesisSettings, n_out: int) -> None:
        super().__init__()
        self.first = conv(N_SKETCHED, s.widths[0])
        self.down = nn.ModuleList(Down(a, b) for a, b in zip(s.widths[:-1], s.widths[1:], strict=True))
        self.blocks = nn.ModuleList(AdaInBlock(s.widths[-1], s.style) for _ in range(s.n_blocks))
        pairs = list(zip(s.widths[:0:-1], s.widths[-2::-1], strict=True))
        self.narrow = nn.ModuleList(conv(a, b, 1) for a, b in pairs)
        self.norms = nn.ModuleList(AdaIn(b, s.style) for _, b in pairs)
        self.ups = nn.ModuleList(conv(b, b) for _, b in pairs)
        self.last = conv(s.widths[0], n_out)

    def forward(self, sketch: Tensor, style: Tensor) -> Tensor:
        x = F.relu(self.first(sketch))
        for down in self.down:
            x = down(x)
        for block in self.blocks:
            x = block(x, style)
        for narrow, norm, up in zip(self.narrow, self.norms, self.ups, strict=True):
            x = F.interpolate(narrow(x), scale_factor=2, mode="nearest")
            x = up(F.relu(norm(x, style)))
        return self.last(F.relu(x))


class SegmentGenerator(nn.Module):
    """SegFace: a descriptor, up from 8x8, SPADE by the label map at every size."""

    def __init__(self, s: SynthesisSettings) -> None:
        super().__init__()
        widths = (s.widths[-1], *s.widths[::-1])
        self.begin = nn.Linear(s.style, widths[0] * 64)
        self.narrow = nn.ModuleList(conv(a, b, 1) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.spades = nn.ModuleList(Spade(width, N_CLASSES) for width in widths[1:])
        self.ups = nn.ModuleList(conv(width, width) for width in widths[1:])
        self.last = conv(widths[-1], PACKED_CHANNELS)

    def forward(self, labels: Tensor, style: Tensor, size: tuple[int, int]) -> Tensor:
        """labels: one-hot, of any size."""
        x = self.begin(style).unflatten(1, (-1, 8, 8))
        for number, (narrow, spade, up) in enumerate(zip(self.narrow, self.spades, self.ups, strict=True)):
            shrink = len(self.ups) - 1 - number
            here = size[0] >> shrink, size[1] >> shrink
            x = F.interpolate(narrow(x), size=here, mode="nearest")
            x = up(F.relu(spade(x, F.interpolate(labels, size=here, mode="area"))))
        return self.last(F.relu(x))


class SynthesisNet(PointNet):
    """Decoder network of NTH, Bilayer and SegFace, used as `hdac.nets.animation.AnimationNet` is."""

    parts = ("generate",)

    def __init__(self, settings: SynthesisSettings) -> None:
        super().__init__()
        s = self.settings = settings
        self.embed = Embedder(s, PACKED_CHANNELS + (N_SKETCHED if s.sketched else 0))
        self.generate: SegmentGenerator | SketchGenerator
        self.texture = None
        if s.kind == "segface":
            self.generate = SegmentGenerator(s)
        else:
            # Bilayer: picture, flow, what of the texture is seen
            self.generate = SketchGenerator(s, PACKED_CHANNELS + (3 if s.kind == "bilayer" else 0))
        if s.kind == "bilayer":
            self.texture = nn.Sequential(conv(PACKED_CHANNELS, s.widths[0]), nn.ReLU(), conv(s.widths[0], PACKED_CHANNELS))

    def source(self, picture: Tensor, points: Points) -> Source:
        seen = picture
        if self.settings.sketched:
            assert points.labels is not None
            seen = torch.cat((picture, _one_hot(points.labels, N_SKETCHED, picture)), dim=1)
        return Source(picture, self.embed(seen), None if self.texture is None else self.texture(picture))

    def reference(self, sources: Sequence[Source]) -> Reference:
        """The mean of their styles."""
        if len(sources) > 1 and not self.settings.frontal:
            raise InputError(f"a network of kind {self.settings.kind}, and {len(sources)} references")
        return Reference(list(sources), torch.stack([one.style for one in sources]).mean(0))

    def forward(self, reference: Reference, target: Points, condition: Tensor, window: Window | None = None) -> Output:
        """The target picture; condition is not looked at."""
        picture = reference.sources[0].picture
        height, width = picture.shape[-2:]
        assert target.labels is not None
        grid = coordinate_grid(MOTION_SIDE, MOTION_SIDE, picture).expand(len(picture), -1, -1, -1)
        motion = Motion(grid, torch.ones_like(picture[:, :1]))
        if self.settings.map_side:
            out = self.generate(_one_hot(target.labels, N_CLASSES, picture), reference.style, (height, width))
        else:
            out = self.generate(_one_hot(target.labels, N_SKETCHED, picture), reference.style)
        drawn = torch.sigmoid(out[:, :PACKED_CHANNELS].float())
        texture = reference.sources[0].texture
        if texture is not None:
            bent, seen = REFINEMENT * torch.tanh(out[:, 6:8].float()), torch.sigmoid(out[:, 8:9].float())
            deformation = resize_field(grid, (height, width)) + bent.permute(0, 2, 3, 1)
            motion = Motion(deformation, seen)
            drawn = drawn + seen * warp_packed(texture.float(), deformation)
        return Output(drawn if window is None else window.of(drawn, height), drawn, motion, None)


def _one_hot(labels: Tensor, count: int, like: Tensor) -> Tensor:
    return F.one_hot(labels.long(), count).permute(0, 3, 1, 2).to(like.dtype)
