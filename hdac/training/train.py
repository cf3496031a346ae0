"""Training of DAC and H-DAC networks, one script: `hdac train run CACHE --out RUN`.

    cache (hdac.training.cache) -> batches -> network -> losses -> Adam -> last.pt every few minutes, log.csv, pictures

One network serves all uses, drawn anew for every picture: with and without a base layer (H-DAC, DAC), keypoints sent or
detected on the base layer, least error or best look wanted. It is told the quantisers. Base layers, references (their intra
pictures) and quantised keypoints are those a decoder would have.

A run that is killed resumes from `last.pt`, with the same random numbers it would have drawn, in every process. Under
`torchrun` each process takes its own batches, and gradients are averaged (DDP). `--minutes` ends a run in time; `hdac train
plot RUN` draws its curves, `hdac train export RUN` writes weights to ship.
"""

from __future__ import annotations

import copy
import csv
import itertools
import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from data.errors import HdacError, InputError
from data.files import write_atomic
from hdac.keypoints import KeypointSettings
from hdac.nets.backbones import PerceptualLpips, PerceptualMsvgg, load_lpips_squeeze, load_msvgg
from hdac.nets.discriminator import Discriminator
from hdac.nets.flow import optical_flow
from hdac.nets.hybrid import SIZES, HybridNet, NetSettings, Window, condition
from hdac.nets.keypoints import Keypoints
from hdac.nets.layers import channels_last
from hdac.nets.picture import pack, to_rgb
from hdac.training import cache
from hdac.training.cache import CachedClip
from hdac.training.losses import (
    ThinPlateSpline,
    adversarial_loss,
    discriminator_loss,
    equivariance,
    feature_matching,
    jacobian_equivariance,
    ms_ssim,
    psnr_db,
    psnr_y_db,
)

HEIGHT = WIDTH = 256
JACOBIAN_STEP = KeypointSettings.jacobian_step

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
    """Of the networks: `hdac.nets.hybrid.SIZES`."""
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
    told (`conditioned`) has them in all."""
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
    seed: int = 1
    held_out: int = 8
    """Every how many-th identity is for validation."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("size", tuple(SIZES)),
            ("schedule", SCHEDULES),
            ("references", REFERENCES),
            ("perceptual", (*LOADERS, "")),
        ):
            if getattr(self, name) not in allowed:
                known = ", ".join(value or "nothing" for value in allowed)
                raise InputError(f"{name} {getattr(self, name)!r} is not one of {known}")
        if self.batch < 1 or self.steps < 1:
            raise InputError(f"batch and steps must be positive, got {self.batch} and {self.steps}")
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
    def net(self) -> NetSettings:
        settings = SIZES[self.size]
        return replace(settings, fusion=self.fusion) if self.fusion else settings


RECIPES = {
    "lite": TrainSettings(),
    # the paper: 22,000 clips, losses of FOMM, 100 epochs; the authors' code of 2022: each clip 25 times an epoch, 18 to a step;
    # FOMM: Adam, the learning rate and its drops. What differs is listed in hdac/nets/README.md.
    "paper": TrainSettings(
        size="paper",
        batch=18,
        steps=100 * 25 * 22_000 // 18,
        learning_rate=2e-4,
        schedule="drops",
        betas=(0.5, 0.999),
        warmup=0,
        clip_norm=0.0,
        ema=0.0,
        references="separate",
        no_base=0.0,
        sent=1.0,
        look=1.0,
        window=256,
        keypoint_step=64,
        psnr_weight=0.0,
        perceptual="msvgg",
        perceptual_weight=1.0,
        warp_weight=0.0,
        adversarial_weight=1.0,
        matching_weight=10.0,
    ),
}


# -- batches ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Pictures packed (B, 6, H/2, W/2); QPs (B,); flow (B, H/2, W/2, 2) from the base layer to the reference."""

    source: Tensor
    base: Tensor
    reference: Tensor
    base_qp: Tensor
    reference_qp: Tensor
    flow: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


def draw(clips: list[CachedClip], rng: np.random.Generator, size: int) -> Batch:
    """A random batch: people with equal chances, then one of their clips, a variant, a frame; half of them mirrored."""
    by_person: dict[str, list[CachedClip]] = {}
    for clip in clips:
        by_person.setdefault(clip.identity, []).append(clip)
    people = list(by_person.values())
    picks = []
    for _ in range(size):
        person = people[rng.integers(len(people))]
        clip = person[rng.integers(len(person))]
        picks.append((clip, int(rng.integers(len(clip.bases))), int(rng.integers(len(clip.source)))))
    batch = collect(picks)
    mirrored = torch.from_numpy(rng.random(size) < 0.5)
    return replace(
        batch,
        source=_mirror(batch.source, mirrored),
        base=_mirror(batch.base, mirrored),
        reference=_mirror(batch.reference, mirrored),
        flow=torch.where(mirrored[:, None, None, None], batch.flow.flip(2) * torch.tensor([-1.0, 1.0]), batch.flow),
    )


def collect(picks: list[tuple[CachedClip, int, int]]) -> Batch:
    """The batch of these (clip, variant, index of a stored frame)."""
    chosen = [(clip, clip.variants[v], v, t) for clip, v, t in picks]
    bases = [clip.bases[v][t] for clip, _, v, t in chosen]
    references = [clip.intras[v][variant["intra_index"][t]] for clip, variant, v, t in chosen]
    flows = [optical_flow(_luma(base), _luma(reference)) for base, reference in zip(bases, references, strict=True)]
    return Batch(
        _packed([clip.source[t] for clip, _, _, t in chosen]),
        _packed(bases),
        _packed(references),
        torch.tensor([float(variant["qp"]) for _, variant, _, _ in chosen]),
        torch.tensor([float(variant["reference_qp"]) for _, variant, _, _ in chosen]),
        torch.from_numpy(np.stack(flows)),
    )


def _luma(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return frame[: HEIGHT * WIDTH].reshape(HEIGHT, WIDTH)


def _packed(frames: list[Any]) -> Tensor:
    return pack(torch.from_numpy(np.stack(frames)), HEIGHT, WIDTH)


def _mirror(packed: Tensor, which: Tensor) -> Tensor:
    """Left and right changed in the pictures of `which`: columns, and the two columns of luma within a packed pixel."""
    flipped = packed.flip(-1)[:, [1, 0, 3, 2, 4, 5]]
    return torch.where(which[:, None, None, None], flipped, packed)


# -- objective -------------------------------------------------------------------------------------------------------


class Objective(nn.Module):
    """The loss of a batch: one forward pass of everything, so that DDP sees all of it."""

    def __init__(self, net: HybridNet, settings: TrainSettings) -> None:
        super().__init__()
        self.net = net
        self.settings = settings
        # in a list: neither trained nor saved
        self.judge = [LOADERS[settings.perceptual]()] if settings.perceptual else []

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor, Tensor]:
        """(loss, its terms, what came out and what was wanted as R'G'B', (B,) which of them ask for best look). All choices
        are drawn picture by picture."""
        s, device, b = self.settings, batch.source.device, len(batch.source)
        shares = torch.tensor([[1 - s.no_base], [s.sent], [s.look]])
        with_base, sent, look = (torch.rand(3, b, generator=generator) < shares).to(device)
        if not (s.perceptual or s.adversarial_weight) or not self.net.settings.conditioned:
            look = torch.full_like(look, bool(s.perceptual or s.adversarial_weight))
        sent = sent | ~with_base
        of_source = self.net.detect(batch.source)
        of_base = of_source if s.sent >= 1 else self.net.detect(batch.base)
        reference = self.net.reference(batch.reference)
        target = chosen(sent, quantised(of_source, s.keypoint_step), of_base)
        at_rest = chosen(sent, quantised(reference.keypoints, s.keypoint_step), reference.keypoints)
        known = condition(batch.base_qp, batch.reference_qp, look.float())
        known = torch.cat((known[:, :2] * with_base[:, None], known[:, 2:]), dim=1)
        height = batch.source.shape[-2]
        window = draw_window(generator, height, min(s.window // 2, height))
        part = window if self.net.settings.colour == "packed" else None
        out = self.net(reference._replace(keypoints=at_rest), target, batch.base, known, part, batch.flow)
        picture, wanted = out.picture if part else window.of(out.picture, height), window.of(batch.source, height)
        terms = {"psnr": -psnr_db(picture, wanted).mean(), "warp": -psnr_db(out.warped, batch.source).mean()}
        loss = s.psnr_weight * terms["psnr"] + s.warp_weight * terms["warp"]
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
            loss = loss + s.perceptual_weight * distance.sum() / b
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


def draw_window(generator: torch.Generator, whole: int, side: int) -> Window:
    """A random square; whole, side: in packed pixels."""
    top, left = (4 * int(torch.randint((whole - side) // 4 + 1, (), generator=generator)) for _ in range(2))
    return Window(top, left, side)


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


def _rounded(values: Tensor, step: int) -> Tensor:
    return values + ((values * step).round() / step - values).detach()


# -- the run ---------------------------------------------------------------------------------------------------------


class Run:
    """State of a training run, in memory and on disk."""

    def __init__(self, settings: TrainSettings, folder: Path, start_from: Path | None = None) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.folder = settings, folder
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = torch.device("cpu")
        if torch.cuda.is_available():
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(self.device)  # where gathering and broadcasting happen
        if self.world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        self.net = channels_last(HybridNet(settings.net).to(self.device))
        self.ema = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.objective = Objective(self.net, settings)
        for judge in self.objective.judge:
            judge.to(self.device)
        self.critic = Discriminator().to(self.device) if settings.adversarial_weight else None
        self.optimizer = torch.optim.Adam(self.net.parameters(), settings.learning_rate, settings.betas)
        # by itself, and not in DDP, which would wait for it in the generator's step: `_average` does what DDP does
        self.critic_optimizer = (
            torch.optim.Adam(self.critic.parameters(), settings.learning_rate, settings.betas) if self.critic else None
        )
        self.step, self.pictures, self.seconds = 0, 0, 0.0
        self.rng = np.random.default_rng([settings.seed, self.rank])
        self.generator = torch.Generator().manual_seed(settings.seed + 1000 * self.rank)
        if (folder / "last.pt").exists():
            self._load(folder / "last.pt")
        elif start_from is not None:
            self._begin_from(start_from)

    def _state(self) -> dict[str, Any]:
        return {
            "settings": asdict(self.settings),
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "critic": self.critic.state_dict() if self.critic else None,
            "critic_optimizer": self.critic_optimizer.state_dict() if self.critic_optimizer else None,
            "step": self.step,
            "pictures": self.pictures,
            "seconds": self.seconds,
            "judge": self.judge_column(),
            **self._random(),
        }

    def _random(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state, "generator": self.generator.get_state()}

    def save(self) -> None:
        """Writes last.pt. All processes call it at once: the first one writes the random numbers of the others, too."""
        everybody: list[dict[str, Any]] = [self._random()] * self.world
        if self.world > 1:
            dist.all_gather_object(everybody, self._random())
        if self.rank == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / "last.pt.part"
            torch.save({**self._state(), "others": everybody[1:]}, part)
            part.replace(self.folder / "last.pt")

    def _load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        judge = state.get("judge", self.judge_column())
        if judge != self.judge_column():
            raise InputError(f"{path} was trained on {judge}, and now its weights give {self.judge_column()}")
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.critic and self.critic_optimizer and state["critic"]:
            self.critic.load_state_dict(state["critic"])
            self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.step, self.pictures, self.seconds = state["step"], state["pictures"], state["seconds"]
        everybody = [state, *state.get("others", [])]
        if self.rank < len(everybody):
            self.rng.bit_generator.state = everybody[self.rank]["rng"]
            self.generator.set_state(everybody[self.rank]["generator"].cpu())
        else:  # there are more processes than before: a new sequence, none seen before
            self.rng = np.random.default_rng([self.settings.seed, self.rank, self.step])
            self.generator.manual_seed(self.settings.seed + 1000 * self.rank + 1_000_000 * self.step)

    def judge_column(self) -> str:
        """What the perceptual term is called: `msvgg` may be that of the distilled network."""
        return self.objective.judge[0].column if self.objective.judge else ""

    def _begin_from(self, path: Path) -> None:
        """Weights of another run, or exported ones; whatever has the same name and shape. Raises InputError for none."""
        if path.suffix == ".safetensors":
            state = {name: value.float() for name, value in load_file(path, str(self.device)).items()}
        else:
            state = torch.load(path, map_location=self.device, weights_only=True)["ema"]
        own = self.net.state_dict()
        fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
        if not fitting:
            raise InputError(f"{path} has no weights that fit a network of size {self.settings.size}")
        own.update(fitting)
        self.net.load_state_dict(own)
        self.ema.load_state_dict(own)

    # -- one step ----------------------------------------------------------------------------------------------------

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16)

    def agreed(self, *flags: bool) -> list[bool]:
        """What the first process says of each: clocks differ, and nobody may wait for one that has stopped."""
        if self.world > 1:
            said = torch.tensor(flags, dtype=torch.int32, device=self.device)
            dist.broadcast(said, src=0)
            return [bool(flag) for flag in said.tolist()]
        return list(flags)

    def learning_rate(self) -> float:
        s = self.settings
        if self.step < s.warmup:
            return s.learning_rate * (self.step + 1) / s.warmup
        if s.schedule == "constant":
            return s.learning_rate
        if s.schedule == "drops":
            return s.learning_rate * 0.1 ** sum(self.step >= drop * s.steps for drop in DROPS)
        progress = min(1.0, (self.step - s.warmup) / max(1, s.steps - s.warmup))
        return s.learning_rate * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * progress))))

    def advance(self, objective: nn.Module, batch: Batch) -> dict[str, float]:
        """One optimisation step; returns the terms of the loss."""
        s = self.settings
        optimizers = [self.optimizer, *([self.critic_optimizer] if self.critic_optimizer else [])]
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = self.learning_rate()
        with self.autocast():
            loss, terms, rgb, real, look = objective(batch, self.generator)
            share = look.float() / len(look)
            if self.critic:
                self.critic.requires_grad_(False)
                with torch.no_grad():
                    real_features, _ = self.critic(real)
                fake_features, verdict = self.critic(rgb)
                self.critic.requires_grad_(True)
                terms["adversarial"] = (share * adversarial_loss(verdict)).sum()
                terms["matching"] = (share * feature_matching(real_features, fake_features)).sum()
                loss = loss + s.adversarial_weight * terms["adversarial"] + s.matching_weight * terms["matching"]
        if not torch.isfinite(loss):  # before it reaches the weights and the checkpoint
            raise HdacError(f"step {self.step}: the loss is {float(loss)}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if s.clip_norm:
            nn.utils.clip_grad_norm_(self.net.parameters(), s.clip_norm)
        self.optimizer.step()
        if self.critic and self.critic_optimizer:
            with self.autocast():
                real_verdict, verdict = self.critic(real)[1], self.critic(rgb.detach())[1]
                critic_loss = (share * discriminator_loss(real_verdict, verdict)).sum()
            self.critic_optimizer.zero_grad(set_to_none=True)
            critic_loss.backward()
            self._average(self.critic)
            self.critic_optimizer.step()
            terms["critic"] = critic_loss
        decay = min(s.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for averaged, value in zip(self.ema.state_dict().values(), self.net.state_dict().values(), strict=True):
                if averaged.is_floating_point():
                    averaged.lerp_(value, 1 - decay)
                else:
                    averaged.copy_(value)
        self.step += 1
        self.pictures += s.batch * self.world
        return {name: float(value.detach()) for name, value in terms.items()}

    def _average(self, module: nn.Module) -> None:
        """Gradients become their mean over the processes."""
        if self.world > 1:
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            dist.all_reduce(flat)
            flat /= self.world
            for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))

    # -- validation --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self, clips: list[CachedClip], n_clips: int = 16, n_frames: int = 2) -> dict[str, float]:
        """Means over people never trained on: PSNR-Y in dB and perceptual distance of the base layer, of H-DAC (motion from
        the base layer) for least error and best look, of H-DAC with sent keypoints, and of DAC; the gain over the base layer
        in each band of QPs. Writes pictures.png: source, reference, and the same six."""
        judge = self.objective.judge[0] if self.objective.judge else None
        chosen = _one_after_another(clips, n_clips)
        found: dict[str, list[float]] = {}
        shown: list[Tensor] = []
        for clip in chosen:
            moments = np.linspace(len(clip.source) // 3, len(clip.source) - 1, n_frames).astype(int)
            batch = collect([(clip, v, int(t)) for v in range(len(clip.bases)) for t in moments]).to(self.device)
            pictures = {"base": batch.base}
            none, all_ = torch.zeros_like(batch.base_qp), torch.ones_like(batch.base_qp)
            with self.autocast():
                reference = self.ema.reference(batch.reference)
                at_rest = reference._replace(keypoints=quantised(reference.keypoints, self.settings.keypoint_step))
                seen, sent = self.ema.detect(batch.base), quantised(self.ema.detect(batch.source), self.settings.keypoint_step)
                known = condition(batch.base_qp, batch.reference_qp, none)
                pictures["hdac"] = self.ema(reference, seen, batch.base, known, flow=batch.flow).picture
                pictures["hdac_sent"] = self.ema(at_rest, sent, batch.base, known, flow=batch.flow).picture
                look = condition(batch.base_qp, batch.reference_qp, all_)
                pictures["hdac_look"] = self.ema(reference, seen, batch.base, look, flow=batch.flow).picture
                pictures["dac"] = self.ema(at_rest, sent, None, condition(None, batch.reference_qp, none)).picture
                pictures["dac_look"] = self.ema(at_rest, sent, None, condition(None, batch.reference_qp, all_)).picture
            for name, picture in pictures.items():
                quality = psnr_y_db(picture, batch.source)
                found.setdefault(f"{name}_psnr_y", []).extend(quality.tolist())
                if name in ("hdac", "hdac_look"):
                    gain = quality - psnr_y_db(batch.base, batch.source)
                    for v, value in enumerate(gain.view(-1, n_frames).mean(1).tolist()):
                        found.setdefault(f"{name}_gain_{v}", []).append(value)
                if judge is not None:
                    distance = judge(to_rgb(batch.source).clamp(0, 1), to_rgb(picture.float()).clamp(0, 1))
                    found.setdefault(f"{name}_{judge.column}", []).extend(distance.float().tolist())
            if len(shown) < 6:
                row = [batch.source[:1], batch.reference[:1], *(picture[:1].float() for picture in pictures.values())]
                shown.append(torch.cat([to_rgb(picture)[0] for picture in row], dim=-1))
        if shown:
            strip = (torch.cat(shown, dim=-2).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
            Image.fromarray(strip).save(self.folder / "pictures.png")
        return {name: float(np.mean(values)) for name, values in found.items()}


def _one_after_another(clips: list[CachedClip], count: int) -> list[CachedClip]:
    """At most `count` clips: the first of every person, then the second of every person, .. ."""
    by_person: dict[str, list[CachedClip]] = {}
    for clip in clips:
        by_person.setdefault(clip.identity, []).append(clip)
    rounds = itertools.zip_longest(*by_person.values())
    return [clip for clip in itertools.chain.from_iterable(rounds) if clip is not None][:count]


def run(
    cache_folder: Path,
    out: Path,
    settings: TrainSettings,
    minutes: float,
    every: int,
    save_minutes: float,
    start_from: Path | None,
) -> None:
    """Trains until `settings.steps` or `minutes` are over; resumes what is in `out`. Validates `every` so many steps.

    Raises InputError for a cache or weights that do not fit, HdacError where the loss is no number any more.
    """
    clips = cache.load(cache_folder)
    if settings.references == "separate":
        clips = [clip.separate() for clip in clips]
    training, validation = cache.split(clips, settings.held_out)
    out.mkdir(parents=True, exist_ok=True)
    state = Run(settings, out, start_from)
    if state.rank == 0:
        write_atomic(out / "settings.json", json.dumps(asdict(settings), indent=1).encode())
        n_parameters = sum(p.numel() for p in state.net.parameters()) / 1e6
        print(f"{n_parameters:.2f} M parameters, {len(training)} + {len(validation)} clips, from step {state.step}")
        print(f"perceptual term: {state.judge_column() or 'none'}", flush=True)
    if state.step < settings.steps:
        _train(state, training, validation, minutes, every, save_minutes)
    else:
        print(f"{out}: all {settings.steps} steps are taken")
    if state.world > 1:
        dist.destroy_process_group()


def _train(
    state: Run, training: list[CachedClip], validation: list[CachedClip], minutes: float, every: int, save_minutes: float
) -> None:
    s, objective = state.settings, state.objective
    parallel = nn.parallel.DistributedDataParallel(objective, find_unused_parameters=True) if state.world > 1 else objective
    began = saved = shown = time.monotonic()
    so_far, n_begun, terms_sum = state.seconds, state.step, _Mean()
    while True:
        batch = draw(training, state.rng, s.batch)
        terms_sum.add(state.advance(parallel, batch.to(state.device)))
        now = time.monotonic()
        state.seconds = so_far + now - began
        over, due = state.agreed(state.step >= s.steps or now - began > 60 * minutes, now - saved > 60 * save_minutes)
        if state.rank == 0 and (now - shown > 20 or over):
            rate = (state.step - n_begun) * s.batch * state.world / (now - began)
            print(f"step {state.step}  {rate:.1f} pictures/s  lr {state.learning_rate():.1e}  {terms_sum}", flush=True)
            shown = now
        if due or over:
            state.save()
            saved = now
        if (state.step % every == 0 or over) and state.rank == 0:  # the others wait in their next step
            scores = state.validate(validation)
            _log(state.folder / "log.csv", {"step": state.step, "seconds": state.seconds, **terms_sum.take(), **scores})
            print("  ".join(f"{name} {value:.4g}" for name, value in scores.items()), flush=True)
        if over:
            return


class _Mean:
    """Running means of the terms of a loss."""

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = {}

    def add(self, terms: dict[str, float]) -> None:
        for name, value in terms.items():
            self.sums.setdefault(name, []).append(value)

    def __str__(self) -> str:
        return "  ".join(f"{name} {np.mean(values):.4g}" for name, values in self.sums.items())

    def take(self) -> dict[str, float]:
        means = {f"train_{name}": float(np.mean(values)) for name, values in self.sums.items()}
        self.sums = {}
        return means


def _log(path: Path, row: dict[str, float]) -> None:
    """Adds a row; columns that appear later widen the table. Steps that a killed run takes again replace the old ones."""
    rows = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    rows = [old for old in rows if int(old["step"]) < row["step"]]
    rows.append({name: str(value) if isinstance(value, int) else f"{value:.6g}" for name, value in row.items()})
    columns = list(dict.fromkeys(name for old in rows for name in old))
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)
