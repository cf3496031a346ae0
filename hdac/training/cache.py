"""Clips as a training run reads them: source, and what the codec's own encoder makes of it, decoded, at several settings.

    hdac train prepare FOLDER --out CACHE

Every clip (256x256; `python -m data.prepare` cuts them) becomes a folder:

    meta.json     identity, fps, and per variant its QP, intra offset and the index of each frame's intra picture
    source.npy    uint8 (n, H*W*3/2)   every `STRIDE`-th frame, planes as `Clip.yuv_bytes` orders them
    base_V.npy    uint8 (n, H*W*3/2)   the same frames of the decoded base layer of variant V
    intra_V.npy   uint8 (m, H*W*3/2)   the references of the animation: its intra pictures, or BPG pictures of the same frames
    poses.npy     float32 (n, 3)       head poses of the same frames, for face-vid2vid (`hdac.training.teachers`)
    landmarks.npy float32 (n, 68, 2)   their landmarks in [-1, 1], for the landmark student and what is driven by landmarks
    labels.npy    uint8 (n, 64, 64)    their label maps, for the segmentation student
    turned.npy    uint8 (V, N_TURNED, H*W*3/2)   further references for Frontalizer: frames in which the head is turned
                                                 farthest, as BPG pictures of every variant's reference QP
    turned_at.npy int64 (N_TURNED,)              which of the stored frames these are

Quantisers are drawn per clip from its name, so a cache is the same whenever and in whichever order it is made. Clips that
are done are not coded again.
"""

from __future__ import annotations

import csv
import functools
import json
import os
import shutil
import zlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from baselines.conventional import X265
from data.clip import Clip
from data.errors import InputError
from data.io import VIDEO_SUFFIXES, read_clip
from hdac.codecs import reference

HEIGHT = WIDTH = 256
LABELS = ("poses", "landmarks", "labels")
"""What teachers say of a clip."""
NEAR = 5.7
"""Degrees, 0.1 rad, between the yaw of a source and that of target B2 (Oquab et al. 2022, section 4)."""
N_TURNED = 3
"""One more than are ever wanted: the target's own is none."""

STRIDE = 3
"""Neighbouring frames of a talking head teach little that is new."""
MAX_FRAMES = 129
"""Of one clip, from its beginning."""
QP_BANDS = ((47, 51), (42, 47), (35, 42))
"""One variant from each: coarse, as for the lowest rates, to fine."""
I_OFFSETS = (6, 12, 18)
SEPARATE_BASE_QPS, SEPARATE_REFERENCE_QPS = (46, 51), (26, 42)
"""Of a variant as in the paper: the intra picture of the base layer is as coarse as the rest of it, the reference a BPG
picture."""


@dataclass(frozen=True)
class Variant:
    """One coded version of a clip."""

    qp: int
    """Of the P pictures."""
    i_offset: int
    """QP steps by which intra pictures are finer."""
    intra_period: int
    bpg_qp: int | None = None
    """Of references that are pictures of their own; None: the intra pictures of the base layer are the references."""

    @property
    def reference_qp(self) -> int:
        return self.qp - self.i_offset if self.bpg_qp is None else self.bpg_qp


def variants(name: str) -> list[Variant]:
    """The settings for the clip of that name: one of each band, two with one intra picture and one with an intra every 32;
    and one with separate references."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    shared = [
        Variant(int(rng.integers(low, high + 1)), int(rng.choice(I_OFFSETS)), period)
        for (low, high), period in zip(QP_BANDS, rng.permutation([0, 0, 32]).tolist(), strict=True)
    ]
    (low, high), (finest, coarsest) = SEPARATE_BASE_QPS, SEPARATE_REFERENCE_QPS
    period = int(rng.choice([0, 32]))
    separate = Variant(int(rng.integers(low, high + 1)), 0, period, int(rng.integers(finest, coarsest + 1)))
    return [*shared, separate]


def prepare(paths: Iterable[Path], out: Path, jobs: int = 1) -> None:
    """Codes the clips that are not in the cache yet; shows progress. Raises InputError for a clip that is not 256x256."""
    paths = list(paths)
    names = [clip_name(path) for path in paths]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"several clips have the same name: {', '.join(sorted(twice)[:5])}")
    out.mkdir(parents=True, exist_ok=True)
    todo = [path for path in paths if not (out / clip_name(path) / "meta.json").exists()]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        list(tqdm(pool.map(partial(prepare_clip, out=out), todo), total=len(todo), desc="coding", unit="clip"))


def prepare_clip(path: Path, out: Path) -> None:
    """Codes one clip; its folder appears when it is whole."""
    clip = read_clip(path, frames=MAX_FRAMES)
    if (clip.width, clip.height) != (WIDTH, HEIGHT):
        size = f"{clip.width}x{clip.height}"
        raise InputError(f"{path} is {size}, training takes 256x256: python -m data.prepare cuts face crops")
    name = clip_name(path)
    part = out / f".{name}.{os.getpid()}"
    part.mkdir()
    np.save(part / "source.npy", _planes(clip)[::STRIDE])
    described = []
    for v, variant in enumerate(variants(name)):
        codec = X265(qp=variant.qp, i_offset=variant.i_offset, intra_period=variant.intra_period)
        decoded = _planes(codec.decode(codec.encode(clip)))
        period = variant.intra_period or clip.n_frames
        np.save(part / f"base_{v}.npy", decoded[::STRIDE])
        intras = decoded[::period]
        if variant.bpg_qp is not None:
            intras = np.stack([_bpg(clip, t, variant.bpg_qp) for t in range(0, clip.n_frames, period)])
        np.save(part / f"intra_{v}.npy", intras)
        of_intra = [t // period for t in range(0, clip.n_frames, STRIDE)]
        described.append({**asdict(variant), "reference_qp": variant.reference_qp, "intra_index": of_intra})
    meta = {"identity": identity(path), "fps": str(clip.fps), "variants": described}
    (part / "meta.json").write_text(json.dumps(meta))
    shutil.rmtree(out / name, ignore_errors=True)
    part.rename(out / name)


def _bpg(clip: Clip, t: int, qp: int) -> NDArray[np.uint8]:
    source = clip.y[t], clip.u[t], clip.v[t]
    decoded = reference.decode(reference.encode(source, clip.colour, qp), clip.height, clip.width)
    return np.concatenate([plane.ravel() for plane in decoded])


def add_turned(clips: list[CachedClip], folder: Path) -> None:
    """Writes turned.npy for the clips of a cache that have none yet; shows progress. Raises InputError where nobody knows how
    heads are turned."""
    todo = [clip for clip in clips if clip.turned is None]
    if blind := [clip.name for clip in todo if clip.poses is None]:
        raise InputError(f"{len(blind)} clips of {folder} have no head poses, {blind[0]} first: hdac train poses {folder}")
    for clip in tqdm(todo, desc="coding further references", unit="clip"):
        coded, at = np.empty((len(clip.variants), N_TURNED, clip.source.shape[1]), np.uint8), clip.outermost(N_TURNED)
        for number, t in enumerate(at):
            one = Clip.from_yuv_bytes(np.array(clip.source[t]).tobytes(), WIDTH, HEIGHT, Fraction(25))
            for v, variant in enumerate(clip.variants):
                coded[v, number] = _bpg(one, 0, variant["reference_qp"])
        np.save(folder / clip.name / "turned_at.npy", np.array(at))
        part = folder / clip.name / ".turned.npy"
        np.save(part, coded)
        part.rename(folder / clip.name / "turned.npy")  # last: what is there is whole


def find_clips(path: Path) -> list[Path]:
    """A clip, or all clips in a folder and the folders in it. Raises InputError where there are none."""
    if path.is_file():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES)
    if not found:
        raise InputError(f"{path}: no clips ({', '.join(VIDEO_SUFFIXES)})")
    return found


def clip_name(path: Path) -> str:
    """Of a clip in the cache: in VoxCeleb, where every video has a 00001.mp4, with its folders ("id00012_abc_00001")."""
    parts = path.parts
    for i, part in enumerate(parts[:-1]):
        if _is_voxceleb_id(part):
            return "_".join((*parts[i:-1], path.stem))
    return path.stem


def _is_voxceleb_id(name: str) -> bool:
    return name.startswith("id") and name[2:].isdigit()


def _planes(clip: Clip) -> NDArray[np.uint8]:
    return np.frombuffer(clip.yuv_bytes(), np.uint8).reshape(clip.n_frames, -1)


def identity(path: Path) -> str:
    """Who is in a clip: the `person_id` of a manifest.csv beside it, else the folder of VoxCeleb ("id00012"), else the part
    of its name before the first underscore."""
    manifest = path.parent / "manifest.csv"
    if manifest.exists():
        with manifest.open(newline="") as file:
            for row in csv.DictReader(file):
                if row.get("clip") == path.name and row.get("person_id"):
                    return row["person_id"]
    for folder in path.parents:
        if _is_voxceleb_id(folder.name):
            return folder.name
    return path.stem.split("_")[0]


# -- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CachedClip:
    """One clip of a cache; arrays are memory-mapped."""

    name: str
    identity: str
    source: NDArray[np.uint8]
    bases: list[NDArray[np.uint8]]
    intras: list[NDArray[np.uint8]]
    variants: list[dict[str, Any]]
    poses: NDArray[np.float32] | None = None
    landmarks: NDArray[np.float32] | None = None
    labels: NDArray[np.uint8] | None = None
    turned: NDArray[np.uint8] | None = None
    turned_at: NDArray[np.int64] | None = None

    @functools.cached_property
    def yaw_range(self) -> float:
        """Between the two frames in which the head is turned farthest to either side, in degrees; 0 where nobody knows."""
        if self.poses is None or np.isnan(self.poses[:, 0]).all():
            return 0.0
        return float(np.nanmax(self.poses[:, 0]) - np.nanmin(self.poses[:, 0]))

    def outermost(self, count: int, target: int = -1) -> list[int]:
        """Indices of stored frames, none of them the target's: the head turned farthest to one side, to the other, next
        farthest to the first, .. ."""
        yaw = np.arange(len(self.source)) if self.poses is None else np.nan_to_num(self.poses[:, 0])
        order = [i for i in np.argsort(yaw, kind="stable").tolist() if i != target] or [target]
        return [order[(-1 - n // 2) % len(order)] if n % 2 else order[n // 2 % len(order)] for n in range(count)]

    def others(self, count: int, variant: int, target: int) -> list[NDArray[np.uint8]]:
        """`outermost` frames as decoders have them: coded as the variant's references are or, where they have not been coded,
        as they are."""
        if self.turned is None or self.turned_at is None:
            return [self.source[other] for other in self.outermost(count, target)]
        coded = zip(self.turned_at.tolist(), self.turned[variant], strict=True)
        found = [picture for t, picture in coded if t != target] or [self.turned[variant][0]]
        return [found[n % len(found)] for n in range(count)]  # of clips of two frames one comes twice

    def targets(self, near: bool) -> list[int]:
        """Stored frames in which the head is turned nearly as far as it ever is, to either side, or less far (Oquab et al.
        2022, section 4: B2 and B1). All frames where there are none, or nobody knows."""
        everything = list(range(len(self.source)))
        if self.poses is None or np.isnan(self.poses[:, 0]).all():
            return everything
        yaw = self.poses[:, 0]
        low, high = np.nanmin(yaw), np.nanmax(yaw)
        outer = np.minimum(np.abs(yaw - low), np.abs(yaw - high)) < NEAR
        inner = (yaw > low) & (yaw < high)
        return np.flatnonzero(outer if near else inner).tolist() or everything

    def separate(self) -> CachedClip:
        """With those variants only that have references of their own, as in the paper. Raises InputError where none has."""
        kept = [v for v, variant in enumerate(self.variants) if variant.get("bpg_qp") is not None]
        if not kept:
            raise InputError(f"clip {self.name} was prepared without separate references: prepare it again")
        bases, intras = [self.bases[v] for v in kept], [self.intras[v] for v in kept]
        turned = None if self.turned is None else self.turned[kept]
        return replace(self, bases=bases, intras=intras, variants=[self.variants[v] for v in kept], turned=turned)


def load(folder: Path) -> list[CachedClip]:
    """All clips of a cache. Raises InputError where there is none."""
    clips = []
    for meta_path in sorted(folder.glob("*/meta.json")):
        meta = json.loads(meta_path.read_text())
        here, count = meta_path.parent, range(len(meta["variants"]))
        clips.append(
            CachedClip(
                here.name,
                str(meta["identity"]),
                np.load(here / "source.npy", mmap_mode="r"),
                [np.load(here / f"base_{v}.npy", mmap_mode="r") for v in count],
                [np.load(here / f"intra_{v}.npy", mmap_mode="r") for v in count],
                meta["variants"],
                **{name: np.load(here / f"{name}.npy") for name in LABELS if (here / f"{name}.npy").exists()},
                turned=np.load(here / "turned.npy", mmap_mode="r") if (here / "turned.npy").exists() else None,
                turned_at=np.load(here / "turned_at.npy") if (here / "turned.npy").exists() else None,
            )
        )
    if not clips:
        raise InputError(f"{folder} holds no prepared clips: hdac train prepare FOLDER --out {folder}")
    return clips


def split(clips: list[CachedClip], held_out: int) -> tuple[list[CachedClip], list[CachedClip]]:
    """(training, validation): every `held_out`-th identity, in an order fixed by its name, is for validation only."""
    people = sorted({clip.identity for clip in clips}, key=lambda name: (zlib.crc32(name.encode()), name))
    validation = set(people[::held_out])
    if len(validation) == len(people):
        raise InputError(f"{len(people)} identities cannot be split into training and validation people")
    return [c for c in clips if c.identity not in validation], [c for c in clips if c.identity in validation]
