"""The sample: clips of a talking person that the project makes itself, with the true motion known.

One public-domain photograph (NASA's portrait of Eileen Collins, shipped with scikit-image) is cut into layers
(`portrait`), posed by band-limited trajectories (`motion`), covered by a modelled hand (`hand`) and rendered
(`render`). It runs offline. Raw random words, float64 geometry and element-wise float32 blending, then rounding to 8
bits, make the samples independent of threads and vector units; only a mathematical library whose sines differ in their
last bit could still move a value that lies on the edge of a rounding.

    sample = make_sample("talk-motion")
    sample.clip                                   # Clip, 256x256, 25 fps
    sample.truth.points[t]                        # (K, 2) facial points, px
    flow, visible = sample.truth.flow(t)          # frame t -> frame 0

What it is not: relighting, motion blur, hair that swings, and turns beyond some 15 degrees are not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from data.clip import Clip
from data.errors import InputError
from data.sample.motion import FPS, SCENARIOS, Camera, Pose, Scenario, Shot, poses, scenario
from data.sample.render import BACKGROUND, CAVITY, EYE, HAND, SKIN, TEETH, TORSO, Stage, Traced

__all__ = [
    "BACKGROUND", "CAVITY", "EYE", "HAND", "SKIN", "TEETH", "TORSO",
    "POINTS", "SCENARIOS", "SIZE",
    "Camera", "Pose", "Sample", "Scenario", "Shot", "Truth", "make_sample",
]  # fmt: skip

SIZE = 256  # of the frames, both ways

POINTS: dict[str, tuple[float, float]] = {  # facial points, where the photograph shows them; left is the picture's left
    "left brow outer": (190, 90), "left brow middle": (199, 89), "left brow inner": (212, 92),
    "right brow inner": (238, 93), "right brow middle": (250, 92), "right brow outer": (261, 95.5),
    "left eye outer": (193, 100.8), "left upper lid": (203, 97.8), "left eye inner": (212.5, 103.2),
    "left lower lid": (203, 104.2), "right eye inner": (236.5, 104.6), "right upper lid": (248, 100.4),
    "right eye outer": (257.5, 103.6), "right lower lid": (247, 106.4),
    "nose bridge": (224, 104), "nose middle": (224, 115), "nose tip": (222, 125), "nose base": (222, 132),
    "left nostril": (214, 130), "right nostril": (232, 130),
    "mouth left": (202.5, 139.6), "mouth right": (244, 140.8), "upper lip top": (222, 139),
    "upper lip edge": (222, 144), "lower lip edge": (222, 149.5), "lower lip bottom": (222, 155),
    "chin": (222, 176), "left jaw": (195, 164), "right jaw": (249, 166), "left cheek": (192, 125),
    "right cheek": (254, 128), "forehead": (222, 84),
}  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """What really moves in a sample. Positions are frame pixels, (x, y), whole numbers at pixel centres."""

    scenario: Scenario
    poses: tuple[Pose, ...]
    """One per frame: angles in degrees, lengths in photograph pixels."""
    points: NDArray[np.float64]
    """(T, K, 2): the facial points, in the order of `POINTS`."""
    visible: NDArray[np.bool_]
    """(T, K): False where the hand covers a point or it is outside of the frame."""
    blink: NDArray[np.float64]
    """(T,): 0 eyes open as in the photograph, 1 closed."""
    mouth: NDArray[np.float64]
    """(T,): 0.05 lips closed, 0.39 the photograph's smile, 1 wide open."""

    def camera(self, t: int) -> Camera:
        return self.scenario.shots[self.poses[t].shot].camera

    def traced(self, t: int) -> Traced:
        """Frame t before noise and rounding, with label and material of every pixel."""
        return self._stage(t).trace()

    def flow(self, t: int, reference: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Dense true motion from frame t to a reference frame.

        Returns flow float32 (H, W, 2), (x, y) in px: pixel p of frame t shows the point that the reference has at
        p + flow[p]; and a bool mask (H, W), True where the reference shows that point too. Across a scene cut
        nothing is visible and the flow is zero.
        """
        now = self.traced(t)
        h, w = now.label.shape
        flow = np.zeros((h, w, 2))
        seen = np.zeros((h, w), bool)
        if self.poses[t].shot != self.poses[reference].shot:
            return flow.astype(np.float32), seen
        there, stage = self.traced(reference), self._stage(reference)
        y, x = np.mgrid[0:h, 0:w]
        for label in (BACKGROUND, TORSO, SKIN, EYE, TEETH, HAND):
            here = now.label == label
            if label == HAND and self.poses[reference].hand is None:
                continue
            target = stage.project(label, now.material[here])
            flow[here] = target - np.stack((x[here], y[here]), -1)
            i, j = np.rint(target[:, 1]).astype(int), np.rint(target[:, 0]).astype(int)
            inside = (i >= 0) & (i < h) & (j >= 0) & (j < w)
            i, j = np.clip(i, 0, h - 1), np.clip(j, 0, w - 1)
            # the same layer there, and the same place of it within 2 px: not a second one that folded over it
            same = (there.label[i, j] == label) & (np.abs(there.material[i, j] - now.material[here]).max(axis=1) < 2)
            seen[here] = inside & same
        return flow.astype(np.float32), seen

    def _stage(self, t: int) -> Stage:
        return Stage(self.poses[t], self.camera(t), SIZE)


@dataclass(frozen=True)
class Sample:
    clip: Clip
    truth: Truth


def make_sample(name: str, n_frames: int | None = None) -> Sample:
    """The clip of a scenario of `SCENARIOS` and its truth; the same on every call.

    n_frames: only that many from the start. Takes about 5 s of one core per 100 frames.
    Raises InputError for an unknown name or an impossible number of frames.
    """
    what = scenario(name)
    if n_frames is None:
        n_frames = what.n_frames
    if not 1 <= n_frames <= what.n_frames:
        raise InputError(f"sample scenario {name} has 1 to {what.n_frames} frames, asked for {n_frames}")
    track = poses(what)[:n_frames]
    frames = np.empty((n_frames, SIZE, SIZE, 3), np.uint8)
    materials = np.array(list(POINTS.values()), float)
    points = np.empty((n_frames, len(materials), 2))
    visible = np.empty(points.shape[:2], bool)
    noise = np.random.PCG64(1000 + what.seed)
    for t, pose in enumerate(track):
        stage = Stage(pose, what.shots[pose.shot].camera, SIZE)
        traced = stage.trace()
        picture = traced.picture
        if what.noise_levels:
            picture = picture + _sensor_noise(picture, what.noise_levels, noise)
        frames[t] = np.clip(np.rint(picture), 0, 255)
        points[t] = stage.project(SKIN, materials)
        at = np.rint(points[t]).astype(int)
        inside = ((at >= 0) & (at < SIZE)).all(axis=1)
        x, y = np.clip(at, 0, SIZE - 1).T
        visible[t] = inside & (traced.label[y, x] != HAND)
    truth = Truth(
        scenario=what,
        poses=tuple(track),
        points=points,
        visible=visible,
        blink=np.array([p.blink for p in track]),
        mouth=np.array([p.mouth_openness for p in track]),
    )
    return Sample(Clip.from_rgb(frames, Fraction(FPS), name=name), truth)


def _sensor_noise(picture: NDArray[np.float32], levels: float, words: np.random.PCG64) -> NDArray[np.float32]:
    """Noise of R', G', B' with standard deviation `levels` at mid-grey, falling to half of it in black and white.

    A sum of the four 16-bit quarters of a raw word per value: a fair bell shape out of integers only.
    """
    quarters = words.random_raw(picture.size).view(np.uint16).reshape(-1, 4).astype(np.int64)
    bell = (quarters.sum(axis=1) - 2 * 65535) / (65536 / np.sqrt(3))  # standard deviation 1
    tone = 0.5 + 0.5 * np.sin(np.pi * np.clip(picture, 0, 255) / 255)
    return np.asarray(levels * tone * bell.reshape(picture.shape), np.float32)
