"""hdac.label_maps: maps come back, still ones are free, damage is refused."""

from __future__ import annotations

import numpy as np
import pytest

from data.errors import BitstreamError, InputError
from hdac.label_maps import N_LABELS, LabelDecoder, LabelEncoder, LabelMap


def blobs(n: int, side: int = 48) -> list[LabelMap]:
    """Ellipses that move slowly."""
    y, x = np.mgrid[:side, :side] / side
    maps = []
    for t in range(n):
        labels = np.zeros((side, side), np.uint8)
        for label in range(1, N_LABELS):
            cx, cy = 0.5 + 0.3 * np.cos(label + 0.02 * t), 0.5 + 0.3 * np.sin(2 * label + 0.03 * t)
            labels[((x - cx) / 0.1) ** 2 + ((y - cy) / 0.06) ** 2 < 1] = label
        maps.append(labels)
    return maps


@pytest.mark.parametrize(("height", "width"), [(48, 48), (64, 64), (1, 1), (3, 50)])
def test_maps_come_back_whatever_they_are(height: int, width: int) -> None:
    rng = np.random.default_rng(1)
    encoder, decoder = LabelEncoder(height, width), LabelDecoder(height, width)
    noise = [rng.integers(0, N_LABELS, (height, width), dtype=np.uint8) for _ in range(3)]
    for labels in (*[one[:height, :width] for one in blobs(4, max(height, width))], *noise, noise[-1]):
        assert np.array_equal(decoder.decode(encoder.encode(labels)), labels)


def test_a_map_that_stays_takes_no_bytes_and_one_that_moves_few() -> None:
    encoder = LabelEncoder(48, 48)
    maps = blobs(30)
    first, *moving = [len(encoder.encode(labels)) for labels in maps]
    assert encoder.encode(maps[-1]) == b"" == encoder.encode(maps[-1])
    assert 0.75 * first > np.mean(moving) > 1 and first < 48 * 48 * 4 / 8 / 4


def test_bytes_that_no_encoder_writes_are_refused_or_another_map() -> None:
    layer = LabelEncoder(48, 48).encode(blobs(1)[0])
    refused = 0
    for i in range(0, 8 * len(layer), 5):
        damaged = bytearray(layer)
        damaged[i // 8] ^= 1 << i % 8
        try:
            assert LabelDecoder(48, 48).decode(bytes(damaged)).max() < N_LABELS
        except BitstreamError:
            refused += 1
    assert refused > 0
    with pytest.raises(BitstreamError):
        LabelDecoder(48, 48).decode(layer + b"\0")


def test_what_is_no_label_map_is_refused() -> None:
    encoder = LabelEncoder(4, 4)
    for wrong in (np.zeros((4, 5), np.uint8), np.zeros((4, 4), np.int32), np.full((4, 4), N_LABELS, np.uint8)):
        with pytest.raises(InputError, match="label map"):
            encoder.encode(wrong)
    with pytest.raises(InputError, match="cannot be coded"):
        LabelEncoder(0, 5)
