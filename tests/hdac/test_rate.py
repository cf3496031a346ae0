"""Target rates are hit, or refused with the nearest one."""

from __future__ import annotations

import pytest

from data.errors import InputError
from hdac.codecs.hdac import Hdac
from hdac.codecs.stripped import HevcStripped
from hdac.rate import hit
from tests.clips import moving_clip


@pytest.mark.usefixtures("tiny_weights")
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_rate_is_hit_within_five_per_cent(share: float) -> None:
    clip = moving_clip(10, 96, 96)
    for codec in (HevcStripped(qp=30, preset="ultrafast"), Hdac(qp=30, preset="ultrafast", network="tiny")):
        finest, coarsest = (len(codec.with_quantiser(qp).encode(clip)) for qp in (20, 50))
        wanted = (coarsest + share * (finest - coarsest)) * 8 / float(clip.seconds) / 1000
        found, stream = hit(codec, clip, wanted)
        assert len(stream) * 8 / float(clip.seconds) / 1000 == pytest.approx(wanted, rel=0.05)
        assert found.encode(clip) == stream


def test_a_rate_out_of_reach_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match="nearest: "):
        hit(HevcStripped(qp=30, preset="ultrafast"), moving_clip(4, 96, 96), 0.01)
    with pytest.raises(InputError, match="-1"):
        hit(HevcStripped(qp=30), moving_clip(4, 96, 96), -1)
