"""Which settings of a layered codec hit a target rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

from data.clip import Clip
from data.errors import InputError
from hdac.codecs.hdac import Hdac
from hdac.codecs.layered import BaseLayerCodec, LayeredCodec
from hdac.codecs.stripped import HevcStripped

TOLERANCE, CLOSE = 0.05, 0.01
FINEST_QP = 10


def hit(codec: LayeredCodec, clip: Clip, kbps: float) -> tuple[LayeredCodec, bytes]:
    """The codec with the settings whose stream of the clip is within TOLERANCE of `kbps`, and that stream.

    QP is found by bisection; what its steps leave, the intra offset of a codec with a base layer makes up for where it is left
    open. H-DAC without residuals is searched by its base layer's size, which all but a few bytes are. Raises InputError, naming
    the nearest rate, where there is no such setting.
    """
    if kbps <= 0:
        raise InputError(f"a rate of {kbps} kbit/s cannot be hit")
    streams: dict[LayeredCodec, bytes] = {}

    def rate(candidate: LayeredCodec) -> float:
        proxy = _proxy(candidate)
        if proxy not in streams:
            streams[proxy] = proxy.encode(clip)
        return len(streams[proxy]) * 8 / float(clip.seconds) / 1000

    candidates = codec.candidates(clip) if isinstance(codec, BaseLayerCodec) else [codec]
    nearby = _around(candidates[0], kbps, rate)
    if isinstance(codec, BaseLayerCodec) and len(candidates) > 1:  # which of them is best depends on QP
        settled, _ = codec.with_quantiser(nearby[-1].quantiser).settled(clip)
        nearby = _around(settled, kbps, rate)
    nearest = min(nearby, key=lambda candidate: abs(rate(candidate) - kbps))
    for candidate in nearby:
        if isinstance(candidate, BaseLayerCodec) and isinstance(codec, BaseLayerCodec) and codec.i_offset is None:
            assert candidate.i_offset is not None
            for offset in range(max(0, candidate.i_offset - 6), min(candidate.qp, candidate.i_offset + 7)):
                if abs(rate(nearest) - kbps) <= CLOSE * kbps:
                    break
                nearest = min(nearest, replace(candidate, i_offset=offset), key=lambda one: abs(rate(one) - kbps))
    stream: bytes = nearest.encode(clip)
    reached = len(stream) * 8 / float(clip.seconds) / 1000
    if abs(reached - kbps) > TOLERANCE * kbps:
        raise InputError(f"no setting of {codec.name} is within 5 % of {kbps:g} kbit/s here; nearest: {reached:.2f}")
    return nearest, stream


def _around(codec: LayeredCodec, kbps: float, rate: Callable[[LayeredCodec], float]) -> list[LayeredCodec]:
    """The codec at the two quantisers between which the rate lies, the finer first; at one of them where it lies outside."""
    finest = FINEST_QP
    if isinstance(codec, BaseLayerCodec) and getattr(codec, "reference_qp", None) is None:
        finest = max(finest, codec.i_offset or 0)
    low, high = finest, codec.coarsest  # a finer QP never takes fewer bytes, but for noise
    while low < high:
        middle = (low + high) // 2
        if rate(codec.with_quantiser(middle)) > kbps:
            low = middle + 1
        else:
            high = middle
    return [codec.with_quantiser(qp) for qp in (low - 1, low) if finest <= qp <= codec.coarsest]


def _proxy(codec: LayeredCodec) -> LayeredCodec:
    """What has the same rate and is quick to encode."""
    if not isinstance(codec, Hdac) or codec.reference_qp is not None or codec.base_codec != "hevc":
        return codec
    if codec.send_keypoints or codec.residual:
        return codec
    return HevcStripped(**{field.name: getattr(codec, field.name) for field in fields(HevcStripped)})
