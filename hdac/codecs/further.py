"""Which pictures become references beside those that there are: such as have paid for themselves before they are sent.

A picture is on trial: every frame is animated without it and with it, and what it would have gained is summed up. It is sent
once that exceeds its price, with a frame later than its own (a ski rental, as `hdac.codecs.refresh`, but that
losses in between are forgiven). On trial is the frame whose points are farthest from those of all references.

An encoder that has the whole clip tries the frames that are turned farthest to either side on all of it, and sends what pays at
once (Oquab et al. 2022, section 4).

A bit costs `refresh_price` times the squared error that is shown, of a sample, or the Lagrangian factor of the references' QP
where that is more: these networks end near 24 dB, where a factor of QP 24 would let a picture pay that gains nothing to speak
of. In theory, too, the slope of distortion over rate is a multiple of distortion.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hdac.codecs.base_layer import Planes
from hdac.codecs.layered import lagrange_multiplier
from hdac.points import PointEncoder, Values, motion_distance

if TYPE_CHECKING:
    from hdac.codecs.point_animator import PointAnimator

FARTHER = 1.25
"""Chosen: another frame goes on trial if its points are so much farther from those of all references."""
FADES = 0.95
"""Chosen: a picture on trial counts as so much less far with every frame in which it gains nothing."""
STRIDE = 4
"""Chosen: of the frames of a whole clip every fourth is tried."""

Picture = tuple[int, Planes]
"""Bits of a reference picture, and what it decodes to."""
Error = Callable[[int, "PointAnimator", Values], float]
"""Squared error of frame t as shown by these references with these values, summed over luma."""
Found = Callable[[int, "PointAnimator"], Values]
"""Values of frame t as an encoder with these references finds them."""


@dataclass
class _Trial:
    """Of a picture. coder: of the frames since it is on trial. distance: of its points from those of the references."""

    of: int
    n_bits: int
    animator: PointAnimator
    coder: PointEncoder
    distance: float
    gained: float = 0.0
    lost: float = 0.0
    n_frames: int = 0

    def saw(self, without: float, with_it: float) -> None:
        """One more frame, and its squared errors."""
        self.gained = max(0.0, self.gained + without - with_it)
        self.lost += without
        self.n_frames += 1


class FurtherSources:
    """What an encoder knows of references that it might send."""

    def __init__(
        self, qp: int, price: float, n_samples: int, picture: Callable[[int], Picture], found: Found, error: Error
    ) -> None:
        """qp, price: of the references, and of a bit of them (`AnimationCodec.refresh_price`). n_samples: of luma.
        picture: frame t as a reference."""
        self.price, self.least, self.n_samples = price, lagrange_multiplier(qp), n_samples
        self.picture, self.found, self.error = picture, found, error
        self._trial: _Trial | None = None

    def sent(self) -> None:
        """There is a new reference: what was learned of a picture on trial holds no more."""
        self._trial = None

    def paid(self, t: int, animator: PointAnimator, coder: PointEncoder, had: Values) -> int | None:
        """Of every frame: the frame whose picture has paid for itself by now.

        coder: of the frame, not changed. had: its values, as a decoder will have them.
        """
        trial = self._trial
        if trial is not None:
            before = trial.gained
            trial.saw(self.error(t, animator, had), self._error_with(t, trial.animator, trial.coder, had))
            if trial.gained > self._price(trial.n_bits, trial.lost / trial.n_frames):
                return trial.of
            trial.distance *= FADES if trial.gained <= before else 1.0
        distance = motion_distance(had, animator.nearest(had))
        if distance > (0.0 if trial is None else FARTHER * trial.distance):
            self._trial = _Trial(t, *self._with(t, animator, coder), distance)
        return None

    def worth(
        self, frames: Iterable[tuple[int, Values]], of: Iterable[int], animator: PointAnimator, coder: PointEncoder, most: int
    ) -> list[int]:
        """Those of the pictures that pay over all of these frames, `most` of them at most, best first.

        frames: every STRIDE-th one, and its values.
        """
        found: list[int] = []
        left, seen = sorted(of), list(frames)
        lost = [self.error(t, animator, had) for t, had in seen]
        while seen and left and len(found) < most:
            best = None
            for one in left:
                n_bits, tried, then = self._with(one, animator, coder)
                errors = [self._error_with(t, tried, then, had) for t, had in seen]
                won = STRIDE * (sum(lost) - sum(errors)) - self._price(n_bits, sum(lost) / len(lost))
                if won > (0.0 if best is None else best[0]):
                    best = won, one, tried, errors
            if best is None:
                break
            _, one, animator, lost = best
            found.append(one)
            left.remove(one)
        return found

    def _with(self, of: int, animator: PointAnimator, coder: PointEncoder) -> tuple[int, PointAnimator, PointEncoder]:
        """Bits of a picture; and what there would be with it."""
        n_bits, decoded = self.picture(of)
        tried, then = copy.copy(animator), copy.deepcopy(coder)
        tried.rest_at(then.start(tried.refer_to(decoded, beside=True))[1])
        return n_bits, tried, then

    def _error_with(self, t: int, tried: PointAnimator, coder: PointEncoder, had: Values) -> float:
        """Of frame t with a picture on trial, whose keypoints may be followed into it rather than those of another."""
        return self.error(t, tried, coder.encode(self.found(t, tried))[1] if tried.follows_each else had)

    def _price(self, n_bits: int, squared_error: float) -> float:
        """squared_error: what is shown of a frame without it."""
        return self.price * max(self.least, squared_error / self.n_samples) * n_bits
