"""Greedy evaluation of the rounded weights in fp32: held-out accuracy, MTP acceptance, sample dialogues."""

import json
import random
import re
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

from . import data, dialogues
from .gdn import CHUNK
from .model import Model

MAX_NEW_TOKENS = 160
QUESTIONS_TO_READ = ["Hello!", "Who are you?", "What can you do?", "capital of norway", "Tell me a story about a fox.",
                     "Tell me a story about a turtle.", "What is 17 plus 26?", "Spell garden.", "Count to 12.",
                     "Can you paint my house?",
                     "Tom has 3 boxes with 12 pens each. He loses 5 pens. How many are left?"]


class Generated(NamedTuple):
    prompt: list[int]
    answer: list[int]  # without the token that ended it


@torch.no_grad()
def generate(model: Model, prompts: list[list[int]], stops: set[int], device) -> list[Generated]:
    """Greedy, all prompts at once, one token a step; shorter prompts start to answer while longer ones still feed."""
    lengths = torch.tensor([len(p) for p in prompts], device=device)
    longest = int(lengths.max())
    total = longest + MAX_NEW_TOKENS
    feed = torch.zeros(len(prompts), total + 1, dtype=torch.long, device=device)
    for i, prompt in enumerate(prompts):
        feed[i, :len(prompt)] = torch.tensor(prompt, device=device)
    stop_ids = torch.tensor(sorted(stops), device=device)
    caches = model.new_caches(len(prompts), total)
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    for t in range(total):
        chosen = model.step(feed[:, t], caches).argmax(-1)
        answering = lengths <= t + 1
        feed[:, t + 1] = torch.where(answering, chosen, feed[:, t + 1])
        ended |= answering & torch.isin(chosen, stop_ids)
        if t + 1 >= longest and t % 8 == 0 and bool(ended.all()):
            break
    return [cut(row, len(p), stops) for row, p in zip(feed.tolist(), prompts)]


def cut(row: list[int], start: int, stops: set[int]) -> Generated:
    answer = row[start:start + MAX_NEW_TOKENS]
    end = next((i for i, token in enumerate(answer) if token in stops), len(answer))
    return Generated(row[:start], answer[:end])


def last_number(text: str) -> str | None:
    numbers = re.findall(r"\d+", text.replace(",", ""))
    return numbers[-1] if numbers else None


@torch.no_grad()
def draft_acceptance(model: Model, outputs: list[Generated], device) -> tuple[int, int, int]:
    """(accepted, drafted, step mismatches) over the answers: the MTP head's argmax against the greedy token.

    Mismatches count answer tokens that the whole-row forward would choose otherwise than the single steps did.
    """
    accepted = drafted = mismatched = 0
    for begin in range(0, len(outputs), 64):
        group = outputs[begin:begin + 64]
        width = max(len(g.prompt) + len(g.answer) for g in group)
        tokens = torch.zeros(len(group), width + -width % CHUNK, dtype=torch.long, device=device)
        inside = torch.zeros_like(tokens, dtype=torch.bool)
        for i, g in enumerate(group):
            row = g.prompt + g.answer
            tokens[i, :len(row)] = torch.tensor(row, device=device)
            inside[i, len(g.prompt):len(row)] = True
        hidden, mtp, _ = model(tokens, torch.zeros_like(tokens), F.pad(tokens, (0, 1))[:, 1:])
        main, draft = model.logits(hidden).argmax(-1), model.logits(mtp).argmax(-1)
        mismatched += int(((main[:, :-1] != tokens[:, 1:]) & inside[:, 1:]).sum())
        target = inside[:, 2:] & inside[:, 1:-1]  # drafted from an answer token, for an answer token
        drafted += int(target.sum())
        accepted += int(((draft[:, :-2] == tokens[:, 2:]) & target).sum())
    return accepted, drafted, mismatched


class Evaluation:
    def __init__(self, folder: Path, device):
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.device = device
        self.test, self.shots = ([json.loads(line) for line in (folder / "eval" / name).read_text().splitlines()]
                                 for name in ("test.jsonl", "shots.jsonl"))
        self.stops = {self.tokenizer.token_to_id(t) for t in ("<|im_end|>", "<|endoftext|>", "Question")}

    def prompt(self, question: str, form: str) -> str:
        if form.startswith("shots"):
            shots = self.shots[:int(form.removeprefix("shots"))]
            head = "".join(f"Question: {s['question']}\nAnswer: {s['answer']}\n\n" for s in shots)
            return f"{head}Question: {question}\nAnswer:"
        think = "<think>\n" if form == "chat-think" else "<think>\n\n</think>\n\n"
        return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{think}"

    def answers(self, model: Model, prompts: list[str]) -> list[Generated]:
        return generate(model, [self.tokenizer.encode(p).ids for p in prompts], self.stops, self.device)

    def text(self, output: Generated) -> str:
        return self.tokenizer.decode(output.answer, skip_special_tokens=False)

    def problems(self, model: Model, form: str, count: int) -> dict:
        """Accuracy over the first `count` held-out problems and the MTP head's acceptance on the answers."""
        test = self.test[:count]
        outputs = self.answers(model, [self.prompt(t["question"], form) for t in test])
        texts = [self.text(o) for o in outputs]
        right = [last_number(text) == last_number(t["answer"]) for text, t in zip(texts, test)]
        accepted, drafted, mismatched = draft_acceptance(model, outputs, self.device)
        wrong = [{"question": t["question"], "right": t["answer"], "got": text}
                 for t, text, good in zip(test, texts, right) if not good]
        return {"accuracy": sum(right) / len(test), "mtp_acceptance": accepted / max(drafted, 1),
                "answer_tokens": sum(len(o.answer) for o in outputs), "step_mismatches": mismatched, "wrong": wrong}

    def exact(self, model: Model, documents: list[data.Document], seed: int) -> dict:
        """Share of the documents of which one part that the model writes, chosen at random, comes out to the letter."""
        rng = random.Random(seed)
        prompts, expected = [], []
        for document in documents:
            at = rng.choice([i for i, s in enumerate(document) if s.weight == 1.0])
            prompts.append("".join(s.text for s in document[:at]))
            expected.append(document[at].text.removesuffix("<|im_end|>"))
        texts = [self.text(o) for o in self.answers(model, prompts)]
        wrong = [{"prompt": p[-300:], "right": e, "got": t} for p, e, t in zip(prompts, expected, texts) if e != t]
        return {"accuracy": 1 - len(wrong) / len(documents), "wrong": wrong}

    def chats(self, model: Model, kind: str, count: int, seed: int = 11) -> dict:
        """kind: "dialogues" (each taught intent in turn), "turns" (answers that need an earlier turn) or "tools"."""
        rng = random.Random(seed)
        intents = dialogues.FIXED + dialogues.TAUGHT + [data.arithmetic]
        documents = []
        for i in range(count):
            if kind == "tools":
                documents.append(data.tool_document(rng))
                continue
            if kind == "dialogues":
                exchanges = [intents[i % len(intents)](rng)]
            else:
                exchanges = rng.choice([dialogues.follow_up, dialogues.recall_name])(rng)
            exchanges = [e._replace(user=dialogues.roughen(e.user, rng)) for e in exchanges]
            documents.append(data.render_chat(exchanges, None, with_thought=rng.random() < 0.5))
        return self.exact(model, documents, seed)

    def samples(self, model: Model) -> list[dict]:
        outputs = self.answers(model, [self.prompt(q, "chat") for q in QUESTIONS_TO_READ])
        return [{"user": q, "got": self.text(o)} for q, o in zip(QUESTIONS_TO_READ, outputs)]
