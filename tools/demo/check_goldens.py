"""Compares the PyTorch model with stored reference outputs: logits, MTP hidden states, whole rows and single steps.

    python3 -m tools.demo.check_goldens GOLDEN_DIR...
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from .checkpoint import load_model
from .gdn import CHUNK

TOLERANCE = 1e-3
PROMPTS = (1, 5, 63, 64, 65, 130, 517)


def pad(ids: torch.Tensor) -> torch.Tensor:
    return F.pad(ids, (0, -ids.shape[-1] % CHUNK))[None]


@torch.no_grad()
def check(folder: Path) -> float:
    model, golden = load_model(folder), load_file(folder / "golden_fp32.safetensors")
    worst: dict[str, float] = {}

    def note(what: str, ours: torch.Tensor, theirs: torch.Tensor) -> None:
        worst[what] = max(worst.get(what, 0.0), float((ours - theirs).abs().max()))

    for n in PROMPTS:
        if f"p{n}.input_ids" not in golden:
            continue
        ids = golden[f"p{n}.input_ids"].long()
        shifted = torch.cat([ids[1:], golden[f"p{n}.greedy_ids"][:1].long()])
        with_mtp = model.mtp is not None and f"p{n}.mtp.hidden" in golden
        tokens = pad(ids)
        hidden, drafted, _ = model(tokens, torch.zeros_like(tokens), pad(shifted) if with_mtp else None)
        note("logits", model.logits(hidden)[0, n - 1], golden[f"p{n}.last_logits"])
        if with_mtp:
            note("mtp_target_hidden", hidden[0, :n], golden[f"p{n}.mtp.target_hidden"])
            note("mtp_hidden", drafted[0, :n], golden[f"p{n}.mtp.hidden"])
            note("mtp_logits", model.logits(drafted)[0, n - 1], golden[f"p{n}.mtp.last_logits"])
        caches = model.new_caches(1, n)
        for token in ids:
            logits = model.step(token[None], caches)
        note("step_logits", logits[0], golden[f"p{n}.last_logits"])
        check_packed(model, ids, golden[f"p{n}.last_logits"], note)
    print(folder.name, {k: f"{v:.1e}" for k, v in worst.items()})
    return max(worst.values())


def check_packed(model, ids: torch.Tensor, last_logits: torch.Tensor, note) -> None:
    """The prompt behind another document in the same row gives the same logits."""
    before = torch.arange(37) % model.c.vocab_size
    tokens = pad(torch.cat([before, ids]))
    document = torch.full_like(tokens, 2)
    document[0, :37], document[0, 37:37 + len(ids)] = 0, 1
    note("packed_logits", model.logits(model(tokens, document)[0])[0, 36 + len(ids)], last_logits)


if __name__ == "__main__":
    torch.set_num_threads(1)
    worst_of_all = max(check(Path(folder)) for folder in sys.argv[1:])
    sys.exit(0 if worst_of_all < TOLERANCE else 1)
