"""Everything that a training run can be told, and the recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from data.errors import InputError
from hdac.nets.backbones import PerceptualLpips, PerceptualMsvgg, load_lpips_squeeze, load_msvgg
from hdac.nets.hybrid import NetSettings
from hdac.nets.models import Settings, sizes
from hdac.nets.vid2vid import Vid2VidSettings
from hdac.points import STEP

LOADERS: dict[str, Callable[[], PerceptualLpips | PerceptualMsvgg]] = {"lpips": load_lpips_squeeze, "msvgg": load_msvgg}
"""Networks of the perceptual term."""
SCHEDULES = ("cosine", "drops", "constant")
DROPS = (0.6, 0.9)  # FOMM, vox-256: epochs 60 and 90 of 100, to a tenth each
REFERENCES = ("any", "separate")
MIN_WINDOW, MIN_WINDOW_ADVERSARIAL = 32, 96  # of the distilled VGG; of the discriminator


@dataclass(frozen=True)
class TrainSettings:
    """A training run; saved with it."""

    size: str = "lite"
    """Of the networks: `hdac.nets.models.sizes`."""
    fusion: str = ""
    """Another fusion than that of the size."""
    batch: int = 6
    """Pictures in a step, per process."""
    steps: int = 100_000
    learning_rate: float = 4e-4
    """At its highest; published: 2e-4."""
    schedule: str = "cosine"
    """"cosine": to a hundredth along a cosine; "drops": to a tenth after 60 % and again after 90 % of the steps, as FOMM
    published; "constant"."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Of Adam; published: (0.5, 0.999)."""
    warmup: int = 200
    """Steps of rising learning rate."""
    clip_norm: float = 20.0
    """Largest norm of the gradient; 0: unbounded, as published."""
    ema: float = 0.998
    """Decay of the averaged weights, which are what is validated and shipped; 0: the last weights, as published."""
    references: str = "any"
    """Variants of the cache: "any", or "separate": only those with BPG references beside a coarse base layer, as in the
    paper."""
    no_base: float = 0.15
    """Share of pictures without a base layer (DAC)."""
    sent: float = 0.15
    """Share of the others whose keypoints come from the source, quantised; else they are detected on the base layer."""
    look: float = 0.4
    """Share of pictures that ask for best look. Only they have a perceptual and an adversarial term; a network that is not
    told (`conditioned`) has them in all, but for residuals, which have them in that share."""
    window: int = 128
    """Side of the square, in luma samples, that is refined and compared; motion is always found on whole pictures, and networks
    on RGB refine all of them."""
    keypoint_step: int = 128
    """Quantiser steps per unit of a keypoint coordinate."""
    psnr_weight: float = 1.0
    """Of the PSNR (6 Y + U + V) / 8: 1 makes a dB the unit of all other weights."""
    l1_weight: float = 0.0
    """Of the mean absolute difference of R'G'B' in [0, 1]."""
    mse_weight: float = 0.0
    """Of the mean squared difference of R'G'B' in [0, 1]; the authors' code of 2024: 100."""
    ms_ssim_weight: float = 0.0
    """Of 1 - MS-SSIM of luma; four scales in a window of 128."""
    perceptual: str = "lpips"
    """Network of the perceptual term: "lpips" (squeeze), "msvgg" (VGG19 where its weights are here, else the distilled one, at
    the authors' scales and weights), or "" for none."""
    perceptual_weight: float = 50.0
    """Of it, in pictures that ask for best look. msVGG has the published 10 of every level in itself."""
    warp_weight: float = 0.2
    """Of the PSNR of the warped reference by itself. The base layer hides from the rest what motion is for."""
    adversarial_weight: float = 0.0
    """In pictures that ask for best look; published: 1, beside msVGG of weight 1."""
    matching_weight: float = 0.0
    """Of the discriminator's features; published: 10."""
    equivariance_weight: float = 10.0
    """Of keypoints under a thin plate spline (FOMM Eq. 9), as published."""
    jacobian_weight: float = 10.0
    """Likewise of their Jacobians (FOMM Eq. 10), as published; without effect where the detector has none."""
    prior_weight: float = 10.0
    """face-vid2vid: of the keypoints' distances and mean depth (Eq. 7), as published."""
    pose_weight: float = 20.0
    """face-vid2vid: of the head pose against the teacher's, in radians summed over three angles; published: 20."""
    only_pose: bool = False
    """face-vid2vid (ours): the head pose alone is trained, a beginning for everything else (`--start-from`)."""
    flow_weight: float = 0.0
    """face-vid2vid, mobile family (ours): of the picture's motion against optical flow from source to reference, a teacher at
    training only, in units of sampling grids. Photometric terms alone are slow to move anything."""
    feature_weight: float = 0.0
    """Mobile family (ours): of PSNR and perceptual term of mouth and eyes alone, in units of those of whole windows. They are
    small, and what a face says is seen on them; without effect on clips whose landmarks nobody knows."""
    tracking_weight: float = 0.0
    """Mobile family (ours): of keypoints that are detected, against where optical flow says that those of the reference are."""
    teacher: str = ""
    """Mobile family: weights whose detector is distilled (Lu and Zheng, Eq. 1); \"\": none."""
    distill_weight: float = 100.0
    """Of that."""
    only_detector: bool = False
    """Mobile family: the keypoint detector alone is trained."""
    deformation_weight: float = 5.0
    """face-vid2vid: of the deformations' size, as published."""
    dropout: float = 0.75
    """face-vid2vid: largest share of deformations that a picture does without, as published."""
    rate_weight: float = 2.0
    """residual: of the bits that the context model needs for a sign."""
    holes: float = 0.5
    """residual: share of pictures with blocks left out."""
    seed: int = 1
    held_out: int = 8
    """Every how many-th identity is for validation."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("size", tuple(sizes())),
            ("schedule", SCHEDULES),
            ("references", REFERENCES),
            ("perceptual", (*LOADERS, "")),
        ):
            if getattr(self, name) not in allowed:
                known = ", ".join(value or "nothing" for value in allowed)
                raise InputError(f"{name} {getattr(self, name)!r} is not one of {known}")
        if self.batch < 1 or self.steps < 1:
            raise InputError(f"batch and steps must be positive, got {self.batch} and {self.steps}")
        if self.only_pose and not isinstance(self.net, Vid2VidSettings):
            raise InputError(f"networks of size {self.size} have no head pose to train alone")
        if (self.only_detector or self.teacher) and not getattr(self.net, "n_learned", 0):
            raise InputError(f"networks of size {self.size} have no keypoint detector to train alone or to distil")
        if self.matching_weight and not self.adversarial_weight:
            raise InputError(f"matching_weight {self.matching_weight} without an adversarial_weight: there is no discriminator")
        least = MIN_WINDOW_ADVERSARIAL if self.adversarial_weight else MIN_WINDOW
        if self.window < least or self.window % 8:
            raise InputError(f"window {self.window} is not a multiple of 8 from {least} on")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainSettings:
        """Those that a run has saved; what it did not know yet has its default. Raises InputError for unknown names."""
        try:
            return cls(**{**values, "betas": tuple(values["betas"])})
        except (KeyError, TypeError) as error:
            raise InputError(f"not the settings of a training run: {error}") from error

    @property
    def net(self) -> Settings:
        settings = sizes()[self.size]
        if not self.fusion:
            return settings
        if not isinstance(settings, NetSettings):
            raise InputError(f"networks of size {self.size} have no fusion, but fusion is {self.fusion!r}")
        return replace(settings, fusion=self.fusion)


# what the papers have in common: Adam as FOMM has it, its losses, whole pictures, nothing of our own
_PUBLISHED = TrainSettings(
    learning_rate=2e-4,
    betas=(0.5, 0.999),
    warmup=0,
    clip_norm=0.0,
    ema=0.0,
    look=1.0,
    window=256,
    psnr_weight=0.0,
    perceptual="msvgg",
    perceptual_weight=1.0,
    warp_weight=0.0,
    adversarial_weight=1.0,
    matching_weight=10.0,
)

RECIPES = {
    "lite": TrainSettings(),
    "face-vid2vid": TrainSettings(
        size="face-vid2vid",
        batch=4,
        look=0.7,
        perceptual_weight=100.0,
        equivariance_weight=20.0,
        flow_weight=100.0,
    ),
    "face-vid2vid-pose": TrainSettings(size="face-vid2vid", batch=32, only_pose=True, look=0.0, perceptual=""),
    "animation": TrainSettings(
        size="motion-net-20l",
        batch=8,
        look=0.7,
        perceptual_weight=100.0,
        learning_rate=1e-3,
        flow_weight=50.0,
        keypoint_step=STEP,
    ),
    "landmarks": TrainSettings(
        size="landmarks", batch=48, look=0.0, perceptual="", warp_weight=0.0, learning_rate=2e-3, window=32
    ),
    "segmentation": TrainSettings(
        size="segmentation", batch=32, look=0.0, perceptual="", warp_weight=0.0, learning_rate=2e-3, window=32
    ),
    "residual": TrainSettings(size="residual", look=0.7, warp_weight=0.0, learning_rate=8e-4, rate_weight=1.0),
    # Wang et al., section A.3: 100 epochs of 280,000 clips on eight GPUs; the batch is not published
    "face-vid2vid-paper": replace(
        _PUBLISHED,
        size="face-vid2vid-paper",
        batch=4,
        steps=100 * 280_000 // 32,
        schedule="constant",
        equivariance_weight=20.0,
    ),
    # the paper: 22,000 clips, losses of FOMM, 100 epochs; the authors' code of 2022: each clip 25 times an epoch, 18 to a step;
    # FOMM: Adam, the learning rate and its drops. What differs is listed in hdac/nets/README.md.
    "paper": replace(
        _PUBLISHED,
        size="paper",
        batch=18,
        steps=100 * 25 * 22_000 // 18,
        schedule="drops",
        references="separate",
        no_base=0.0,
        sent=1.0,
        keypoint_step=64,
    ),
}
