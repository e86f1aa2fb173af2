"""Products of the layers that FP8 checkpoints quantise, with an optional emulation of FP8 block quantisation.

With `emulation(True)` weights are rounded to e4m3 with one scale per 128x128 block and activations to e4m3 with one
scale per token and 128 channels; gradients pass straight through.
"""

from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 128
E4M3_MAX = 448.0
_state = {"fp8": False}


@contextmanager
def emulation(on: bool):
    before = _state["fp8"]
    _state["fp8"] = on
    try:
        yield
    finally:
        _state["fp8"] = before


def matmul_dtype(x: Tensor) -> torch.dtype:
    """bf16 under autocast, else the activation's own type."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    return x + (rounded - x).detach()


def round_weight(w: Tensor) -> Tensor:
    """[..., rows, columns], both multiples of 128; the scale is a bf16 number, as checkpoints store it."""
    blocks = w.float().unflatten(-2, (-1, BLOCK)).unflatten(-1, (-1, BLOCK))
    scale = (blocks.abs().amax((-3, -1), keepdim=True).clamp(min=1e-12) / E4M3_MAX).bfloat16().float()
    rounded = (blocks / scale).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn).float() * scale
    return straight_through(w, rounded.flatten(-2).flatten(-3, -2).to(w.dtype))


def round_activation(x: Tensor) -> Tensor:
    groups = x.float().unflatten(-1, (-1, BLOCK))
    scale = groups.abs().amax(-1, keepdim=True).clamp(min=1e-10) / E4M3_MAX
    rounded = (groups / scale).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn).float() * scale
    return straight_through(x, rounded.flatten(-2).to(x.dtype))


def linear(x: Tensor, weight: Tensor) -> Tensor:
    if _state["fp8"]:
        x, weight = round_activation(x), round_weight(weight)
    return F.linear(x, weight)


def expert_down(hidden: Tensor, weight: Tensor, routing: Tensor) -> Tensor:
    """sum_e routing_e * (weight_e @ hidden_e): hidden [...,E,I], weight [E,H,I], routing [...,E]."""
    if _state["fp8"]:
        hidden, weight = round_activation(hidden), round_weight(weight)
    return F.linear((hidden * routing[..., None]).flatten(-2), weight.transpose(0, 1).flatten(1))
