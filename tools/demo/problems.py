"""Grade-school word problems of one to three steps: the themes, the skeletons and how one problem is drawn.

A problem is a pairing of a theme (what is counted, in what containers, by which verbs) with a skeleton (the
sentences, the numbers and the steps). Numbers are drawn so that every intermediate result is a whole number
from 2 to 999. The worked solution has one sentence per step and ends in `#### N`, as GSM8K's answers do.
"""

import random
import re
from dataclasses import dataclass
from typing import NamedTuple

from .skeletons import SKELETONS, Skeleton

RESULT_MIN, RESULT_MAX = 2, 999


class Theme(NamedTuple):
    item: str
    items: str
    box: str
    boxes: str
    gain: str
    lose: str
    place: str


THEMES = [Theme(*line.split("|")) for line in """
apple|apples|basket|baskets|picks|gives away|orchard
book|books|shelf|shelves|buys|donates|library
marble|marbles|bag|bags|wins|loses|schoolyard
cookie|cookies|jar|jars|bakes|eats|bakery
pencil|pencils|case|cases|buys|lends out|classroom
stamp|stamps|album|albums|collects|trades away|post office
egg|eggs|carton|cartons|collects|sells|farm
flower|flowers|vase|vases|plants|gives away|garden
balloon|balloons|bunch|bunches|blows up|pops|fair
sticker|stickers|sheet|sheets|gets|gives away|toy shop
coin|coins|purse|purses|finds|spends|museum
card|cards|pack|packs|buys|trades away|market
shell|shells|bucket|buckets|finds|throws back|beach
orange|oranges|crate|crates|buys|squeezes|market
toy car|toy cars|box|boxes|gets|breaks|toy shop
muffin|muffins|tray|trays|bakes|sells|bakery
button|buttons|tin|tins|finds|loses|tailor shop
photo|photos|folder|folders|takes|deletes|studio
brick|bricks|pile|piles|carries|uses|building site
candle|candles|drawer|drawers|makes|burns|church
fish|fish|tank|tanks|catches|sets free|lake
bottle|bottles|rack|racks|fills|empties|factory
ticket|tickets|roll|rolls|prints|sells|cinema
bead|beads|string|strings|gets|uses|craft shop
peach|peaches|bowl|bowls|picks|eats|orchard
poster|posters|tube|tubes|draws|sells|school
""".strip().splitlines()]

# Further things to count, for training only: with them the model learns to take the words from the question.
NOUNS = """pen ball hat shoe ring key rope stone tree chair lamp clock plate cup spoon fork knot bell drum flag kite
robot doll puzzle magnet cake donut pie cherry plum lemon melon carrot onion tomato nut bean carp pigeon duck hen goat
sheepdog rabbit hamster spider worm map letter note song picture movie game ticket token badge medal prize cap scarf
sock glove shirt button needle nail screw bolt tile plank pipe wheel truck train boat plane rocket star crystal pearl
diamond seed root leaflet petal feather egg tart bagel bun waffle sandwich burger cracker sweet lollipop pill bandage
brush comb soap towel pillow blanket curtain mirror vase folder notebook marker crayon eraser ruler stapler""".split()
GAINS = ["gets", "buys", "finds", "collects", "makes", "receives"]
LOSES = ["loses", "sells", "gives away", "uses", "breaks", "throws away"]
CONSONANTS = "b d f g k l m n p r s t v z br dr kl tr st fl".split()

MEN = """Tom Ben Sam Leo Max Jack Noah Liam Adam Omar Paul Eric Carl Hugo Ivan Luis Mark Finn Dean Kurt Neil Owen Ravi
Theo Alan Boris Chen David Felix George Henry James Kevin Peter Victor Simon Oscar Martin""".split()
WOMEN = """Anna Mia Emma Lily Ruth Sara Nina Kate Lucy Rosa Ella Jane Amy Zoe Clara Dora Eva Fay Gina Hana Ida Julia Kim
Lena Maya Nora Olga Pia Sofia Tina Uma Vera Wendy Alice Betty Carol Diana Helen Laura Susan""".split()
HE = {"He": "He", "he": "he", "his": "his", "him": "him"}
SHE = {"He": "She", "he": "she", "his": "her", "him": "her"}


@dataclass(frozen=True)
class Problem:
    theme: str
    skeleton: str
    question: str
    answer: str
    steps: int

    @property
    def pairing(self) -> tuple[str, str]:
        return self.theme, self.skeleton

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number combination: all numbers of the question, whatever their order."""
        return tuple(sorted(int(n) for n in re.findall(r"\d+", self.question)))


def draw_numbers(skeleton: Skeleton, rng: random.Random) -> tuple[dict[str, int], list[str]]:
    """Numbers of the question and of each step, and each step as `a + b = c`; redraws until all are in range."""
    while True:
        values: dict[str, int] = {}
        for name, (low, high) in skeleton.ranges.items():
            values[name] = rng.randint(low, high)
        for name, expression in skeleton.derived.items():
            values[name] = evaluate(expression, values)
        equations, good = [], all(value >= RESULT_MIN for value in values.values())
        for name, expression, _ in skeleton.steps:
            values[name] = evaluate(expression, values)
            good = good and RESULT_MIN <= values[name] <= RESULT_MAX
            equations.append(f"{render(expression, values)} = {values[name]}")
        if good:
            return values, equations


def evaluate(expression: str, values: dict[str, int]) -> int:
    """`a*b`-like expressions over drawn numbers, left to right; division must be exact, else 0 (redrawn)."""
    terms = re.findall(r"\w+|[-+*/]", expression)
    total = operand(terms[0], values)
    for operator, term in zip(terms[1::2], terms[2::2]):
        right = operand(term, values)
        if operator == "+":
            total += right
        elif operator == "-":
            total -= right
        elif operator == "*":
            total *= right
        else:
            total = total // right if right and total % right == 0 else 0
    return total


def operand(term: str, values: dict[str, int]) -> int:
    return int(term) if term.isdigit() else values[term]


def render(expression: str, values: dict[str, int]) -> str:
    return " ".join(str(operand(t, values)) if t.isalnum() else t for t in re.findall(r"\w+|[-+*/]", expression))


def draw_problem(theme: Theme, skeleton: Skeleton, rng: random.Random) -> Problem:
    values, equations = draw_numbers(skeleton, rng)
    men_first = rng.random() < 0.5
    name, pronouns = (rng.choice(MEN), HE) if men_first else (rng.choice(WOMEN), SHE)
    other = rng.choice(WOMEN if men_first else MEN)
    third = rng.choice([n for n in MEN + WOMEN if n not in (name, other)])
    words = {**theme._asdict(), **pronouns, **values, "n": name, "m": other, "k": third}
    question = rng.choice(skeleton.questions).format(**words)
    lines = [text.format(eq=eq, **words) for (_, _, text), eq in zip(skeleton.steps, equations)]
    result = values[skeleton.steps[-1][0]]
    answer = "\n".join(lines) + f"\n#### {result}"
    return Problem(theme.items, skeleton.name, question, answer, len(lines))


def invent_word(rng: random.Random) -> str:
    return "".join(rng.choice(CONSONANTS) + rng.choice("aeiou") for _ in range(rng.randint(2, 3)))


def mixed_theme(rng: random.Random) -> Theme:
    """A thing of everyday life or an invented one, with containers, verbs and a place of any theme."""
    item = invent_word(rng) if rng.random() < 0.2 else rng.choice(NOUNS)
    plural = re.sub(r"(s|x|ch|sh)$", r"\1e", re.sub(r"([^aeiou])y$", r"\1ie", item)) + "s"
    containers, places = rng.choice(THEMES), rng.choice(THEMES)
    return Theme(item, plural, containers.box, containers.boxes, rng.choice(GAINS), rng.choice(LOSES), places.place)


def draw_any(rng: random.Random) -> Problem:
    theme = mixed_theme(rng) if rng.random() < 0.4 else rng.choice(THEMES)
    return draw_problem(theme, rng.choice(SKELETONS), rng)
