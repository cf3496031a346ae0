"""Training of every network here, one script: `hdac train run CACHE --out RUN`.

    cache (hdac.training.cache) -> batches -> network -> losses -> Adam -> last.pt every few minutes, log.csv, pictures

What is minimised is the objective of the network's kind (`hdac.training.objectives`). DAC and H-DAC: one network serves all
uses, drawn anew for every picture: with and without a base layer (H-DAC, DAC), keypoints sent or detected on the base layer,
least error or best look wanted. face-vid2vid: poses after a teacher's, some deformations left out. Networks are told the
quantisers. Base layers, references (their intra pictures) and quantised motion are those a decoder would have.

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
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from data.errors import HdacError, InputError
from data.files import write_atomic
from hdac.nets.discriminator import Discriminator
from hdac.nets.layers import channels_last
from hdac.nets.models import build
from hdac.nets.picture import to_rgb
from hdac.training import cache
from hdac.training.batches import Batch, collect, draw
from hdac.training.cache import CachedClip
from hdac.training.losses import adversarial_loss, discriminator_loss, feature_matching, psnr_y_db
from hdac.training.objectives import OBJECTIVES
from hdac.training.settings import DROPS, TrainSettings

STATISTICS = ("tables", "huffman", "prior")
"""Buffers of networks: what `hdac train tables` learns."""


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
        self.net = channels_last(build(settings.net).to(self.device))
        self.ema = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.objective = OBJECTIVES[type(self.net)](self.net, settings)
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
        """Weights of another run, or exported ones; whatever has the same name and shape, but for statistics of coders, which
        are those of another network. Raises InputError for none."""
        if path.suffix == ".safetensors":
            state = {name: value.float() for name, value in load_file(path, str(self.device)).items()}
        else:
            state = torch.load(path, map_location=self.device, weights_only=True)["ema"]
        own = self.net.state_dict()
        fitting = {
            name: value
            for name, value in state.items()
            if name in own and own[name].shape == value.shape and name not in STATISTICS
        }
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
        """Means over people never trained on: PSNR-Y in dB and perceptual distance of what the objective's `pictures` are; the
        gain of its `corrections` over the base layer in each band of QPs. Writes pictures.png: source, reference, and the same
        pictures."""
        judge = self.objective.judge[0] if self.objective.judge else None
        chosen = _one_after_another(clips, n_clips)
        found: dict[str, list[float]] = {}
        shown: list[Tensor] = []
        for clip in chosen:
            moments = np.linspace(len(clip.source) // 3, len(clip.source) - 1, n_frames).astype(int)
            picks = [(clip, v, int(t)) for v in range(len(clip.bases)) for t in moments]
            batch = collect(picks, self.objective.wants).to(self.device)
            with self.autocast():
                pictures = self.objective.pictures(self.ema, batch)
            for name, values in self.objective.errors(self.ema, batch).items():
                found.setdefault(name, []).extend(values.tolist())
            for name, picture in pictures.items():
                quality = psnr_y_db(picture, batch.source)
                found.setdefault(f"{name}_psnr_y", []).extend(quality.tolist())
                if name in self.objective.corrections:
                    gain = quality - psnr_y_db(batch.base, batch.source)
                    for v, value in enumerate(gain.view(-1, n_frames).mean(1).tolist()):
                        found.setdefault(f"{name}_gain_{v}", []).append(value)
                if judge is not None:
                    distance = judge(to_rgb(batch.source).clamp(0, 1), to_rgb(picture.float()).clamp(0, 1))
                    found.setdefault(f"{name}_{judge.column}", []).extend(distance.float().tolist())
            if pictures and len(shown) < 6:
                row = [batch.source[:1], batch.reference[:1], *(picture[:1].float() for picture in pictures.values())]
                shown.append(torch.cat([to_rgb(picture)[0] for picture in row], dim=-1))
        if shown:
            strip = (torch.cat(shown, dim=-2).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
            Image.fromarray(strip).save(self.folder / "pictures.png")
        return {name: float(np.mean(values)) for name, values in found.items() if values}


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
        batch = draw(training, state.rng, s.batch, objective.wants)
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
