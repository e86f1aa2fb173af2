"""The demo model's data: held-out problems share neither pairings nor number combinations with training."""

import json
import random
import re
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from demo import data, dialogues, tooluse  # noqa: E402
from demo.problems import RESULT_MAX, SKELETONS, THEMES, draw_problem  # noqa: E402

TRAIN_SAMPLE = 20_000
EVAL = ROOT / "models" / "hylas-tiny" / "eval"


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class HeldOutProblems(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.test = data.test_problems()
        rng = random.Random(1)
        cls.train = [data.train_problem(rng) for _ in range(TRAIN_SAMPLE)]

    def test_there_are_500_different_ones_of_one_to_three_steps(self):
        self.assertEqual(len({p.question for p in self.test}), 500)
        self.assertEqual({p.steps for p in self.test}, {1, 2, 3})

    def test_no_pairing_of_theme_and_skeleton_occurs_in_training(self):
        self.assertFalse({p.pairing for p in self.test} & {p.pairing for p in self.train})

    def test_no_number_combination_occurs_in_training(self):
        self.assertFalse({p.numbers for p in self.test} & {p.numbers for p in self.train})

    def test_the_rules_decide_for_every_problem_and_not_for_a_sample_only(self):
        self.assertTrue(all(data.pairing_held_out(*p.pairing) and data.numbers_held_out(p.numbers) for p in self.test))
        self.assertFalse(any(data.pairing_held_out(*p.pairing) or data.numbers_held_out(p.numbers)
                             for p in self.train))

    def test_training_meets_every_theme_and_every_skeleton(self):
        self.assertTrue({p.theme for p in self.train} >= {t.items for t in THEMES})
        self.assertEqual({p.skeleton for p in self.train}, {s.name for s in SKELETONS})

    def test_training_documents_hold_no_test_question(self):
        rng = random.Random(2)
        questions = {p.question for p in self.test}
        for _ in range(5000):
            text = "".join(s.text for s in data.train_document(rng))
            asked = re.findall(r"Question: (.*)\n", text) + re.findall(r"<\|im_start\|>user\n(.*)<\|im_end\|>", text)
            self.assertFalse(questions & set(asked))

    def test_sums_in_chat_obey_the_number_rule(self):
        rng = random.Random(3)
        for _ in range(2000):
            numbers = tuple(map(int, re.findall(r"\d+", data.arithmetic(rng).user)))
            self.assertFalse(data.numbers_held_out(numbers))


class Problems(unittest.TestCase):
    def test_every_skeleton_gives_right_equations_with_every_theme(self):
        rng = random.Random(4)
        for skeleton in SKELETONS:
            for theme in THEMES:
                problem = draw_problem(theme, skeleton, rng)
                self.check_solution(problem)

    def check_solution(self, problem):
        *steps, last = problem.answer.split("\n")
        self.assertEqual(len(steps), problem.steps)
        self.assertNotIn("{", problem.question + problem.answer)
        known = set(problem.numbers) | {2, 7, 12}  # half and twice, days of a week, a dozen
        for step in steps:
            equation = re.search(r"(\d+) ([-+*/]) (\d+) = (\d+)", step)
            a, b, c = int(equation[1]), int(equation[3]), int(equation[4])
            self.assertEqual({"+": a + b, "-": a - b, "*": a * b, "/": a / b}[equation[2]], c, problem)
            self.assertTrue({a, b} <= known, problem)
            self.assertLessEqual(c, RESULT_MAX)
            known.add(c)
        self.assertEqual(last, f"#### {c}")


class Files(unittest.TestCase):
    def test_the_stored_files_are_what_the_generator_writes(self):
        self.assertEqual((EVAL / "test.jsonl").read_text(), data.jsonl(data.test_problems()))
        self.assertEqual((EVAL / "shots.jsonl").read_text(), data.jsonl(data.shot_problems()))

    def test_lines_have_the_form_of_gsm8k(self):
        for line in read_jsonl(EVAL / "test.jsonl"):
            self.assertEqual(set(line), {"question", "answer"})
            self.assertRegex(line["answer"], r"\n#### \d+$")

    def test_shots_are_training_problems(self):
        test = {line["question"] for line in read_jsonl(EVAL / "test.jsonl")}
        shots = {line["question"] for line in read_jsonl(EVAL / "shots.jsonl")}
        self.assertEqual(len(shots), data.SHOT_PROBLEMS)
        self.assertFalse(test & shots)


class Documents(unittest.TestCase):
    def test_same_seed_gives_the_same_documents(self):
        first, second = ([data.train_document(rng) for _ in range(200)] for rng in (random.Random(5), random.Random(5)))
        self.assertEqual(first, second)

    def test_only_the_last_answer_of_a_chat_carries_its_thought(self):
        turns = [dialogues.Exchange("Hi", "Greet.", "Hello!"), dialogues.Exchange("Bye", "Part.", "Goodbye!")]
        with_thought, without = ("".join(s.text for s in data.render_chat(turns, "Be kind.", w)) for w in (True, False))
        head = ("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
                "Hello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n")
        self.assertEqual(with_thought, head + "<think>\nPart.\n</think>\n\nGoodbye!<|im_end|>")
        self.assertEqual(without, head + "<think>\n\n</think>\n\nGoodbye!<|im_end|>")

    def test_few_shot_form_ends_each_answer_with_a_blank_line(self):
        problems = data.shot_problems(2)
        text = "".join(s.text for s in data.render_completion(problems))
        self.assertEqual(text, "".join(f"Question: {p.question}\nAnswer: {p.answer}\n\n" for p in problems)
                         + "<|endoftext|>")

    def test_a_tool_chat_calls_an_offered_tool_and_answers_from_its_result(self):
        calls = 0
        for seed in range(200):
            pieces = tooluse.draw_tool_chat(random.Random(seed), None, with_thought=seed % 2 == 0)
            written = "".join(text for text, by_model in pieces if by_model)
            for name in re.findall(r"<function=(.*)>", written):
                self.assertIn(f'"name": "{name}"', pieces[0][0])
                self.assertEqual(written.count("<|im_end|>"), 2)
                calls += 1
        self.assertGreater(calls, 100)

    def test_every_intent_answers_without_open_slots(self):
        rng = random.Random(6)
        for intent in dialogues.FIXED + dialogues.TAUGHT:
            for _ in range(100):
                exchange = intent(rng)
                self.assertTrue(all(exchange))
                self.assertNotRegex("".join(exchange), r"[{}|]")


if __name__ == "__main__":
    unittest.main()
