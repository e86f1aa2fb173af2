"""Muon for the matrices, Adam for the rest (embeddings, router, norms, decays, convolutions)."""

import torch
from torch import Tensor, nn

BLOCK_ROWS, BLOCK_COLUMNS = 256, 128
MOMENTUM = 0.95
ADAM_BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.02
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ADAM_NAMES = ("embed_tokens", "lm_head", "mlp.gate.weight", "shared_expert_gate", "in_proj_a", "in_proj_b")


def is_matrix(name: str, parameter: Tensor) -> bool:
    if any(part in name for part in ADAM_NAMES) or "conv1d" in name or parameter.ndim < 2:
        return False
    return parameter.shape[-1] * parameter.shape[-2] % (BLOCK_ROWS * BLOCK_COLUMNS) == 0


def to_blocks(x: Tensor) -> Tensor:
    """[..., rows, columns] as [n, 256, 128]: heads, gate / up halves and experts are orthogonalised one by one."""
    if x.shape[-1] != BLOCK_COLUMNS:
        x = x.mT
    return x.reshape(-1, BLOCK_ROWS, BLOCK_COLUMNS)


def from_blocks(blocks: Tensor, like: Tensor) -> Tensor:
    if like.shape[-1] == BLOCK_COLUMNS:
        return blocks.reshape(like.shape)
    return blocks.reshape(like.mT.shape).mT


def orthogonalise(g: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrices, roughly: five Newton-Schulz steps in bf16."""
    a, b, c = NEWTON_SCHULZ
    x = g.bfloat16().mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT


class Optimizer:
    """One step for all parameters; the learning rates are given with each step."""

    def __init__(self, model: nn.Module):
        named = list(model.named_parameters())
        self.matrices = [p for n, p in named if is_matrix(n, p)]
        self.others = [p for n, p in named if not is_matrix(n, p)]
        self.momentum = torch.zeros_like(self.blocks_of(self.matrices))
        cuda = self.others[0].is_cuda
        self.adam = torch.optim.Adam(self.others, betas=ADAM_BETAS, eps=1e-10, fused=cuda)

    @staticmethod
    def blocks_of(tensors: list[Tensor]) -> Tensor:
        return torch.cat([to_blocks(t.detach()) for t in tensors])

    @torch.no_grad()
    def step(self, matrix_rate: float, adam_rate: float) -> None:
        grads = self.blocks_of([p.grad for p in self.matrices])
        self.momentum.lerp_(grads, 1 - MOMENTUM)
        update = orthogonalise(grads.lerp(self.momentum, MOMENTUM)).float()
        sizes = [p.numel() // (BLOCK_ROWS * BLOCK_COLUMNS) for p in self.matrices]
        updates = [from_blocks(u, p) for u, p in zip(update.split(sizes), self.matrices)]
        torch._foreach_mul_(self.matrices, 1 - matrix_rate * WEIGHT_DECAY)
        torch._foreach_add_(self.matrices, updates, alpha=-matrix_rate)
        for group in self.adam.param_groups:
            group["lr"] = adam_rate
        self.adam.step()

    def state(self) -> dict:
        return {"momentum": self.momentum.cpu(), "adam": self.adam.state_dict()}

    def load(self, state: dict) -> None:
        self.momentum.copy_(state["momentum"])
        self.adam.load_state_dict(state["adam"])
