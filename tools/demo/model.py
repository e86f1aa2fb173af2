"""The Qwen3.5 text architecture (hybrid, MoE, MTP head) in plain PyTorch, for training and for checking.

Parameter names are the released checkpoint's, without the `model.` prefix of the trunk (checkpoint.py adds it).
`forward` runs whole packed rows; `step` runs one token with caches, for greedy generation.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import quant
from .gdn import CHUNK, DOCUMENT_DECAY, causal_conv, chunked_delta_rule, delta_rule_step


@dataclass(frozen=True)
class Config:
    vocab_size: int
    hidden_size: int
    layer_types: tuple[str, ...]
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    linear_num_key_heads: int
    linear_num_value_heads: int
    linear_key_head_dim: int
    linear_value_head_dim: int
    linear_conv_kernel_dim: int
    num_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    shared_expert_intermediate_size: int
    mtp_num_hidden_layers: int
    tie_word_embeddings: bool
    rope_theta: float
    rotary_dim: int
    rms_norm_eps: float

    @staticmethod
    def load(path: Path) -> "Config":
        raw = json.loads(path.read_text())
        text = raw.get("text_config", raw)
        rope = text["rope_parameters"]
        plain = {k: text[k] for k in Config.__dataclass_fields__ if k in text and k != "layer_types"}
        return Config(**plain, layer_types=tuple(text["layer_types"]), rope_theta=float(rope["rope_theta"]),
                      rotary_dim=int(text["head_dim"] * rope["partial_rotary_factor"]))


class Linear(nn.Module):
    def __init__(self, rows: int, columns: int, gain: float = 1.0, quantised: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, columns) * gain / math.sqrt(columns))
        self.quantised = quantised

    def forward(self, x: Tensor) -> Tensor:
        return quant.linear(x, self.weight) if self.quantised else F.linear(x, self.weight)


class Norm1p(nn.Module):
    """RMSNorm with gain 1 + w, computed in fp32."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps) * (1 + self.weight.float())
        return y.to(x.dtype)


class GatedNorm(nn.Module):
    """RMSNorm with plain gain, then the gate silu(z)."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps)
        return (self.weight * y.to(x.dtype)).float() * F.silu(z.float())


class Depthwise(nn.Module):
    def __init__(self, channels: int, taps: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, 1, taps) / math.sqrt(taps))


class LinearAttention(nn.Module):
    def __init__(self, c: Config, gain: float):
        super().__init__()
        self.c = c
        key_width = c.linear_num_key_heads * c.linear_key_head_dim
        value_width = c.linear_num_value_heads * c.linear_value_head_dim
        self.widths = (key_width, key_width, value_width)
        self.in_proj_qkv = Linear(2 * key_width + value_width, c.hidden_size)
        self.in_proj_z = Linear(value_width, c.hidden_size)
        self.in_proj_b = Linear(c.linear_num_value_heads, c.hidden_size, quantised=False)
        self.in_proj_a = Linear(c.linear_num_value_heads, c.hidden_size, quantised=False)
        self.conv1d = Depthwise(sum(self.widths), c.linear_conv_kernel_dim)
        step = torch.exp(torch.empty(c.linear_num_value_heads).uniform_(math.log(0.001), math.log(0.1)))
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # softplus of it is the step
        self.A_log = nn.Parameter(torch.log(torch.empty(c.linear_num_value_heads).uniform_(1, 16)))
        self.norm = GatedNorm(c.linear_value_head_dim, c.rms_norm_eps)
        self.out_proj = Linear(c.hidden_size, value_width, gain)

    def project(self, mixed: Tensor, x: Tensor):
        c = self.c
        q, k, v = mixed.split(self.widths, -1)
        q, k = (t.unflatten(-1, (c.linear_num_key_heads, c.linear_key_head_dim)).float() for t in (q, k))
        v = v.unflatten(-1, (c.linear_num_value_heads, c.linear_value_head_dim)).float()
        q = q * torch.rsqrt(q.square().sum(-1, keepdim=True) + 1e-6) * c.linear_key_head_dim ** -0.5
        k = k * torch.rsqrt(k.square().sum(-1, keepdim=True) + 1e-6)
        beta = self.in_proj_b(x).float().sigmoid()
        log_decay = -self.A_log.float().exp() * F.softplus(self.in_proj_a(x).float() + self.dt_bias.float())
        return q, k, v, log_decay, beta

    def finish(self, o: Tensor, x: Tensor) -> Tensor:
        z = self.in_proj_z(x).unflatten(-1, (self.c.linear_num_value_heads, self.c.linear_value_head_dim))
        return self.out_proj(self.norm(o, z).flatten(-2).to(x.dtype))

    def forward(self, x: Tensor, document: Tensor, first: Tensor) -> Tensor:
        mixed = causal_conv(self.in_proj_qkv(x), self.conv1d.weight, document)
        q, k, v, log_decay, beta = self.project(mixed, x)
        log_decay = log_decay + first[..., None] * DOCUMENT_DECAY
        return self.finish(chunked_delta_rule(q, k, v, log_decay, beta, quant.matmul_dtype(x)), x)

    def step(self, x: Tensor, cache: dict) -> Tensor:
        window = torch.cat([cache["conv"], self.in_proj_qkv(x)[:, None]], 1)
        cache["conv"] = window[:, 1:]
        mixed = F.silu(torch.einsum("btc,ct->bc", window, self.conv1d.weight[:, 0]))
        q, k, v, log_decay, beta = self.project(mixed, x)
        repeat = v.shape[1] // q.shape[1]
        q, k = q.repeat_interleave(repeat, 1), k.repeat_interleave(repeat, 1)
        o, cache["state"] = delta_rule_step(q, k, v, log_decay, beta, cache["state"])
        return self.finish(o, x)

    def new_cache(self, batch: int, _: int, like: Tensor) -> dict:
        c = self.c
        return {"conv": like.new_zeros(batch, c.linear_conv_kernel_dim - 1, sum(self.widths)),
                "state": like.new_zeros(batch, c.linear_num_value_heads, c.linear_key_head_dim,
                                        c.linear_value_head_dim)}


class FullAttention(nn.Module):
    def __init__(self, c: Config, gain: float):
        super().__init__()
        self.c = c
        self.q_proj = Linear(c.num_attention_heads * c.head_dim * 2, c.hidden_size)
        self.k_proj = Linear(c.num_key_value_heads * c.head_dim, c.hidden_size)
        self.v_proj = Linear(c.num_key_value_heads * c.head_dim, c.hidden_size)
        self.o_proj = Linear(c.hidden_size, c.num_attention_heads * c.head_dim, gain)
        self.q_norm = Norm1p(c.head_dim, c.rms_norm_eps)
        self.k_norm = Norm1p(c.head_dim, c.rms_norm_eps)

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """x [..., T, heads, D], positions [..., T]; the first rotary_dim of D turn, pairs (i, i + half)."""
        rotary = self.c.rotary_dim
        frequency = self.c.rope_theta ** (-torch.arange(0, rotary, 2, device=x.device, dtype=torch.float32) / rotary)
        angle = positions[..., None, None].float() * frequency
        cos, sin = angle.cos(), angle.sin()
        a, b, rest = x.float().split([rotary // 2, rotary // 2, x.shape[-1] - rotary], -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1).to(x.dtype)

    def project(self, x: Tensor, positions: Tensor):
        c = self.c
        q, gate = self.q_proj(x).unflatten(-1, (c.num_attention_heads, 2, c.head_dim)).unbind(-2)
        k, v = (p(x).unflatten(-1, (c.num_key_value_heads, c.head_dim)) for p in (self.k_proj, self.v_proj))
        return self.rotate(self.q_norm(q), positions), self.rotate(self.k_norm(k), positions), v, gate.flatten(-2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """q [B,Tq,heads,D], k and v [B,Tk,kv heads,D], mask [B,1,Tq,Tk] of allowed pairs."""
        repeat = self.c.num_attention_heads // self.c.num_key_value_heads
        k, v = (t.repeat_interleave(repeat, 2).transpose(1, 2) for t in (k, v))
        return F.scaled_dot_product_attention(q.transpose(1, 2), k, v, mask).transpose(1, 2).flatten(-2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v, gate = self.project(x, torch.arange(x.shape[1], device=x.device))
        return self.o_proj(self.attend(q, k, v, mask) * gate.sigmoid())

    def step(self, x: Tensor, cache: dict) -> Tensor:
        position = cache["length"]
        q, k, v, gate = self.project(x[:, None], torch.tensor([position], device=x.device))
        cache["k"][:, position], cache["v"][:, position] = k[:, 0], v[:, 0]
        cache["length"] = position + 1
        k, v = cache["k"][:, :position + 1], cache["v"][:, :position + 1]
        allowed = torch.ones(1, 1, 1, position + 1, dtype=torch.bool, device=x.device)
        return self.o_proj((self.attend(q, k, v, allowed) * gate.sigmoid())[:, 0])

    def new_cache(self, batch: int, tokens_max: int, like: Tensor) -> dict:
        shape = (batch, tokens_max, self.c.num_key_value_heads, self.c.head_dim)
        return {"k": like.new_zeros(shape), "v": like.new_zeros(shape), "length": 0}


class SwiGlu(nn.Module):
    def __init__(self, width: int, hidden: int, gain: float):
        super().__init__()
        self.gate_proj, self.up_proj = Linear(hidden, width), Linear(hidden, width)
        self.down_proj = Linear(width, hidden, gain)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Module):
    """All experts as two products; experts that were not chosen weigh zero, which equals not running them."""

    def __init__(self, c: Config, gain: float):
        super().__init__()
        width, hidden = c.hidden_size, c.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.randn(c.num_experts, 2 * hidden, width) / math.sqrt(width))
        self.down_proj = nn.Parameter(torch.randn(c.num_experts, width, hidden) * gain / math.sqrt(hidden))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        experts, rows, width = self.gate_up_proj.shape
        both = quant.linear(x, self.gate_up_proj.reshape(experts * rows, width)).unflatten(-1, (experts, 2, rows // 2))
        hidden = F.silu(both[..., 0, :]) * both[..., 1, :]
        return quant.expert_down(hidden, self.down_proj, weights)


class MoE(nn.Module):
    def __init__(self, c: Config, gain: float):
        super().__init__()
        self.c = c
        self.gate = Linear(c.num_experts, c.hidden_size, quantised=False)
        self.experts = Experts(c, gain)
        self.shared_expert = SwiGlu(c.hidden_size, c.shared_expert_intermediate_size, gain)
        self.shared_expert_gate = Linear(1, c.hidden_size, quantised=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (output, balance): balance is 1 when all experts are used alike, more otherwise."""
        p = self.gate(x).float().softmax(-1)
        top, chosen = p.topk(self.c.num_experts_per_tok, -1)
        picked = F.one_hot(chosen, self.c.num_experts).sum(-2)
        weights = (p * picked / top.sum(-1, keepdim=True)).to(x.dtype)
        share = picked.float().flatten(0, -2).mean(0) / self.c.num_experts_per_tok
        balance = self.c.num_experts * (share * p.flatten(0, -2).mean(0)).sum()
        shared = self.shared_expert_gate(x).sigmoid() * self.shared_expert(x)
        return self.experts(x, weights) + shared, balance


class DecoderLayer(nn.Module):
    def __init__(self, c: Config, kind: str, gain: float):
        super().__init__()
        self.linear = kind == "linear_attention"
        if self.linear:
            self.linear_attn = LinearAttention(c, gain)
        else:
            self.self_attn = FullAttention(c, gain)
        self.input_layernorm = Norm1p(c.hidden_size, c.rms_norm_eps)
        self.post_attention_layernorm = Norm1p(c.hidden_size, c.rms_norm_eps)
        self.mlp = MoE(c, gain)

    def forward(self, x: Tensor, document: Tensor, first: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        n = self.input_layernorm(x)
        x = x + (self.linear_attn(n, document, first) if self.linear else self.self_attn(n, mask))
        y, balance = self.mlp(self.post_attention_layernorm(x))
        return x + y, balance

    def step(self, x: Tensor, cache: dict) -> Tensor:
        mixer = self.linear_attn if self.linear else self.self_attn
        x = x + mixer.step(self.input_layernorm(x), cache)
        return x + self.mlp(self.post_attention_layernorm(x))[0]

    def new_cache(self, batch: int, tokens_max: int, like: Tensor) -> dict:
        return (self.linear_attn if self.linear else self.self_attn).new_cache(batch, tokens_max, like)


class Mtp(nn.Module):
    """Predicts the token after next from the hidden state (after the final norm) and the next token."""

    def __init__(self, c: Config, gain: float):
        super().__init__()
        self.pre_fc_norm_embedding = Norm1p(c.hidden_size, c.rms_norm_eps)
        self.pre_fc_norm_hidden = Norm1p(c.hidden_size, c.rms_norm_eps)
        self.fc = Linear(c.hidden_size, 2 * c.hidden_size, quantised=False)
        self.layers = nn.ModuleList([DecoderLayer(c, "full_attention", gain)])
        self.norm = Norm1p(c.hidden_size, c.rms_norm_eps)

    def forward(self, hidden: Tensor, next_embedding: Tensor, document, first, mask) -> tuple[Tensor, Tensor]:
        joined = torch.cat([self.pre_fc_norm_embedding(next_embedding), self.pre_fc_norm_hidden(hidden)], -1)
        z, balance = self.layers[0](self.fc(joined), document, first, mask)
        return self.norm(z), balance


class Model(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        gain = 1 / math.sqrt(2 * len(c.layer_types))
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        nn.init.normal_(self.embed_tokens.weight, std=0.05)
        self.layers = nn.ModuleList([DecoderLayer(c, kind, gain) for kind in c.layer_types])
        self.norm = Norm1p(c.hidden_size, c.rms_norm_eps)
        self.lm_head = None if c.tie_word_embeddings else Linear(c.vocab_size, c.hidden_size, quantised=False)
        self.mtp = Mtp(c, gain) if c.mtp_num_hidden_layers else None

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight)

    def forward(self, tokens: Tensor, document: Tensor, next_tokens: Tensor | None = None):
        """tokens, document [B,T] (T a multiple of CHUNK): (hidden after the final norm, MTP hidden or None, balance).

        The MTP part runs if next_tokens [B,T] are given; they are the tokens shifted left by one.
        """
        assert tokens.shape[1] % CHUNK == 0
        first = (F.pad(document, (1, 0), value=-1)[:, :-1] != document).float()
        ones = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).tril()
        mask = ((document[:, :, None] == document[:, None, :]) & ones)[:, None]
        x = self.embed_tokens(tokens)
        balances = []
        for layer in self.layers:
            x, balance = layer(x, document, first, mask)
            balances.append(balance)
        hidden = self.norm(x)
        if self.mtp is None or next_tokens is None:
            return hidden, None, torch.stack(balances).mean()
        drafted, balance = self.mtp(hidden, self.embed_tokens(next_tokens), document, first, mask)
        return hidden, drafted, torch.stack([*balances, balance]).mean()

    def new_caches(self, batch: int, tokens_max: int) -> list[dict]:
        return [layer.new_cache(batch, tokens_max, self.embed_tokens.weight) for layer in self.layers]

    def step(self, tokens: Tensor, caches: list[dict]) -> Tensor:
        """One token per row [B]: the logits [B,V] of the next."""
        x = self.embed_tokens(tokens)
        for layer, cache in zip(self.layers, caches):
            x = layer.step(x, cache)
        return self.logits(self.norm(x))
