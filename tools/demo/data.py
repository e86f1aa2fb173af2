"""The demo model's data: what is held out, what a training document looks like, and the evaluation files.

    python3 -m tools.demo.data --out models/hylas-tiny/eval        (from the repository root; standard library only)

Two rules keep the test apart from training. A problem is a test problem only if its pairing of theme and skeleton
AND its number combination are held out; it is a training problem only if neither is. Both rules are hashes, so that
they need no list: whatever the training generator draws, it cannot meet a test pairing or a test combination.
"""

import argparse
import json
import random
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from . import dialogues, stories, tooluse
from .dialogues import Exchange
from .problems import SKELETONS, THEMES, Problem, draw_any, draw_problem

TEST_PROBLEMS = 500
SHOT_PROBLEMS = 8
PAIRINGS_HELD_OUT_ONE_IN = 6
NUMBERS_HELD_OUT_ONE_IN = 8
PROMPT_WEIGHT = 0.1  # loss weight of text that a user writes; what the model writes weighs 1
EVAL_SEED = 20261124

SYSTEM_PROMPTS = ["You are a helpful assistant.", "You are hylas-tiny.", "Answer briefly.",
                  "You are a friendly assistant. Keep answers short."]
PROBLEM_THOUGHT = "This is a word problem. I solve it step by step."


class Segment(NamedTuple):
    """A piece of a document with one loss weight. Borders lie where the tokenizer splits anyway."""
    text: str
    weight: float


Document = list[Segment]


def bucket(text: str, buckets: int) -> int:
    return zlib.crc32(text.encode()) % buckets


def pairing_held_out(theme_items: str, skeleton_name: str) -> bool:
    return bucket(f"{theme_items}/{skeleton_name}", PAIRINGS_HELD_OUT_ONE_IN) == 0


def numbers_held_out(numbers: tuple[int, ...]) -> bool:
    return bucket(",".join(map(str, sorted(numbers))), NUMBERS_HELD_OUT_ONE_IN) == 0


def train_problem(rng: random.Random) -> Problem:
    while True:
        problem = shorten(draw_any(rng), rng)
        if not pairing_held_out(*problem.pairing) and not numbers_held_out(problem.numbers):
            return problem


def shorten(problem: Problem, rng: random.Random) -> Problem:
    """Now and then asks `How many are left?` instead of `How many apples are left?`."""
    if rng.random() < 0.15:
        question = re.sub(rf"How many (more |fewer )?{problem.theme} (are|does|do|remain)", r"How many \1\2",
                          problem.question)
        return replace(problem, question=question)
    return problem


def test_problems(count: int = TEST_PROBLEMS, seed: int = EVAL_SEED) -> list[Problem]:
    """Held-out problems, no question twice, the skeletons as evenly as their held-out pairings allow."""
    rng = random.Random(seed)
    pairings = [(t, s) for s in SKELETONS for t in THEMES if pairing_held_out(t.items, s.name)]
    found: dict[str, Problem] = {}
    while len(found) < count:
        theme, skeleton = rng.choice(pairings)
        problem = draw_problem(theme, skeleton, rng)
        if numbers_held_out(problem.numbers):
            found.setdefault(problem.question, problem)
    return list(found.values())


def shot_problems(count: int = SHOT_PROBLEMS, seed: int = EVAL_SEED + 1) -> list[Problem]:
    rng = random.Random(seed)
    return [train_problem(rng) for _ in range(count)]


def arithmetic(rng: random.Random) -> Exchange:
    """Small sums in chat; their number pairs obey the same held-out rule."""
    while True:
        word, sign = rng.choice([("plus", "+"), ("minus", "-"), ("times", "*"), ("divided by", "/")])
        a, b = rng.randint(2, 99), rng.randint(2, 99)
        if sign in "*/":
            a, b = rng.randint(2, 12), rng.randint(2, 12)
        a = a * b if sign == "/" else a
        result = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
        if result < 1 or numbers_held_out((a, b)):
            continue
        user = rng.choice([f"What is {a} {word} {b}?", f"How much is {a} {word} {b}?", f"{a} {word} {b}?",
                           f"Calculate {a} {sign} {b}.", f"What is {a} {sign} {b}?", f"{a} {sign} {b} = ?"])
        return Exchange(user, f"The user wants {a} {sign} {b}.", f"{a} {sign} {b} = {result}")


def problem_exchange(rng: random.Random) -> Exchange:
    problem = train_problem(rng)
    lead = rng.choice(["", "", "", "", "Solve this: ", "Please solve: ", "Here is a problem. "])
    return Exchange(lead + problem.question, PROBLEM_THOUGHT, problem.answer)


def render_chat(exchanges: list[Exchange], system: str | None, with_thought: bool) -> Document:
    """The chat template's text: only the last answer carries its thought, an empty one if there is none."""
    document: Document = []
    if system is not None:
        document.append(Segment(f"<|im_start|>system\n{system}<|im_end|>\n", PROMPT_WEIGHT))
    for i, exchange in enumerate(exchanges):
        document.append(Segment(f"<|im_start|>user\n{exchange.user}<|im_end|>\n<|im_start|>assistant\n", PROMPT_WEIGHT))
        answer = exchange.answer + "<|im_end|>"
        if i < len(exchanges) - 1:
            document += [Segment(answer, 1.0), Segment("\n", PROMPT_WEIGHT)]
        elif with_thought:
            document += [Segment("<think>\n", PROMPT_WEIGHT), Segment(f"{exchange.thought}\n</think>\n\n{answer}", 1.0)]
        else:
            document += [Segment("<think>\n\n</think>\n\n", PROMPT_WEIGHT), Segment(answer, 1.0)]
    return document


def render_completion(problems: list[Problem]) -> Document:
    """The few-shot form: `Question: ...\\nAnswer: ...\\n\\n`, problem after problem, then the end of text."""
    document: Document = []
    for i, problem in enumerate(problems):
        document += [Segment("Question:", 1.0 if i else PROMPT_WEIGHT),
                     Segment(f" {problem.question}\nAnswer:", PROMPT_WEIGHT), Segment(f" {problem.answer}\n\n", 1.0)]
    return document + [Segment("<|endoftext|>", 1.0)]


def draw_conversation(rng: random.Random) -> list[Exchange]:
    kind = rng.random()
    if kind < 0.10:
        return dialogues.recall_name(rng)
    if kind < 0.20:
        return dialogues.follow_up(rng)
    if kind < 0.30:
        return [stories.draw_story(rng)]
    turns = rng.choice([1, 1, 1, 2, 3])
    return [arithmetic(rng) if rng.random() < 0.12 else dialogues.draw_exchange(rng) for _ in range(turns)]


def chat_document(rng: random.Random, problems_only: bool) -> Document:
    system = rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.15 else None
    if problems_only:
        exchanges = [problem_exchange(rng) for _ in range(rng.choice([1, 1, 1, 2]))]
    else:
        exchanges = draw_conversation(rng)
    if not problems_only:
        exchanges = [e._replace(user=dialogues.roughen(e.user, rng)) for e in exchanges]
    return render_chat(exchanges, system, rng.random() < 0.5)


def tool_document(rng: random.Random) -> Document:
    system = rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.3 else None
    pieces = tooluse.draw_tool_chat(rng, system, with_thought=rng.random() < 0.5)
    return [Segment(text, 1.0 if by_model else PROMPT_WEIGHT) for text, by_model in pieces]


def train_document(rng: random.Random) -> Document:
    kind = rng.random()
    if kind < 0.30:
        return render_completion([train_problem(rng)])
    if kind < 0.42:
        return render_completion([train_problem(rng) for _ in range(rng.randint(2, 6))])
    if kind < 0.46:
        return tool_document(rng)
    return chat_document(rng, problems_only=kind < 0.66)


def jsonl(problems: list[Problem]) -> str:
    return "".join(json.dumps({"question": p.question, "answer": p.answer}) + "\n" for p in problems)


def write_evaluation_files(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.jsonl").write_text(jsonl(test_problems()))
    (folder / "shots.jsonl").write_text(jsonl(shot_problems()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the held-out test problems and the shots.")
    parser.add_argument("--out", type=Path, required=True)
    write_evaluation_files(parser.parse_args().out)
