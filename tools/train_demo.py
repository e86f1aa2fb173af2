#!/usr/bin/env python3
"""Trains hylas-tiny from scratch: a small Qwen3.5-architecture MoE with an MTP head (see tools/demo/README.md).

    python3 tools/train_demo.py --state DIR --out DIR [--minutes 8]       call again until it says "finished"

Needs torch, tokenizers, safetensors and numpy. A run is a function of the seed and the options; a call that runs out
of its minutes leaves everything the next one needs in --state.
"""

import argparse
import io
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from demo import checkpoint, packing, quant  # noqa: E402
from demo.evaluate import Evaluation  # noqa: E402
from demo.model import Config, Model  # noqa: E402
from demo.optim import Optimizer  # noqa: E402

MODEL_DIR = Path(__file__).resolve().parents[1] / "models" / "hylas-tiny"
STATE_PART_BYTES = 15_000_000
WARM_UP_STEPS = 100
FLAT_SHARE = 0.3  # of the steps at the full rate, then linearly down to LAST_RATE
LAST_RATE = 0.01
GRADIENT_NORM_MAX = 1.0
LOG_EVERY = 50
CHATS = ("dialogues", "turns", "tools")
FINAL_FORMS = ("shots0", "shots4", "shots5", "chat", "chat-think", "fp8-shots0", "fp8-shots5", *CHATS, "fp8-dialogues")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL_DIR, help="folder of config.json, tokenizer.json and eval/")
    parser.add_argument("--state", type=Path, required=True, help="folder of the state between calls")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights and the report")
    parser.add_argument("--minutes", type=float, default=8.0, help="training time of this call")
    parser.add_argument("--steps", type=int, default=1400, help="steps of the whole run")
    parser.add_argument("--rows", type=int, default=64, help="sequences a step")
    parser.add_argument("--width", type=int, default=1024, help="tokens of a sequence")
    parser.add_argument("--matrix-rate", type=float, default=0.02, help="Muon's learning rate")
    parser.add_argument("--adam-rate", type=float, default=3e-3)
    parser.add_argument("--mtp-weight", type=float, default=0.2)
    parser.add_argument("--balance-weight", type=float, default=0.01)
    parser.add_argument("--fp8-from", type=float, default=0.8,
                        help="share of the steps after which every second one emulates FP8 blocks")
    parser.add_argument("--evaluate-every", type=int, default=500)
    parser.add_argument("--problems", type=int, default=500, help="held-out problems of the final evaluation")
    parser.add_argument("--forms", nargs="+", default=FINAL_FORMS, help="what the final evaluation measures")
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-compile", action="store_true")
    return parser.parse_args()


def token_losses(hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    logits = F.linear(hidden, table).float().flatten(0, 1)
    losses = F.cross_entropy(logits, targets.flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum()


def shifted(batch: packing.Batch, by: int) -> tuple[Tensor, Tensor]:
    """Targets `by` tokens ahead and their weights: zero where the target belongs to another document."""
    tokens = F.pad(batch.tokens, (0, by))[:, by:]
    same = F.pad(batch.document, (0, by), value=-1)[:, by:] == batch.document
    return tokens.contiguous(), F.pad(batch.weight, (0, by))[:, by:] * same


class Trainer:
    def __init__(self, args: argparse.Namespace):
        self.args, self.started = args, time.monotonic()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(args.seed)
        torch.set_float32_matmul_precision("high")
        self.model = Model(Config.load(args.model / "config.json")).to(self.device)
        self.optimizer = Optimizer(self.model)
        self.evaluation = Evaluation(args.model, self.device)
        self.step, self.seconds_before, self.token_losses = 0, 0.0, token_losses
        self.history: list[dict] = []
        self.load_state()
        if not args.no_compile:
            for layer in [*self.model.layers, *self.model.mtp.layers]:
                layer.compile()
            self.token_losses = torch.compile(token_losses)

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def memory_gib(self) -> float:
        return torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else 0.0

    def load_state(self) -> None:
        parts = sorted(self.args.state.glob("state.part*"))
        if parts:
            state = torch.load(io.BytesIO(b"".join(p.read_bytes() for p in parts)), weights_only=False)
            self.model.load_state_dict(state["model"])
            self.optimizer.load(state["optimizer"])
            self.step, self.seconds_before, self.history = state["step"], state["seconds"], state["history"]

    def save_state(self) -> None:
        buffer = io.BytesIO()
        optimizer = self.optimizer.state()
        optimizer["momentum"] = optimizer["momentum"].bfloat16()
        model = {name: tensor.cpu() for name, tensor in self.model.state_dict().items()}
        torch.save({"model": model, "optimizer": optimizer, "step": self.step, "history": self.history,
                    "seconds": self.seconds_before + self.seconds()}, buffer)
        self.args.state.mkdir(parents=True, exist_ok=True)
        for old in self.args.state.glob("state.part*"):
            old.unlink()
        data = buffer.getvalue()
        for i, start in enumerate(range(0, len(data), STATE_PART_BYTES)):
            (self.args.state / f"state.part{i:02d}").write_bytes(data[start:start + STATE_PART_BYTES])

    def rate(self) -> float:
        warm = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        left = (self.args.steps - self.step) / max(1.0, self.args.steps * (1 - FLAT_SHARE))
        return warm * max(LAST_RATE, min(1.0, left))

    def train_step(self, batch: packing.Batch) -> Tensor:
        """Losses of the step: main, MTP, balance."""
        batch = packing.Batch(*(t.to(self.device, non_blocking=True) for t in batch))
        next_tokens, next_weights = shifted(batch, 1)
        later_tokens, later_weights = shifted(batch, 2)
        table = self.model.embed_tokens.weight
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            hidden, drafted, balance = self.model(batch.tokens, batch.document, next_tokens)
            main = self.token_losses(hidden, table, next_tokens, next_weights)
            mtp = self.token_losses(drafted, table, later_tokens, later_weights)
        (main + self.args.mtp_weight * mtp + self.args.balance_weight * balance).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM_MAX)
        rate = self.rate()
        self.optimizer.step(self.args.matrix_rate * rate, self.args.adam_rate * rate)
        self.model.zero_grad(set_to_none=True)
        return torch.stack([main, mtp, balance]).detach()

    def train(self) -> bool:
        """Trains until the steps or the minutes are over; True if the steps are."""
        args = self.args
        batches = packing.Batches(args.model / "tokenizer.json", args.rows, args.width, args.seed, self.step,
                                  args.steps)
        total, since, waited, count = torch.zeros(3, device=self.device), time.monotonic(), 0.0, 0
        source = iter(packing.loader(batches, args.workers))
        while self.step < args.steps:
            asked = time.monotonic()
            batch = next(source)
            waited += time.monotonic() - asked
            with quant.emulation(self.step >= args.fp8_from * args.steps and self.step % 2 == 1):
                total += self.train_step(batch)
            self.step, count = self.step + 1, count + 1
            if self.step % LOG_EVERY == 0 or self.step <= 3:
                main, mtp, balance = (total / count).tolist()
                speed = count * args.rows * args.width / (time.monotonic() - since)
                print(f"step {self.step} loss {main:.4f} mtp {mtp:.4f} balance {balance:.3f} rate {self.rate():.3f} "
                      f"tokens/s {speed:,.0f} waited {waited:.1f} GiB {self.memory_gib():.1f} "
                      f"seconds {self.seconds():.0f}", flush=True)
                total, since, waited, count = torch.zeros(3, device=self.device), time.monotonic(), 0.0, 0
            if self.step % args.evaluate_every == 0 and self.step < args.steps:
                self.evaluate(("shots0",), 200)
                since = time.monotonic()
            if self.seconds() > args.minutes * 60:
                break
        return self.step >= args.steps

    def rounded_model(self) -> Model:
        rounded = Model(self.model.c).to(self.device)
        checkpoint.load_rounded(rounded, checkpoint.rounded_state(self.model))
        return rounded

    def evaluate(self, forms: tuple[str, ...], problems: int) -> list[dict]:
        """Of the weights rounded to bf16, in fp32; `fp8-FORM` emulates the FP8 variant."""
        torch.set_float32_matmul_precision("highest")
        rounded = self.rounded_model()
        reports = []
        for form in forms:
            with quant.emulation(form.startswith("fp8-")):
                name = form.removeprefix("fp8-")
                report = (self.evaluation.chats(rounded, name, problems) if name in CHATS
                          else self.evaluation.problems(rounded, name, problems))
            report |= {"form": form, "step": self.step}
            reports.append(report)
            short = {k: round(v, 4) if isinstance(v, float) else v for k, v in report.items() if k != "wrong"}
            print("evaluation", json.dumps(short), flush=True)
        self.history += [{k: v for k, v in r.items() if k != "wrong"} for r in reports]
        torch.set_float32_matmul_precision("high")
        return reports

    def finish(self) -> None:
        checkpoint.save_released(checkpoint.rounded_state(self.model), self.args.out)
        reports = self.evaluate(tuple(self.args.forms), self.args.problems)
        samples = self.evaluation.samples(self.rounded_model())
        for sample in samples:
            print(json.dumps(sample), flush=True)
        summary = {"seconds": self.seconds_before + self.seconds(), "history": self.history, "final": reports,
                   "samples": samples,
                   "options": {k: str(v) for k, v in vars(self.args).items()},
                   "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"}
        (self.args.out / "report.json").write_text(json.dumps(summary, indent=1))


def main() -> None:
    trainer = Trainer(options())
    finished = trainer.train()
    if finished:
        trainer.finish()
    else:
        trainer.evaluate(("shots0",), 200)
    trainer.save_state()
    print("finished" if finished else "unfinished: call again", f"at step {trainer.step}", flush=True)


if __name__ == "__main__":
    main()
