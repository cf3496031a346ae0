"""The residual layer: what a shown picture lacks, as coded signs (`hdac.nets.residual`). DAC, H-DAC and face-vid2vid may
send it.

The enhanced picture is shown and, rounded to 8 bits, becomes the reference of the frames that follow. Of pictures that networks
see only a face box of (`hdac.codecs.face_box`), the box alone is enhanced.

    1 byte    gain: the differences' root mean square is 2 ** (n / 4) / 4 levels, n in 0..31 (0.25 to 54 levels)
    rest      one `hdac.range_coder` frame:
                per block of 32 x 32 luma samples, in raster order:
                  1 bit    it is there (adaptive, by how many of the blocks to the left and above are)
                per latent sample of those that are there, in raster order, channel by channel:
                  1 bit    its sign. Contexts, which learn, are classes of the log-odds that the networks' context model
                           gives it, with 26 levels to either side (static probabilities are where they begin)

What the context model says is computed in integers. The enhanced picture is a network's output, and it is used again: another
machine may round some of its samples to the next level, and what is animated from them differs by about as much. No more than
MAX_CHAIN residuals follow each other, then a new reference picture is due, in which all machines agree again: where a residual
would be tried, DAC and face-vid2vid send one if their rule of refresh sends any, or residuals are periodic, and otherwise
there are no more; H-DAC waits for the next intra picture of its base layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.crop import Box
from data.errors import BitstreamError
from hdac.codecs import face_box
from hdac.codecs.base_layer import Planes
from hdac.codecs.layered import squared_error
from hdac.nets.picture import pack, unpack
from hdac.nets.residual import BLOCK, N_GAINS, SHRINK, UNIT, ContextModel, ResidualNet, gain_number, gain_of
from hdac.network import Network
from hdac.range_coder import Context, RangeDecoder, RangeEncoder

MAX_CHAIN = 32
"""chosen: residuals from one reference picture to the next, each over what the one before it has enhanced. Decoders refuse
more."""
ALL = -np.inf
"""As a multiplier: every block is sent."""
_LEVELS = 26
_CLASS_UNIT = UNIT // 4
"""Of log-odds: a quarter to a class."""

Signs = NDArray[np.int8]
"""(C, h, w) of -1, 1 and, where a block is left out, 0."""


@dataclass(frozen=True)
class Residual:
    """What is coded. blocks: bool (h / BLOCK, w / BLOCK); signs: int8 (C, h, w)."""

    gain: int
    blocks: NDArray[np.bool_]
    signs: Signs


class ResidualCoder:
    """Encoder and decoder of the layer, for one stream: `enhance` is what both of them do with it.

    Statistics begin anew with every residual. What is counted is how many there were since the last reference picture.
    """

    def __init__(self, network: Network[ResidualNet], size: tuple[int, int], box: Box | None = None) -> None:
        """size: (height, width) of pictures, in luma samples. box: what of them is enhanced; None: all."""
        self.net = network.net
        self.box = box
        self.size = size if box is None else (box.height, box.width)
        step = self.net.settings.multiple
        self.padded = tuple(-(-side // step) * step for side in self.size)
        self._chain = 0
        self._model = _SignModel(self.net.context)

    @property
    def may_go_on(self) -> bool:
        """Whether another one may follow before a new reference picture."""
        return self._chain < MAX_CHAIN

    def count(self) -> None:
        """Of every residual that is sent: an encoder's part of `enhance`."""
        self._chain += 1

    def begin_anew(self) -> None:
        """At every new reference picture."""
        self._chain = 0

    # -- encoder -----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def find(self, source: Planes, shown: Planes, multiplier: float) -> tuple[bytes | None, Planes, float]:
        """The layer, the enhanced picture, and its squared error over all samples; no layer where no block is worth its bits.

        multiplier: squared error per bit that a block must be worth; ALL: every block is sent.
        """
        wanted, picture = self._packed(source), self._packed(shown)
        number = gain_number(wanted - picture)
        gain = gain_of(number)
        signs = torch.where(self.net.encode((wanted - picture) / gain) >= 0, 1.0, -1.0)
        everywhere = torch.ones(1, 1, *(n // BLOCK for n in signs.shape[-2:]))
        full = picture + gain * self.net.decode(signs, everywhere)
        gained = _by_block((wanted - picture).square() - (wanted - full).square()) * 255.0**2
        integers = signs[0].to(torch.int8).numpy()
        blocks: NDArray[np.bool_] = gained > multiplier * self._model.bits(integers, everywhere[0, 0].shape)
        if not blocks.any():
            return None, shown, squared_error(source, shown)
        there = np.kron(blocks, np.ones((BLOCK, BLOCK), np.int8))
        residual = Residual(int(number), blocks, (integers * there).astype(np.int8))
        enhanced = self.enhanced(shown, residual)
        return self.pack(residual), enhanced, squared_error(source, enhanced)

    def pack(self, residual: Residual) -> bytes:
        """The layer."""
        coder = RangeEncoder()
        flags = _block_contexts()
        blocks = residual.blocks
        for row, column in np.ndindex(blocks.shape):
            coder.encode(flags[_seen(blocks, row, column)], int(blocks[row, column]))
        self._model.code(residual.signs, blocks, coder)
        return bytes((residual.gain,)) + coder.frame_bytes()

    # -- decoder -----------------------------------------------------------------------------------------------------

    def unpack(self, layer: bytes) -> Residual:
        """Raises BitstreamError for bytes that no encoder writes."""
        if not layer or layer[0] >= N_GAINS:
            raise BitstreamError(f"a residual of {len(layer)} bytes, gain {layer[:1].hex()}")
        coder = RangeDecoder()
        coder.feed(layer[1:])
        height, width = (side // SHRINK for side in self.padded)
        blocks = np.zeros((height // BLOCK, width // BLOCK), np.bool_)
        flags = _block_contexts()
        for row, column in np.ndindex(blocks.shape):
            blocks[row, column] = coder.decode(flags[_seen(blocks, row, column)])
        signs = np.zeros((self.net.settings.channels, height, width), np.int8)
        self._model.code(signs, blocks, coder)
        coder.end_frame()
        return Residual(layer[0], blocks, signs)

    def enhance(self, shown: Planes, layer: bytes) -> Planes:
        """The picture with its residual. Raises BitstreamError for a layer that no encoder writes."""
        if not self.may_go_on:
            raise BitstreamError(f"more than {MAX_CHAIN} residuals without a new reference picture")
        self.count()
        return self.enhanced(shown, self.unpack(layer))

    @torch.inference_mode()
    def enhanced(self, shown: Planes, residual: Residual) -> Planes:
        """The picture with a residual, rounded."""
        signs = torch.from_numpy(residual.signs)[None].float().contiguous(memory_format=torch.channels_last)
        blocks = torch.from_numpy(residual.blocks)[None, None].float()
        correction = gain_of(torch.tensor(float(residual.gain))) * self.net.decode(signs, blocks)
        y, u, v = unpack(self._packed(shown) + correction, *self.size)
        inside = y[0], u[0], v[0]
        if self.box is None:
            return inside
        whole = tuple(plane.copy() for plane in shown)
        for plane, part, (x, top, width, height) in zip(whole, inside, _places(self.box), strict=True):
            plane[top : top + height, x : x + width] = part
        return whole[0], whole[1], whole[2]

    def _packed(self, planes: Planes) -> Tensor:
        height, width = self.padded
        y, u, v = planes if self.box is None else face_box.cut(planes, self.box)
        padded = [np.pad(y, ((0, height - y.shape[0]), (0, width - y.shape[1])), mode="edge")]
        for plane in (u, v):
            missing = (height // 2 - plane.shape[0], width // 2 - plane.shape[1])
            padded.append(np.pad(plane, ((0, missing[0]), (0, missing[1])), mode="edge"))
        flat = np.concatenate([plane.ravel() for plane in padded])
        return pack(torch.from_numpy(flat)[None], height, width).contiguous(memory_format=torch.channels_last)


def _places(box: Box) -> list[tuple[int, int, int, int]]:
    """Left, top, width and height of a box, whose numbers are even, in the three planes."""
    luma = box.x, box.y, box.width, box.height
    left, top, width, height = (number // 2 for number in luma)
    return [luma, (left, top, width, height), (left, top, width, height)]


def _by_block(values: Tensor) -> NDArray[np.float64]:
    """Sums of packed (1, 6, H/2, W/2) over blocks."""
    side = BLOCK * SHRINK // 2
    summed = torch.nn.functional.avg_pool2d(values.sum(1, keepdim=True), side)[0, 0] * side * side
    return summed.double().numpy()


def _block_contexts() -> list[Context]:
    return [Context() for _ in range(3)]


def _seen(blocks: NDArray[np.bool_], row: int, column: int) -> int:
    """How many of the blocks to the left and above are there."""
    return int(row > 0 and blocks[row - 1, column]) + int(column > 0 and blocks[row, column - 1])


class _SignModel:
    """Codes signs with classes of the context model's log-odds as contexts."""

    def __init__(self, model: ContextModel) -> None:
        self.neighbours, self.below, self.bias = model.integers()
        self.columns = np.ascontiguousarray(self.below.T)  # row i: what sign i tells of all channels

    def log_odds(self, signs: Signs) -> NDArray[np.int64]:
        """Of all places at once, (C, h, w), for an encoder that only counts."""
        c, h, w = signs.shape
        wide = signs.astype(np.float64)  # exact: sums of some hundred products of small integers
        padded = np.pad(wide, ((0, 0), (1, 0), (1, 1)))
        total = np.einsum("oi,ihw->ohw", self.below.astype(np.float64), wide) + self.bias[:, None, None]
        for (row, column), weight in zip(ContextModel.PLACES, self.neighbours, strict=True):
            moved = padded[:, 1 + row : 1 + row + h, 1 + column : 1 + column + w]
            total += np.einsum("oi,ihw->ohw", weight.astype(np.float64), moved)
        return total.astype(np.int64)

    def bits(self, signs: Signs, shape: Sequence[int]) -> NDArray[np.float64]:
        """What the signs of each of (h, w) blocks take by the model's own probabilities."""
        surprise = np.logaddexp(0, -self.log_odds(signs) * signs / UNIT) / np.log(2)
        h, w = shape
        return surprise.sum(0).reshape(h, BLOCK, w, BLOCK).sum((1, 3))

    def code(self, signs: Signs, blocks: NDArray[np.bool_], coder: RangeEncoder | RangeDecoder) -> None:
        """Encodes the signs of the blocks that are there, or decodes them into `signs`."""
        contexts = [_prior(number) for number in range(-_LEVELS, _LEVELS + 1)]
        c, h, w = signs.shape
        padded = np.zeros((c, h + 1, w + 2), np.int64)
        padded[:, 1:, 1:-1] = signs
        decoder = coder if isinstance(coder, RangeDecoder) else None
        for row in range(h):
            for column in range(w):
                if not blocks[row // BLOCK, column // BLOCK]:
                    continue
                total = self.bias.copy()
                for (dy, dx), weight in zip(ContextModel.PLACES, self.neighbours, strict=True):
                    total += weight @ padded[:, row + 1 + dy, column + 1 + dx]
                here = padded[:, row + 1, column + 1]
                for channel in range(c):
                    number = int(total[channel]) // _CLASS_UNIT
                    context = contexts[max(-_LEVELS, min(_LEVELS, number)) + _LEVELS]
                    if decoder is not None:
                        positive = decoder.decode(context)
                        here[channel] = 1 if positive else -1
                    else:
                        positive = int(here[channel] > 0)
                        assert isinstance(coder, RangeEncoder)
                        coder.encode(context, positive)
                    total += self.columns[channel] if positive else -self.columns[channel]
        if decoder is not None:
            signs[:] = padded[:, 1:, 1:-1]


def _prior(number: int) -> Context:
    """A context of a class of log-odds. By decimals, whose exponential is the same on every machine."""
    centre = (Decimal(number) + Decimal("0.5")) * _CLASS_UNIT / UNIT
    return Context(float(1 / (1 + centre.exp())), weight=16)
