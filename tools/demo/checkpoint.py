"""Released checkpoint layout: names, dtypes, shards with an index."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .model import Config, Model

SHARD_BYTES_MAX = 14_000_000
KEPT_IN_F32 = ("linear_attn.A_log", "linear_attn.norm.weight")  # as in the released files
OUTSIDE_TRUNK = ("lm_head.", "mtp.")


def load_tensors(folder: Path) -> dict[str, Tensor]:
    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.exists():
        names = set(json.loads(index.read_text())["weight_map"].values())
    tensors: dict[str, Tensor] = {}
    for name in sorted(names):
        tensors |= load_file(folder / name)
    return tensors


def load_model(folder: Path) -> Model:
    """fp32 model of an unquantised checkpoint, flat or nested; vision tensors are left out."""
    model = Model(Config.load(folder / "config.json"))
    state = {}
    for name, tensor in load_tensors(folder).items():
        name = name.replace("model.language_model.", "").removeprefix("model.")
        if not name.startswith("visual."):
            state[name] = tensor.float()
    model.load_state_dict(state)
    return model


def rounded_state(model: Model) -> dict[str, Tensor]:
    """All weights rounded to bf16 numbers, as fp32 tensors on the CPU."""
    return {name: t.detach().bfloat16().float().cpu() for name, t in model.state_dict().items()}


def released_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    out = {}
    for name, tensor in state.items():
        kept = name.endswith(KEPT_IN_F32)
        full_name = name if name.startswith(OUTSIDE_TRUNK) else "model." + name
        out[full_name] = (tensor if kept else tensor.bfloat16()).contiguous()
    return out


def save_released(state: dict[str, Tensor], folder: Path) -> None:
    """Shards in name order, each at most SHARD_BYTES_MAX, plus the index."""
    shards: list[dict[str, Tensor]] = [{}]
    used = 0
    tensors = released_tensors(state)
    for name in sorted(tensors):
        size = tensors[name].nbytes
        if shards[-1] and used + size > SHARD_BYTES_MAX:
            shards.append({})
            used = 0
        shards[-1][name] = tensors[name]
        used += size
    folder.mkdir(parents=True, exist_ok=True)
    weight_map = {}
    for i, shard in enumerate(shards):
        file_name = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file_name, metadata={"format": "pt"})
        (folder / file_name).chmod(0o644)
        weight_map |= {name: file_name for name in shard}
    total = sum(t.nbytes for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def load_rounded(model: Model, state: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(state[name])
