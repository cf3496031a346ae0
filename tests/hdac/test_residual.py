"""Binary residuals: coded signs come back, integers agree with the network, training closes the gap to the source."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from data.crop import Box
from data.errors import BitstreamError
from hdac.codecs.base_layer import Planes
from hdac.codecs.refresh import FIRST_LASTS, ResidualRule
from hdac.codecs.residual import ALL, MAX_CHAIN, Residual, ResidualCoder
from hdac.nets.residual import (
    BLOCK,
    N_GAINS,
    UNIT,
    ResidualNet,
    gain_number,
    gain_of,
    signs_of,
)
from hdac.network import Network
from tests.hdac.nets import tiny_residual_net, trained_residual_net

SIZE = 90, 101


def coder(net: ResidualNet | None = None, size: tuple[int, int] = SIZE) -> ResidualCoder:
    return ResidualCoder(Network(net or tiny_residual_net(), b"", "tiny"), size)


def noise(seed: int, size: tuple[int, int] = SIZE) -> Planes:
    rng = np.random.default_rng(seed)
    half = (size[0] + 1) // 2, (size[1] + 1) // 2
    return tuple(rng.integers(0, 256, shape).astype(np.uint8) for shape in (size, half, half))  # type: ignore[return-value]


def random_residual(of: ResidualCoder, seed: int, share: float = 0.5) -> Residual:
    rng = np.random.default_rng(seed)
    height, width = (side // 8 for side in of.padded)
    blocks = rng.random((height // BLOCK, width // BLOCK)) < share
    there = np.kron(blocks, np.ones((BLOCK, BLOCK), bool))
    signs = np.where(there, rng.choice((-1, 1), (of.net.settings.channels, height, width)), 0).astype(np.int8)
    return Residual(int(rng.integers(N_GAINS)), blocks, signs)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_residual_comes_back(share: float) -> None:
    ours = coder()
    sent = random_residual(ours, 1, share)
    layer = ours.pack(sent)
    got = coder().unpack(layer)  # another object, that has seen nothing
    assert got.gain == sent.gain and np.array_equal(got.blocks, sent.blocks) and np.array_equal(got.signs, sent.signs)
    shown = noise(2)
    assert all(np.array_equal(a, b) for a, b in zip(ours.enhanced(shown, sent), coder().enhance(shown, layer), strict=True))
    if share == 0:
        assert len(layer) <= 3 and all(np.array_equal(a, b) for a, b in zip(ours.enhanced(shown, got), shown, strict=True))


def test_the_integers_of_the_context_model_are_the_networks_log_odds() -> None:
    ours = coder()
    signs = random_residual(ours, 3).signs
    with torch.no_grad():
        exact = ours.net.context(torch.from_numpy(signs)[None].float())[0].numpy()
    n_terms = 5 * ours.net.settings.channels + 1
    assert np.abs(ours._model.log_odds(signs) / UNIT - exact).max() <= 0.5 * n_terms / UNIT


def test_contexts_save_bits_where_signs_follow_from_those_before() -> None:
    net = tiny_residual_net()
    with torch.no_grad():
        for parameter in net.context.parameters():
            parameter.zero_()
        net.context.neighbours[0].fill_diagonal_(3.0)  # as the one to the left
    ours = coder(net)
    everywhere = random_residual(ours, 4, share=1.0)
    alike = Residual(5, everywhere.blocks, np.ones_like(everywhere.signs))
    assert len(ours.pack(alike)) < len(ours.pack(everywhere)) / 8


def test_what_is_left_out_changes_nothing_far_from_it() -> None:
    ours = coder(size=(256, 256))
    sent = random_residual(ours, 5, share=0.0)
    blocks = np.zeros_like(sent.blocks)
    blocks[0, 0] = True
    signs = np.zeros_like(sent.signs)
    signs[:, :BLOCK, :BLOCK] = 1
    shown = tuple(np.full(plane.shape, 128, np.uint8) for plane in noise(1, (256, 256)))
    enhanced = ours.enhanced(shown, Residual(N_GAINS - 1, blocks, signs))  # type: ignore[arg-type]
    changed = enhanced[0] != shown[0]
    assert changed[:32, :32].any() and not changed[64:].any() and not changed[:, 64:].any()


def test_blocks_are_chosen_by_what_they_gain() -> None:
    """With a network that was trained for seconds on its own kind of picture."""
    ours = coder(trained_residual_net(), (128, 128))
    rng = np.random.default_rng(0)
    shown = tuple(np.full(shape, 100, np.uint8) for shape in ((128, 128), (64, 64), (64, 64)))
    pattern = np.kron(rng.choice((-20, 20), (4, 8)), np.ones((8, 8)))
    source = shown[0].copy()
    source[:32, :64] = 100 + pattern[:, :64]  # something is lacking in the upper left only
    wanted: Any = (source, shown[1], shown[2])
    layer, enhanced, left = ours.find(wanted, shown, multiplier=5.0)  # type: ignore[arg-type]
    assert layer is not None
    residual = ours.unpack(layer)
    before = float(((source.astype(float) - shown[0]) ** 2).sum())
    assert residual.blocks[:1].any() and not residual.blocks[2:].any()
    assert left < 0.7 * before and len(layer) < 300
    assert left == sum(float(((a.astype(float) - b) ** 2).sum()) for a, b in zip(wanted, enhanced, strict=True))
    none, same, error = ours.find(wanted, shown, multiplier=1e9)  # type: ignore[arg-type]
    assert none is None and same is shown and error == before
    whole, *_ = ours.find(wanted, shown, ALL)  # type: ignore[arg-type]
    assert whole is not None and ours.unpack(whole).blocks.all()


def test_signs_pass_gradients_inside_of_one_only() -> None:
    latent = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0], requires_grad=True)
    signs = signs_of(latent)
    assert signs.tolist() == [-1, -1, 1, 1, 1]
    signs.sum().backward()
    assert latent.grad is not None and latent.grad.tolist() == [0, 1, 1, 1, 0]


def test_gains_span_what_differences_are() -> None:
    numbers = torch.arange(N_GAINS)
    gains = gain_of(numbers.float())
    assert float(gains[0]) * 255 == pytest.approx(0.25) and 50 < float(gains[-1]) * 255 < 60
    assert torch.equal(gain_number(torch.ones(N_GAINS, 6, 4, 4) * gains[:, None, None, None]), numbers.float())
    assert gain_number(torch.zeros(1, 6, 4, 4)) == 0 and gain_number(torch.ones(1, 6, 4, 4)) == N_GAINS - 1


def test_a_residual_is_tried_when_as_much_was_lost_as_it_costs_and_later_if_it_does_not_pay() -> None:
    rule = ResidualRule(qp=30)
    rule.renewed(1000.0)
    rule.price = 500.0
    assert [rule.lacks(1200.0) for _ in range(3)] == [False, False, True]
    assert rule.multiplier == rule.factor / 3
    bits = round(400 / rule.factor)
    worse = {"nothing": (0, 1200.0), "residual": (bits, 1150.0)}  # 3 frames x 50 gained for 400
    assert rule.cheapest(1200.0, worse) == "nothing"
    rule.refused()
    assert rule.price == 1200.0 and rule.n_frames == 3  # what was lost is not forgotten
    assert [rule.lacks(1200.0) for _ in range(4)] == [False, False, False, True]
    better = {"nothing": (0, 1200.0), "residual": (bits, 1100.0)}
    assert rule.cheapest(1200.0, {**better, "picture": (90 * bits, 0.0)}) == "residual"
    assert rule.cheapest(1200.0, {**better, "picture": (2 * bits, 0.0)}) == "picture"
    rule.renewed(1100.0, bits)
    assert rule.price == rule.factor * bits and not rule.lacks(1100.0) and rule.lost == 0


def test_a_residual_counts_for_as_many_frames_as_those_before_it_have_lasted() -> None:
    rule = ResidualRule(qp=30)
    for _ in range(9):
        rule.lacks(2000.0)
    assert rule.horizon == FIRST_LASTS < 9 and rule.multiplier == rule.factor / FIRST_LASTS  # none has been sent
    rule.renewed(1000.0, 100, without=2000.0)
    for error in (1000.0, 1250.0, 1500.0):
        rule.lacks(error)
    assert rule.horizon == 1 + 1 + 0.75 + 0.5  # and it lasts still
    for error in (2500.0, 2000.0):
        rule.lacks(error)
    assert rule.horizon == 3.25
    rule.renewed(1000.0, 100, without=3000.0)
    assert rule.lasted == 3.25 == rule.horizon
    assert not rule.lacks(500.0, switching=True) and rule.n_frames == 0 and rule.horizon == 3.25
    assert not rule.lacks(2500.0, switching=True) and rule.horizon == (3.25 + 2.25) / 2  # over: less than expected
    rule.renewed(800.0)  # by a picture: what was measured stays
    assert rule.lasted == rule.horizon == 2.75
    rule.refused()
    assert rule.price == 2 * rule.paid
    rule.renewed(900.0)
    assert rule.price == rule.paid == 100 * rule.factor
    rule.lasted = 2.5
    bits = round(1e6 / rule.factor)
    short = {"nothing": (0, 2e6), "residual": (bits, 1.65e6)}  # 350,000 gained in each of 2.5 frames for 1,000,000
    assert rule.cheapest(2e6, short) == "nothing"
    rule.lasted = 3.0
    assert rule.cheapest(2e6, short) == "residual"


def test_chains_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = coder()
    layer = ours.pack(random_residual(ours, 7, share=0.1))
    shown = noise(3)
    for _ in range(MAX_CHAIN):
        shown = ours.enhance(shown, layer)
    assert not ours.may_go_on
    with pytest.raises(BitstreamError, match="more than 32 residuals"):
        ours.enhance(shown, layer)
    ours.begin_anew()
    ours.enhance(shown, layer)


def test_of_a_face_box_nothing_is_changed_around_it() -> None:
    box = Box(10, 20, 64, 96)
    ours = ResidualCoder(Network(tiny_residual_net(), b"", "tiny"), (200, 180), box)
    shown = noise(4, (200, 180))
    enhanced = ours.enhanced(shown, replace(random_residual(ours, 8, share=1.0), gain=N_GAINS - 1))
    for plane, before, (top, left, height, width) in zip(
        enhanced, shown, ((20, 10, 96, 64), (10, 5, 48, 32), (10, 5, 48, 32)), strict=True
    ):
        changed = plane != before
        assert changed[top : top + height, left : left + width].any()
        changed[top : top + height, left : left + width] = False
        assert not changed.any()


def test_damage_is_an_error_or_a_residual() -> None:
    ours, rng, noticed = coder(), random.Random(1), 0
    whole = ours.pack(random_residual(ours, 6))
    for layer in (b"", bytes((N_GAINS,)) + whole[1:], whole + b"\0"):
        with pytest.raises(BitstreamError):
            ours.unpack(layer)
    for _ in range(60):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            got = ours.unpack(bytes(data))
            assert set(np.unique(got.signs)) <= {-1, 0, 1}
        except BitstreamError:
            noticed += 1
    assert noticed > 10
