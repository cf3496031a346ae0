"""A network for one stream: what is constant while it decodes is multiplied into the weights beforehand.

Batch norm after a convolution, and the scales and shifts by which residual blocks follow the quantisers, are passes over
memory that a decoder on a CPU pays for with time. Both are linear: folded into the convolution before them they are free.
A 3x3 convolution of a picture enlarged by repetition sees but 2x2 different samples: done at the small size, it takes four
ninths of the products.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hdac.nets.layers import Beside, ResBlock, UpBlock

NetT = TypeVar("NetT", bound=nn.Module)


@torch.no_grad()
def folded(net: NetT, condition: Tensor) -> NetT:
    """A copy of a network in evaluation mode that serves this condition, (1, 4), alone, and computes the same but for
    rounding."""
    net = copy.deepcopy(net)
    for module in net.modules():
        if isinstance(module, nn.Sequential):
            _fold_norms(module)
        elif isinstance(module, ResBlock):
            _fold_block(module, condition)
    for module in list(net.modules()):  # after the norms
        for name, child in module.named_children():
            if type(child) in FOLDED:  # not of one who changed what such a block does
                setattr(module, name, FOLDED[type(child)](child))
    return net


class FoldedUp(nn.Module):
    """`UpBlock` with its norm folded: one 2x2 convolution at the small size gives the four samples that replace each one."""

    def __init__(self, block: UpBlock) -> None:
        super().__init__()
        convolution = block.block[0]
        assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
        # of the rows -1, 0, 1 around an even row of the large picture the last two are one row of the small one; around an
        # odd row the first two are
        rows = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
        w = torch.einsum("ayk,bxl,oikl->aboiyx", rows, rows, convolution.weight)
        self.n_out = convolution.out_channels
        self.weight = nn.Parameter(w.reshape(4 * self.n_out, -1, 2, 2).contiguous(memory_format=torch.channels_last))
        self.bias = nn.Parameter(convolution.bias.repeat(4))

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        phases = F.conv2d(x, self.weight, self.bias, padding=1).relu_()
        out = torch.empty(b, self.n_out, 2 * h, 2 * w, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        for n, phase in enumerate(phases.chunk(4, dim=1)):
            row, column = divmod(n, 2)
            out[:, :, row::2, column::2] = phase[:, :, row : row + h, column : column + w]
        return out


class FoldedBeside(nn.Module):
    """`Beside` without putting its inputs side by side: the sum of two convolutions, added to what they are added to anyway."""

    def __init__(self, beside: Beside) -> None:
        super().__init__()
        left, right = beside.weight.chunk(2, dim=1)
        self.left, self.right = (nn.Parameter(w.contiguous(memory_format=torch.channels_last)) for w in (left, right))
        self.bias = beside.bias

    def forward(self, x: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return F.conv2d(right, self.right).add_(F.conv2d(left, self.left, self.bias)).add_(x)


class FoldedBlock(nn.Module):
    """`ResBlock` that has been folded, with as little new memory as possible."""

    def __init__(self, block: ResBlock) -> None:
        super().__init__()
        self.norm1, self.conv1, self.norm2, self.conv2 = block.norm1, block.conv1, block.norm2, block.conv2

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        h: Tensor = self.norm2(self.conv1(F.relu(self.norm1(x))))
        out: Tensor = self.conv2(h.relu_())
        return out.add_(x)


FOLDED: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    UpBlock: FoldedUp,
    Beside: FoldedBeside,
    ResBlock: FoldedBlock,
}


def _fold_norms(chain: nn.Sequential) -> None:
    for i in range(len(chain) - 1):
        convolution, norm = chain[i], chain[i + 1]
        if isinstance(convolution, (nn.Conv2d, nn.Conv3d)) and isinstance(norm, (nn.BatchNorm2d, nn.BatchNorm3d)):
            chain[i], chain[i + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()


def _fold_block(block: ResBlock, condition: Tensor) -> None:
    if isinstance(block.norm2, nn.BatchNorm2d):
        block.conv1, block.norm2 = fuse_conv_bn_eval(block.conv1, block.norm2), nn.Identity()
    if block.film is not None:
        scale, shift = block.film(condition)[0].chunk(2)
        assert block.conv1.bias is not None
        block.conv1.weight.mul_((1 + scale)[:, None, None, None])
        block.conv1.bias.mul_(1 + scale).add_(shift)
        block.film = None
