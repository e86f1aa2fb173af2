"""The gated delta rule over whole sequences, in chunks, with documents that do not see each other."""

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 64
DOCUMENT_DECAY = -30.0  # added to the log decay at a document's first token: exp(-30) forgets the one before


class UnitLowerInverse(torch.autograd.Function):
    """(I + A)^-1 of strictly lower triangular A, batched; fp32."""

    @staticmethod
    def forward(ctx, a: Tensor) -> Tensor:
        eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
        inverse = torch.linalg.solve_triangular(a + eye, eye.expand_as(a), upper=False, unitriangular=True)
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (inverse,) = ctx.saved_tensors
        transposed = inverse.mT
        return -(transposed @ grad @ transposed).tril(-1)


def causal_conv(u: Tensor, weight: Tensor, document: Tensor) -> Tensor:
    """Depthwise convolution over [B,T,C] with silu; taps that reach into another document count as zero."""
    taps = weight.shape[-1]
    total = u * weight[:, 0, taps - 1]
    for back in range(1, taps):
        shifted = F.pad(u, (0, 0, back, 0))[:, :-back]
        same = F.pad(document, (back, 0), value=-1)[:, :-back] == document
        total = total + shifted * same[..., None] * weight[:, 0, taps - 1 - back]
    return F.silu(total)


def chunked_delta_rule(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, dtype: torch.dtype) -> Tensor:
    """q, k [B,T,Hk,Dk] (normalised, q scaled); v [B,T,Hv,Dv]; log_decay, beta [B,T,Hv] fp32; T a multiple of CHUNK.

    Returns o [B,T,Hv,Dv] fp32, from a zero state. Matrix products run in `dtype`, decays and the inverse in fp32.
    """
    batch, tokens, key_heads, _ = q.shape
    repeat = v.shape[2] // key_heads
    chunks = tokens // CHUNK

    def split(x: Tensor) -> Tensor:  # [B,T,H,...] -> [B,H,N,C,...]
        return x.unflatten(1, (chunks, CHUNK)).movedim(3, 1)

    def per_value_head(x: Tensor) -> Tensor:
        return x.repeat_interleave(repeat, 1)

    q, k, v, beta = split(q.to(dtype)), split(k.to(dtype)), split(v.to(dtype)), split(beta)
    total = split(log_decay).cumsum(-1)
    decay = (total[..., :, None] - total[..., None, :]).tril().exp().tril()
    overlap = per_value_head((k @ k.mT).float()) * decay * beta[..., None]
    inverse = UnitLowerInverse.apply(overlap.tril(-1)).to(dtype)
    scores = (per_value_head((q @ k.mT).float()) * decay).to(dtype)
    growth = total.exp()[..., None]
    to_end = (total[..., -1:] - total).exp()[..., None]
    k, q = per_value_head(k), per_value_head(q)
    values = inverse @ (v * beta[..., None]).to(dtype)
    keys = inverse @ (k * (beta[..., None] * growth)).to(dtype)
    q, k = (q * growth).to(dtype), (k * to_end).to(dtype)
    carry = growth[..., -1, :, None]
    state = torch.zeros(batch, v.shape[1], k.shape[-1], v.shape[-1], dtype=torch.float32, device=v.device)
    outputs = []
    by_chunk = zip(*(t.unbind(2) for t in (q, k, values, keys, scores, carry)))
    for q_n, k_n, values_n, keys_n, scores_n, carry_n in by_chunk:
        low = state.to(dtype)
        new = values_n - keys_n @ low
        outputs.append(q_n @ low + scores_n @ new)
        state = state * carry_n + (k_n.mT @ new).float()
    return torch.stack(outputs, 2).movedim(1, 3).flatten(1, 2).float()


def delta_rule_step(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, state: Tensor):
    """One token: q, k [B,Hv,Dk], v [B,Hv,Dv], state [B,Hv,Dk,Dv]. Returns (o [B,Hv,Dv], new state)."""
    state = state * log_decay.exp()[..., None, None]
    error = beta[..., None] * (v - torch.einsum("bhkv,bhk->bhv", state, k))
    state = state + k[..., :, None] * error[..., None, :]
    return torch.einsum("bhkv,bhk->bhv", state, q), state
