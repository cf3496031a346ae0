"""When the reference of an animation is renewed, and by what: a new picture, or a residual over what is shown
(`hdac.codecs.residual`).

    rd     ours: as soon as what the old reference has lost, summed up since it was sent, exceeds what a new one costs
           (a ski rental: at most twice the cost of an encoder that knew the future), distortion against true bits, each at
           PRICE Lagrangian factors of HEVC's reference software for the reference's QP
    psnr   DAC's paper's: where the smoothed PSNR-Y of the animation falls below a threshold; ours: at a scene cut, which one
           frame far below it is, without the frame that smoothing would wait for
    cut    where a frame is far worse than those before it: at scene cuts only
    never  a scene cut, too, is animated from what there is

Where residuals may be sent, one is tried when the same sum exceeds what the last one cost, and, where new pictures may be
sent, such a picture beside it; what is sent is what costs least over the frames for which it will help (`ResidualRule`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.errors import InputError
from hdac.codecs.base_layer import Planes
from hdac.codecs.layered import lagrange_multiplier

RULES = ("rd", "psnr", "cut", "never")

CUT_DB = 10.0
"""Chosen: a frame whose PSNR-Y is that far below the threshold, or below that of a new reference, is no animation of the old
one, but another scene."""

WORSE = 1.1
"""Chosen: references of before are tried where the error is so much larger than when they were tried last, or since."""

PRICE = 10.0
"""Of a bit of a reference or a residual, in Lagrangian factors: how steep the curves of whole clips are, as for base layers.
Chosen on training clips: with 1, almost every frame of DAC is a new reference, and twice the rate of H-DAC goes into
half a dB by residuals; with 40 or 160 DAC's references are finer at the same rate and kept too long."""

RESIDUAL_VERSION = 3
"""Raised with every change of `ResidualRule`."""

FIRST_LASTS = 8
"""Frames. Chosen on training clips: with no limit H-DAC sends residuals that its next base pictures make needless."""

FIRST_RESIDUAL_BITS = 8 * 1500
"""Chosen: what the first residual of a clip is expected to take."""


def check_rule(rule: str, allowed: Sequence[str] = RULES) -> None:
    """Raises InputError for another one than those."""
    if rule not in allowed:
        raise InputError(f"refresh {rule!r} is not one of {', '.join(allowed)}")


def squared_error_y(source: Planes, shown: Planes) -> float:
    """Sum over luma."""
    return float(((source[0].astype(np.float32) - shown[0]) ** 2).sum())


def psnr_y(squared_error: float, source: Planes) -> float:
    """In dB."""
    return float(10 * np.log10(255.0**2 * source[0].size / max(squared_error, 1.0)))


class Refresh:
    """When to send a new reference."""

    def __init__(self, rule: str, qp: int, threshold_db: float, price: float) -> None:
        """price: of a bit, in Lagrangian factors of the references' QP."""
        self.rule, self.threshold_db = rule, threshold_db
        self.factor = price * lagrange_multiplier(qp)
        self.price = self.floor = self.lost = self.smoothed_db = self.looked_at = 0.0
        self.animated_db: float | None = None
        """Smoothed PSNR-Y of what has been animated from the present reference."""

    def refreshed(self, source: Planes, shown: Planes, bits: int) -> None:
        """A new reference was sent: what it cost, and the error that it leaves in its own frame."""
        self.floor, self.price, self.lost = squared_error_y(source, shown), self.factor * bits, 0.0
        self.smoothed_db, self.looked_at = psnr_y(self.floor, source), self.floor
        self.animated_db = None

    def enhanced(self, source: Planes, shown: Planes) -> None:
        """The reference was renewed by a residual; a new picture still costs what the last one did."""
        price = self.price
        self.refreshed(source, shown, 0)
        self.price = price

    def looks_back(self, error: float) -> bool:
        """Whether to try references of before, which takes as much time each as the one in use."""
        return error > WORSE * self.looked_at

    def best(self, errors: list[float]) -> int:
        """Index of the reference to animate; another one than that in use must be worth its two bytes."""
        costs = [error + (self.factor * 16 if i else 0.0) for i, error in enumerate(errors)]
        best = int(np.argmin(costs))
        self.looked_at = min(errors[best], self.looked_at) if len(errors) == 1 else errors[best]
        return best

    def wants_new(self, source: Planes, error: float, switching: bool = False) -> bool:
        """Whether this frame should be a new reference.

        switching: a switch to the present one goes on: what is seen of the one before it is no loss of this one.
        """
        if self.rule == "rd":
            self.lost += 0.0 if switching else max(0.0, error - self.floor)
            return self.lost > self.price
        if self.rule == "cut":
            now_db = psnr_y(error, source)
            before_db = now_db if self.animated_db is None else self.animated_db
            self.animated_db = (before_db + now_db) / 2
            return now_db < before_db - CUT_DB
        if self.rule == "psnr":
            now_db = psnr_y(error, source)
            self.smoothed_db = (self.smoothed_db + now_db) / 2
            return self.smoothed_db < self.threshold_db or now_db < self.threshold_db - CUT_DB
        return False


class ResidualRule:
    """When to try a residual, and whether to send it. Errors are summed over all samples.

    What a residual gains in its own frame lasts for a while: as many frames as the gains of those before it have lasted, which
    is measured; of the first one as many as there were since the last renewal, FIRST_LASTS at most. A new picture is taken to
    last as long.
    """

    def __init__(self, qp: int, fade: int = 0) -> None:
        """qp: of references, 0 to 51. fade: frames that a switch to the enhanced one takes, whose own frame shows little of it.
        """
        self.at_first = 1 / (fade + 1)
        self.factor = PRICE * lagrange_multiplier(qp)
        self.paid = self.price = self.factor * FIRST_RESIDUAL_BITS
        self.floor = self.lost = 0.0
        self.n_frames = 0
        self.lasted: float | None = None
        """Frames, its own among them, for which the gain of a residual has lasted."""
        self._without = self._gain = self._kept = self._share = 0.0  # of the last residual

    def lacks(self, error: float, switching: bool = False) -> bool:
        """Of every frame, before anything is decided: whether so much has been lost that a residual should be tried.

        switching: a switch to the new reference goes on: it gains by itself what its first frames lack.
        """
        if self._gain:
            self._share = min(max((self._without - error) / self._gain, 0.0), 1.0)
            self._kept += self._share
        if switching:
            return False
        self.lost += max(0.0, error - self.floor)
        self.n_frames += 1
        return self.lost > self.price

    @property
    def horizon(self) -> float:
        """Frames for which the gain of a residual will last."""
        expected = min(max(1, self.n_frames), FIRST_LASTS) if self.lasted is None else self.lasted
        if not self._gain:
            return expected
        if self._share >= 0.5:  # the last one's lasts still
            return max(expected, self.at_first + self._kept)
        return self._measured

    @property
    def _measured(self) -> float:
        """With what is known of the last one."""
        now = self.at_first + self._kept
        return now if self.lasted is None else (self.lasted + now) / 2

    @property
    def multiplier(self) -> float:
        """Squared error of this frame that a bit must be worth: the frames that follow gain as much."""
        return self.factor / self.horizon

    def cheapest(self, error: float, options: dict[str, tuple[int, float]]) -> str:
        """Which of the options, (bits, error of this frame), costs least: "nothing", "residual", "picture"; of equals the
        first.

        error: of this frame if nothing is done.
        """

        def cost(name: str) -> float:
            bits, left = options[name]
            return self.factor * bits - self.horizon * (error - left)

        return min(options, key=cost)

    def renewed(self, error: float, residual_bits: int | None = None, without: float = 0.0) -> None:
        """The reference is new, and leaves this error in its own frame.

        residual_bits: if by a residual, what it took. without: and the error that there was without it.
        """
        if self._gain:
            self.lasted = self._measured
        self.floor, self.lost, self.n_frames = error, 0.0, 0
        self._without = self._gain = self._kept = self._share = 0.0
        if residual_bits:
            self.paid = self.factor * residual_bits
            self._without, self._gain, self._share = without, max(0.0, without - error), 1.0
        self.price = self.paid

    def refused(self) -> None:
        """What was tried did not pay: later, when twice as much has been lost."""
        self.price = 2 * max(self.price, self.lost)
