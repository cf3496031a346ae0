"""How the person of the sample moves: band-limited trajectories, blinks, syllables and gestures over time.

Every random number is a raw 64-bit word of PCG64, whose stream numpy keeps fixed for ever (its distributions it does
not), turned into phases and times here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data.errors import InputError

Floats = NDArray[np.float64]

FPS = 25
REST_GAP_PX = 5.4  # opening of the smiling mouth in the photograph, at its middle


@dataclass(frozen=True)
class Camera:
    """The framing of a shot."""

    centre: tuple[float, float] = (226.0, 138.0)
    """Photograph coordinates in the middle of the frame."""
    pitch: float = 304 / 256
    """Photograph pixels per output pixel."""
    mirrored: bool = False
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Exposure and white balance: factors on R', G', B'."""


@dataclass(frozen=True)
class Shot:
    """A stretch of a scenario from one camera, with the amplitudes of what happens in it."""

    first_frame: int = 0
    camera: Camera = field(default_factory=Camera)
    turn_degrees: float = 4.0
    """Amplitude of yaw; pitch and roll get 0.55 and 0.5 of it."""
    move_px: float = 3.0
    """Amplitude of the head's translation."""
    sway_px: float = 1.5
    """Amplitude of the torso's translation."""
    zoom: float = 0.01
    """Amplitude of the head's change in size (leaning forward)."""
    pan_px: float = 0.0
    """Amplitude of the background's translation."""
    flag_px: float = 0.0
    """Amplitude of the waves in the flag."""
    hand: bool = False
    """A hand comes up from below, gestures in front of the lower face and leaves."""
    still_start: bool = False
    """The first half second is nearly at rest, then motion fades in."""


@dataclass(frozen=True)
class Scenario:
    name: str
    about: str
    n_frames: int
    seed: int
    shots: tuple[Shot, ...] = (Shot(),)
    noise_levels: float = 0.0
    """Standard deviation of the sensor noise at mid-grey, in 8-bit levels."""


@dataclass(frozen=True)
class Pose:
    """Everything that moves, at one frame. Angles in degrees, lengths in photograph pixels."""

    shot: int
    yaw: float
    """Head, positive: the nose goes right in an unmirrored picture."""
    pitch: float
    """Head, positive: the nose goes down."""
    roll: float
    """Head, positive: clockwise in an unmirrored picture."""
    shift: tuple[float, float]
    """Translation of the head against the torso (x, y)."""
    zoom: float
    """Relative size of the head, 1 at rest."""
    torso: tuple[float, float, float]
    """Translation (x, y) and roll of the whole person."""
    blink: float
    """0 eyes as in the photograph, 1 closed."""
    gap: float
    """Opening between the lips at their middle, px; 5.4 in the photograph, under 1 closed."""
    pucker: float
    """Narrowing of the mouth, 0 to about 0.25."""
    brow: float
    """Lift of the brows, px."""
    gaze: tuple[float, float]
    """Shift of the eyeballs (x, y), px."""
    background: tuple[float, float]
    """Translation of the background (x, y)."""
    flag: tuple[float, float]
    """Amplitude (px) and phase (radians) of the waves in the flag."""
    hand: tuple[float, float, float, float] | None
    """Wrist position (x, y), rotation (degrees, clockwise) and size of the hand; None where there is none."""

    @property
    def mouth_openness(self) -> float:
        """0 closed to about 1 wide open."""
        return self.gap / 14.0


SCENARIOS: dict[str, Scenario] = {
    s.name: s
    for s in (
        Scenario(
            "talk-still",
            "a calm talker in front of a still background",
            100,
            1,
            (Shot(turn_degrees=2.5, move_px=2.0, sway_px=1.0, zoom=0.006),),
        ),
        Scenario(
            "talk-motion",
            "large turns, nods and shifts of the head",
            150,
            2,
            (Shot(turn_degrees=13.0, move_px=9.0, sway_px=5.0, zoom=0.05, still_start=True),),
        ),
        Scenario(
            "occluder",
            "a hand comes into the picture and covers a part of the face",
            125,
            3,
            (Shot(turn_degrees=5.0, hand=True),),
        ),
        Scenario(
            "scene-cut",
            "after two seconds a cut to a closer, mirrored framing with other light",
            100,
            4,
            (
                Shot(turn_degrees=6.0, move_px=4.0),
                Shot(
                    first_frame=50,
                    camera=Camera((236.0, 122.0), 236 / 256, mirrored=True, gain=(0.90, 0.93, 1.0)),
                    turn_degrees=8.0,
                    move_px=5.0,
                ),
            ),
        ),
        Scenario(
            "noise-background",
            "a moving background with a waving flag, and sensor noise",
            75,
            5,
            (Shot(camera=Camera((196.0, 150.0), 320 / 256), turn_degrees=6.0, move_px=4.0, pan_px=9.0, flag_px=3.5),),
            noise_levels=3.0,
        ),
    )
}


def scenario(name: str) -> Scenario:
    """The scenario of that name; InputError names the ones there are."""
    if name not in SCENARIOS:
        raise InputError(f"sample scenario {name!r} is not one of {', '.join(SCENARIOS)}")
    return SCENARIOS[name]


def poses(what: Scenario) -> list[Pose]:
    """One pose per frame. Blinks, speech and gestures run through; each shot has trajectories of its own."""
    random = uniform(what.seed)
    seconds = np.arange(what.n_frames) / FPS
    blink, gap = _blinks(seconds, random), _speech(seconds, random)
    pucker = np.clip(0.10 + 0.11 * _smooth(seconds, 1.8, random), 0, 0.24)
    brow = 1.4 * np.clip(_smooth(seconds, 0.8, random), -0.3, 1)
    stress = _low_pass(gap - gap.mean(), 3)  # the head nods with the syllables
    out: list[Pose] = []
    ends = [s.first_frame for s in what.shots[1:]] + [what.n_frames]
    for number, (shot, end) in enumerate(zip(what.shots, ends, strict=True)):
        at = slice(shot.first_frame, end)
        t = seconds[at]
        fade = _step((t - 0.2) / 1.2) * 0.85 + 0.15 if shot.still_start else np.ones_like(t)
        yaw = shot.turn_degrees * fade * _smooth(t, 0.55, random)
        pitch = 0.55 * shot.turn_degrees * fade * _smooth(t, 0.6, random) + 0.18 * stress[at]
        roll = 0.5 * shot.turn_degrees * fade * _smooth(t, 0.5, random)
        x = shot.move_px * fade * _smooth(t, 0.5, random)
        y = 0.5 * shot.move_px * fade * _smooth(t, 0.6, random) + 0.12 * stress[at]
        zoom = 1 + shot.zoom * fade * _smooth(t, 0.4, random)
        sway = [a * shot.sway_px * fade * _smooth(t, 0.4, random) for a in (1.0, 0.4, 0.25)]
        gaze = [a * _saccades(t, random) for a in (1.3, 0.4)]
        pan = [a * shot.pan_px * _smooth(t, 0.35, random) for a in (1.0, 0.25)]
        for i in range(len(t)):
            out.append(
                Pose(
                    shot=number,
                    yaw=float(yaw[i]),
                    pitch=float(pitch[i]),
                    roll=float(roll[i]),
                    shift=(float(x[i]), float(y[i])),
                    zoom=float(zoom[i]),
                    torso=(float(sway[0][i]), float(sway[1][i]), float(sway[2][i])),
                    blink=float(blink[at][i]),
                    gap=float(gap[at][i]),
                    pucker=float(pucker[at][i]),
                    brow=float(brow[at][i]),
                    gaze=(float(gaze[0][i]), float(gaze[1][i])),
                    background=(float(pan[0][i]), float(pan[1][i])),
                    flag=(shot.flag_px, float(2 * np.pi * 0.9 * t[i])),
                    hand=_gesture(float(t[i])) if shot.hand else None,
                )
            )
    return out


def uniform(seed: int) -> Callable[[], float]:
    """A source of numbers in [0, 1): the top 53 bits of PCG64's words."""
    words = np.random.PCG64(seed)
    return lambda: float(words.random_raw() >> 11) / 2.0**53


def _smooth(t: Floats, band_hz: float, random: Callable[[], float]) -> Floats:
    """Band-limited wander with a peak of 1: five sines from 0.2 to 1 of the band with random phases."""
    out = np.zeros_like(t)
    for k, weight in enumerate((1.0, 0.8, 0.6, 0.45, 0.35)):
        f = band_hz * (0.2 + 0.2 * k) * (0.9 + 0.2 * random())
        out += weight * np.sin(2 * np.pi * (f * t + random()))
    return out / np.abs(out).max()


def _step(s: Floats) -> Floats:
    s = np.clip(s, 0, 1)
    return s * s * s * (s * (6 * s - 15) + 10)


def _low_pass(x: Floats, half: int) -> Floats:
    kernel = np.hanning(2 * half + 3)[1:-1]
    return np.convolve(np.pad(x, half, mode="edge"), kernel / kernel.sum(), mode="valid")


def _blinks(t: Floats, random: Callable[[], float]) -> Floats:
    """Lid closure: a blink every 1.4 to 3 s; 80 ms down, 60 ms shut, 160 ms up."""
    closed = np.zeros_like(t)
    start = 0.5 + 0.5 * random()
    while start < t[-1]:
        s = t - start
        closed = np.maximum(closed, _step(s / 0.10) * _step((0.34 - s) / 0.18))
        start += 1.4 + 1.6 * random()
    return closed


def _speech(t: Floats, random: Callable[[], float]) -> Floats:
    """Opening between the lips, px: phrases of 170 to 290 ms syllables, lips closed after some, a smile in pauses."""
    keys: list[tuple[float, float]] = [(-1.0, 4.0), (0.0, 3.5)]
    now = 0.12
    while now < t[-1] + 1:
        for _ in range(4 + int(5 * random())):  # a phrase
            length = 0.17 + 0.12 * random()
            keys.append((now + 0.5 * length, 5.0 + 8.5 * random() ** 1.3))
            now += length
            if random() < 0.35:  # m, b, p
                keys += [(now, 0.6), (now + 0.08, 0.6)]
                now += 0.08
            else:
                keys.append((now, 2.0 + 2.0 * random()))
        pause = 0.25 + 0.35 * random()
        keys += [(now + 0.3 * pause, 3.0), (now + 0.9 * pause, 3.5)]
        now += pause
    times, values = np.array(keys).T
    # raised cosines between the keys, then the inertia of lips and jaw
    right = np.clip(np.searchsorted(times, t, side="right"), 1, len(times) - 1)
    s = (t - times[right - 1]) / (times[right] - times[right - 1])
    gap = values[right - 1] + (values[right] - values[right - 1]) * (0.5 - 0.5 * np.cos(np.pi * s))
    return np.clip(_low_pass(gap, 1), 0.7, 14.0)


def _saccades(t: Floats, random: Callable[[], float]) -> Floats:
    """Gaze that rests for 0.5 to 1.3 s and jumps within 60 ms, in [-1, 1], mostly at the camera."""
    out = np.zeros_like(t)
    now, level = 0.6 + random(), 0.0
    while now < t[-1]:
        target = 0.0 if random() < 0.45 else 2 * random() - 1
        out += (target - level) * _step((t - now) / 0.06)
        level = target
        now += 0.5 + 0.8 * random()
    return out


def _gesture(t: float) -> tuple[float, float, float, float] | None:
    """Wrist track of the gesture: up from below the frame within a second, a wave across the chin, away again."""
    if not 0.4 < t < 4.4:
        return None
    up = float(_step(np.array((t - 0.4) / 1.0)) * _step(np.array((4.4 - t) / 1.0)))
    swing = np.sin(2 * np.pi * 1.1 * (t - 0.5))
    x = 320 - 52 * up + 9 * swing * up
    y = 420 - 192 * up + 4 * np.sin(2 * np.pi * 0.7 * t) * up
    return (float(x), float(y), float(-16 * up + 9 * swing * up - 4), 1.0)
