"""The network of DAC and H-DAC: keypoints, dense motion, and a generator that fuses the warped reference with the base layer.

    reference ----> E_A ----> features ---warp, occlusion--\\
        \\--> keypoints \\                                    > fusion -> residual blocks -> up, up -> picture
    target --> keypoints > dense motion                    /
    base layer -------------------> E_B --> features -----/

Sizes: `PAPER` has FOMM's widths and works on RGB; `LITE` has the same topology, sized for two CPU cores: it works on packed
4:2:0 pictures, half as wide and high with four luma samples to a pixel, has skip connections at every size, and strided
convolutions instead of pooling.

Without a base layer (DAC) the base features are zero and what is corrected is the warped reference. Pictures of any size go
through: motion is found at 64x64, all else is convolutional.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from hdac.nets.fusion import FUSIONS
from hdac.nets.keypoints import DetectorSettings, KeypointDetector, Keypoints
from hdac.nets.layers import AntiAlias, Beside, DownBlock, ResBlock, SameBlock, UpBlock, conv, warp, warp_packed
from hdac.nets.motion import DenseMotion, Motion, MotionSettings
from hdac.nets.picture import PACKED_CHANNELS, from_rgb, to_rgb
from hdac.nets.settings import NetworkSettings

MOTION_SIDE = 64
CONDITION = 4
"""Numbers of a condition: is there a base layer, its QP, the reference's QP, the wish for perceptual quality."""


@dataclass(frozen=True)
class NetSettings(NetworkSettings):
    """Everything that determines the shapes; a checkpoint carries it."""

    PARTS: ClassVar[dict[str, type]] = {"detector": DetectorSettings, "motion": MotionSettings}

    name: str
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    colour: str = "rgb"
    """What convolutions see: "rgb" at full size, or "packed" 4:2:0 at half size."""
    widths: tuple[int, ...] = (64, 128, 256)
    """Channels at full, half, .. size of what convolutions see."""
    n_blocks: int = 6
    """Residual blocks at the smallest size."""
    n_outer_blocks: tuple[int, ...] = (0, 0)
    """Residual blocks at the other sizes of the decoder, largest size first."""
    kernel: int = 7
    """Of the first and last convolutions."""
    skips: bool = False
    """Whether larger sizes are fused, too."""
    normalise: bool = True
    """Batch norm in the generator."""
    strided: bool = False
    """Strided convolutions instead of convolution and pooling."""
    conditioned: bool = False
    """Whether residual blocks know the quantisers."""
    fusion: str = "attention"

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise InputError(f"fusion {self.fusion!r} is not one of {', '.join(FUSIONS)}")
        if self.colour not in ("rgb", "packed"):
            raise InputError(f"colour {self.colour!r} is not one of rgb, packed")
        if len(self.n_outer_blocks) != len(self.widths) - 1:
            raise InputError(f"{len(self.widths)} widths need {len(self.widths) - 1} n_outer_blocks, got {self.n_outer_blocks}")

    @property
    def multiple(self) -> int:
        """Coded pictures are padded to multiples of this, in luma samples."""
        return (2 if self.colour == "packed" else 1) << len(self.widths) - 1


PAPER = NetSettings("paper")
LITE = NetSettings(
    "lite",
    DetectorSettings(jacobians=False, width=16, max_width=256, depth=4),
    MotionSettings(width=16, max_width=256, depth=4, base=True, flow=True),
    colour="packed",
    widths=(32, 64, 96),
    n_blocks=4,
    n_outer_blocks=(1, 1),
    kernel=3,
    skips=True,
    normalise=False,
    strided=True,
    conditioned=True,
    fusion="gated",
)
SIZES = {"paper": PAPER, "lite": LITE}


class Reference(NamedTuple):
    """What a decoder keeps of a reference picture."""

    picture: Tensor
    """Packed (B, 6, H/2, W/2)."""
    small: Tensor
    """As dense motion sees it."""
    keypoints: Keypoints
    features: list[Tensor]
    """Of E_A, largest size first."""


class Output(NamedTuple):
    """picture: packed (B, 6, H/2, W/2), not clamped; of the window, where one was asked for.
    warped: the reference by the motion alone, whole. gate: (B, 1, ..) confidence of the correction, or None."""

    picture: Tensor
    warped: Tensor
    motion: Motion
    gate: Tensor | None


class Window(NamedTuple):
    """A square of a packed picture: training refines no more than that. Multiples of the smallest size's pixel (4)."""

    top: int
    left: int
    side: int

    def of(self, feature: Tensor, whole: int) -> Tensor:
        """The same square of a feature of any size; whole: height of the packed picture."""
        shrink = whole // feature.shape[-2]
        rows = slice(self.top // shrink, (self.top + self.side) // shrink)
        columns = slice(self.left // shrink, (self.left + self.side) // shrink)
        return feature[..., rows, columns]


class Encoder(nn.Module):
    """E_A and E_B: first block and down blocks; features of every size, largest first."""

    def __init__(self, n_in: int, settings: NetSettings) -> None:
        super().__init__()
        widths = settings.widths
        self.first = SameBlock(n_in, widths[0], settings.kernel, settings.normalise)
        self.down = nn.ModuleList(
            DownBlock(a, b, settings.normalise, settings.strided) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.first(x)]
        for block in self.down:
            features.append(block(features[-1]))
        return features


class Level(nn.Module):
    """One size of the decoder: up, the features of that size, residual blocks."""

    def __init__(self, settings: NetSettings, level: int) -> None:
        super().__init__()
        width, n_condition = settings.widths[level], CONDITION if settings.conditioned else 0
        self.up = UpBlock(settings.widths[level + 1], width, settings.normalise)
        self.skip = Beside(width) if settings.skips else None
        self.blocks = nn.ModuleList(
            ResBlock(width, n_condition, settings.normalise) for _ in range(settings.n_outer_blocks[level])
        )

    def forward(self, x: Tensor, animated: Tensor, base: Tensor, condition: Tensor) -> Tensor:
        x = self.up(x)
        if self.skip is not None:
            x = self.skip(x, animated, base)
        for block in self.blocks:
            x = block(x, condition)
        return x


class HybridNet(nn.Module):
    """Decoder and, for its keypoint detector, encoder network of DAC and H-DAC. Pictures are packed (`hdac.nets.picture`)."""

    def __init__(self, settings: NetSettings) -> None:
        super().__init__()
        self.settings = settings
        n_in = PACKED_CHANNELS if settings.colour == "packed" else 3
        self.reduce = AntiAlias(n_in, factor=2 if settings.colour == "packed" else 4)
        self.detector = KeypointDetector(settings.detector, n_in)
        self.motion = DenseMotion(settings.motion, settings.detector.n_keypoints, n_in)
        self.encode_reference = Encoder(n_in, settings)
        # the correction network sees the warped reference picture beside the base layer: details of full size to copy from
        self.encode_base = Encoder(2 * n_in if settings.skips else n_in, settings)
        n_condition = CONDITION if settings.conditioned else 0
        self.fuse = FUSIONS[settings.fusion](settings.widths[-1], settings.n_blocks, n_condition, settings.normalise)
        self.levels = nn.ModuleList(Level(settings, level) for level in reversed(range(len(settings.widths) - 1)))
        self.gated = settings.fusion == "gated"
        self.last = conv(settings.widths[0], n_in + self.gated, settings.kernel)
        if self.gated:
            nn.init.zeros_(self.last.weight)
            assert self.last.bias is not None
            nn.init.zeros_(self.last.bias)

    def detect(self, picture: Tensor) -> Keypoints:
        """Keypoints of packed pictures."""
        keypoints: Keypoints = self.detector(self._small(self._seen(picture)))
        return keypoints

    def reference(self, picture: Tensor) -> Reference:
        """What the decoder computes once for a reference picture, packed (B, 6, H/2, W/2)."""
        seen = self._seen(picture)
        small = self._small(seen)
        return Reference(picture, small, self.detector(small), self.encode_reference(seen))

    def forward(
        self,
        reference: Reference,
        target: Keypoints,
        base: Tensor | None,
        condition: Tensor,
        window: Window | None = None,
        flow: Tensor | None = None,
    ) -> Output:
        """The target picture.

        target:    keypoints as the decoder has them: sent, or detected on the base layer.
        base:      decoded base layer, packed (B, 6, H/2, W/2), or None. Ignored in pictures whose condition says that there is
                   none.
        condition: (B, 4), see `condition`.
        window:    what to compute, or None: all.
        flow:      (B, H/2, W/2, 2) from the base layer to the reference (`hdac.nets.flow`), or None; ignored like `base`.
        """
        there = condition[:, :1, None, None]
        seen_base = None if base is None else self._seen(base) * there
        small_base = None if seen_base is None else self._small(seen_base)
        motion: Motion = self.motion(reference.small, reference.keypoints, target, small_base, condition[:, 0], flow)
        animated = [self._animate(feature, motion) for feature in reference.features]
        warped = whole = warp_packed(reference.picture, motion.deformation)
        if window is not None:
            height = whole.shape[-2]
            animated = [window.of(feature, height) for feature in animated]
            warped = window.of(whole, height)
            base = None if base is None else window.of(base, height)
            seen_base = None if seen_base is None else window.of(seen_base, height)
        side = self._base_features(seen_base, warped, animated)
        x: Tensor = self.fuse(animated[-1], side[-1], condition)
        for level, block in enumerate(self.levels, start=2):
            x = block(x, animated[-level], side[-level], condition)
        x = self.last(x)
        if not self.gated:
            return Output(self._picture(torch.sigmoid(x)), whole, motion, None)
        gate = torch.sigmoid(x[:, -1:])
        correction = gate * x[:, :-1]
        if self.settings.colour == "rgb":
            correction = from_rgb(correction, difference=True)
        corrected = warped if base is None else torch.where(there > 0, base, warped)
        return Output(corrected + correction, whole, motion, gate)

    def _small(self, seen: Tensor) -> Tensor:
        """Motion is found at 64x64: a quarter of a 256x256 picture, as in FOMM; pictures of other sizes are scaled to it."""
        if seen.shape[-2:] == (MOTION_SIDE * self.reduce.factor,) * 2:
            small: Tensor = self.reduce(seen)
            return small
        size = (MOTION_SIDE, MOTION_SIDE)
        return F.interpolate(seen.float(), size=size, mode="bilinear", antialias=True, align_corners=False)

    def _seen(self, picture: Tensor) -> Tensor:
        return picture if self.settings.colour == "packed" else to_rgb(picture)

    def _picture(self, seen: Tensor) -> Tensor:
        return seen if self.settings.colour == "packed" else from_rgb(seen)

    def _animate(self, feature: Tensor, motion: Motion) -> Tensor:
        visible = motion.occlusion
        if visible.shape[-2:] != feature.shape[-2:]:
            visible = F.interpolate(visible, size=feature.shape[-2:], mode="bilinear", align_corners=True)
        return warp(feature, motion.deformation) * visible.to(feature.dtype)

    def _base_features(self, base: Tensor | None, warped: Tensor, animated: list[Tensor]) -> list[Tensor]:
        if self.settings.skips:
            copied = self._seen(warped)
            seen = torch.zeros_like(copied) if base is None else base
            features: list[Tensor] = self.encode_base(torch.cat((seen, copied), dim=1))
            return features
        if base is None:
            return [torch.zeros_like(feature) for feature in animated]
        features = self.encode_base(base)
        return features


def condition(base_qp: Tensor | None, reference_qp: Tensor, perceptual: Tensor) -> Tensor:
    """(B, 4) from QPs of shape (B,), 0..51, and perceptual in [0, 1]: 0 for the least error, 1 for the best look."""
    zero = torch.zeros_like(perceptual)
    there, qp = (zero, zero) if base_qp is None else (zero + 1, (base_qp - 42) / 10)
    return torch.stack((there, qp, (reference_qp - 32) / 10, perceptual), dim=1)
