"""Target rates are hit, or refused with the nearest one."""

from __future__ import annotations

from dataclasses import replace

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


@pytest.mark.usefixtures("tiny_weights", "residuals_always_sent")
def test_residuals_count_in_the_rate_that_is_searched() -> None:
    clip = moving_clip(10, 96, 96)
    codec = Hdac(qp=30, preset="ultrafast", network="tiny", residual=True, residual_network="tiny-residual")
    assert len(codec.encode(clip)) > 1.2 * len(replace(codec, residual=False).encode(clip))
    finest, coarsest = (len(codec.with_quantiser(qp).encode(clip)) for qp in (20, 50))
    wanted = (coarsest + 0.5 * (finest - coarsest)) * 8 / float(clip.seconds) / 1000
    assert len(hit(codec, clip, wanted)[1]) * 8 / float(clip.seconds) / 1000 == pytest.approx(wanted, rel=0.05)


def test_a_rate_out_of_reach_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match="nearest: "):
        hit(HevcStripped(qp=30, preset="ultrafast"), moving_clip(4, 96, 96), 0.01)
    with pytest.raises(InputError, match="-1"):
        hit(HevcStripped(qp=30), moving_clip(4, 96, 96), -1)
