"""The skeletons of the word problems: sentences, number ranges, and the steps of the worked solution.

Words in braces come from the theme ({item}, {items}, {box}, {boxes}, {gain}, {lose}, {place}), from the people
({n}, {m}, {k}; {He}, {he}, {his}, {him} follow {n}) and from the numbers. Every phrasing of a skeleton holds the
same numbers and has the same solution.
"""

from typing import NamedTuple


class Skeleton(NamedTuple):
    name: str
    ranges: dict[str, tuple[int, int]]
    derived: dict[str, str]
    questions: list[str]
    steps: list[tuple[str, str, str]]


def skeleton(name, ranges, questions, steps, derived=None):
    return Skeleton(name, ranges, derived or {}, questions, steps)


ONE_STEP = [
    skeleton("gain", {"a": (3, 99), "b": (2, 99)},
             ["{n} has {a} {items}. {He} {gain} {b} more {items}. How many {items} does {n} have now?",
              "{n} {gain} {b} {items}. {He} already had {a} {items}. How many {items} does {n} have in total?"],
             [("r", "a+b", "{n} has {eq} {items}.")]),
    skeleton("lose", {"a": (10, 120), "b": (2, 99)},
             ["{n} has {a} {items}. {He} {lose} {b} of them. How many {items} does {n} have left?",
              "There are {a} {items}. {n} {lose} {b} {items}. How many {items} are left?"],
             [("r", "a-b", "There are {eq} {items} left.")]),
    skeleton("boxes", {"a": (2, 12), "b": (2, 25)},
             ["{n} has {a} {boxes}. Each {box} holds {b} {items}. How many {items} does {n} have?",
              "There are {a} {boxes} at the {place}. Each {box} has {b} {items} in it. How many {items} are there?"],
             [("r", "a*b", "There are {eq} {items}.")]),
    skeleton("share", {"b": (2, 10), "q": (2, 30)},
             ["{n} shares {a} {items} equally among {b} friends. How many {items} does each friend get?",
              "{n} has {a} {items} for {b} friends. Each friend gets the same number of {items}. "
              "How many {items} does one friend get?"],
             [("r", "a/b", "Each friend gets {eq} {items}.")], {"a": "b*q"}),
    skeleton("pack", {"b": (2, 12), "q": (2, 20)},
             ["{n} puts {a} {items} into {boxes}. Each {box} holds {b} {items}. How many {boxes} does {n} need?",
              "A {box} holds {b} {items}. How many {boxes} does {n} need for {a} {items}?"],
             [("r", "a/b", "{n} needs {eq} {boxes}.")], {"a": "b*q"}),
    skeleton("compare", {"a": (10, 120), "b": (3, 99)},
             ["{n} has {a} {items}. {m} has {b} {items}. How many more {items} does {n} have than {m}?",
              "{m} has {b} {items} and {n} has {a} {items}. How many fewer {items} does {m} have than {n}?"],
             [("r", "a-b", "The difference is {eq} {items}.")]),
    skeleton("both", {"a": (3, 99), "b": (3, 99)},
             ["{n} has {a} {items} and {m} has {b} {items}. How many {items} do they have together?",
              "{n} {gain} {a} {items}. {m} {gain} {b} {items}. How many {items} is that altogether?"],
             [("r", "a+b", "Together they have {eq} {items}.")]),
    skeleton("price", {"a": (2, 12), "b": (2, 30)},
             ["One {item} costs {b} dollars. How many dollars does {n} pay for {a} {items}?",
              "{n} buys {a} {items} at the {place}. Each {item} costs {b} dollars. How much does {n} pay in dollars?"],
             [("r", "a*b", "{n} pays {eq} dollars.")]),
    skeleton("times", {"a": (2, 40), "b": (2, 9)},
             ["{n} has {a} {items}. {m} has {b} times as many {items}. How many {items} does {m} have?",
              "{m} has {b} times as many {items} as {n}. {n} has {a} {items}. How many {items} does {m} have?"],
             [("r", "a*b", "{m} has {eq} {items}.")]),
    skeleton("needed", {"a": (10, 150), "b": (2, 99)},
             ["{n} wants {a} {items}. {He} has {b} {items} so far. How many more {items} does {n} need?",
              "{n} needs {a} {items} for the {place} but has only {b}. How many {items} are missing?"],
             [("r", "a-b", "{n} needs {eq} more {items}.")]),
    skeleton("daily", {"a": (2, 25), "b": (2, 12)},
             ["{n} {gain} {a} {items} every day. How many {items} is that in {b} days?",
              "Every day {n} {gain} {a} {items}. How many {items} are there after {b} days?"],
             [("r", "a*b", "That is {eq} {items}.")]),
    skeleton("half", {"q": (3, 90)},
             ["{n} has {a} {items}. {He} {lose} half of them. How many {items} are left?",
              "Half of the {a} {items} at the {place} belong to {n}. How many {items} belong to {n}?"],
             [("r", "a/2", "Half is {eq} {items}.")], {"a": "2*q"}),
]

TWO_STEP = [
    skeleton("gain-lose", {"a": (10, 99), "b": (2, 60), "c": (2, 60)},
             ["{n} has {a} {items}. {He} {gain} {b} more and then {lose} {c}. How many {items} does {n} have now?",
              "{n} starts with {a} {items}. First {he} {gain} {b} {items}. Later {he} {lose} {c} {items}. "
              "How many {items} does {n} have at the end?"],
             [("t", "a+b", "First {n} has {eq} {items}."), ("r", "t-c", "Then {n} has {eq} {items}.")]),
    skeleton("boxes-plus", {"a": (2, 12), "b": (2, 20), "c": (2, 80)},
             ["{n} has {a} {boxes} with {b} {items} each and {c} loose {items}. How many {items} does {n} have?",
              "There are {c} {items} on the table and {a} {boxes} with {b} {items} in each {box}. "
              "How many {items} are there in total?"],
             [("t", "a*b", "The {boxes} hold {eq} {items}."), ("r", "t+c", "In total there are {eq} {items}.")]),
    skeleton("boxes-minus", {"a": (2, 12), "b": (3, 20), "c": (2, 80)},
             ["{n} has {a} {boxes} with {b} {items} each. {He} {lose} {c} {items}. How many {items} are left?",
              "{a} {boxes} hold {b} {items} each. {n} {lose} {c} of the {items}. How many {items} remain?"],
             [("t", "a*b", "The {boxes} hold {eq} {items}."), ("r", "t-c", "There are {eq} {items} left.")]),
    skeleton("change", {"a": (2, 10), "b": (2, 12), "c": (10, 150)},
             ["{n} buys {a} {items} for {b} dollars each. {He} pays with {c} dollars. How much change does {he} get?",
              "{n} has {c} dollars. {He} buys {a} {items} that cost {b} dollars each. How many dollars are left?"],
             [("t", "a*b", "The {items} cost {eq} dollars."), ("r", "c-t", "{n} has {eq} dollars left.")]),
    skeleton("share-rest", {"b": (2, 60), "c": (2, 9), "q": (2, 20)},
             ["{n} has {a} {items}. {He} {lose} {b} and shares the rest equally among {c} friends. "
              "How many {items} does each friend get?",
              "There are {a} {items}. {n} {lose} {b} of them. {c} friends share the others equally. "
              "How many {items} does one friend get?"],
             [("t", "a-b", "There are {eq} {items} left."), ("r", "t/c", "Each friend gets {eq} {items}.")],
             {"a": "c*q+b"}),
    skeleton("share-sum", {"a": (3, 80), "c": (2, 9), "q": (3, 20)},
             ["{n} has {a} {items} and {m} has {b} {items}. They put them together and fill {c} {boxes} equally. "
              "How many {items} are in each {box}?",
              "{n} {gain} {a} {items} and {m} {gain} {b}. They share all of them equally among {c} people. "
              "How many {items} does each one get?"],
             [("t", "a+b", "Together they have {eq} {items}."), ("r", "t/c", "Each part has {eq} {items}.")],
             {"b": "c*q-a"}),
    skeleton("more-than", {"a": (3, 90), "b": (2, 60)},
             ["{n} has {a} {items}. {m} has {b} more {items} than {n}. How many {items} do they have together?",
              "{m} has {b} more {items} than {n}, who has {a} {items}. How many {items} do the two have in all?"],
             [("t", "a+b", "{m} has {eq} {items}."), ("r", "a+t", "Together they have {eq} {items}.")]),
    skeleton("less-than", {"a": (10, 99), "b": (2, 60)},
             ["{n} has {a} {items}. {m} has {b} fewer {items} than {n}. How many {items} do they have together?",
              "{m} has {b} fewer {items} than {n}, who has {a} {items}. How many {items} do the two have in all?"],
             [("t", "a-b", "{m} has {eq} {items}."), ("r", "a+t", "Together they have {eq} {items}.")]),
    skeleton("times-total", {"a": (2, 40), "b": (2, 9)},
             ["{n} has {a} {items}. {m} has {b} times as many. How many {items} do they have together?",
              "{m} has {b} times as many {items} as {n}. If {n} has {a} {items}, how many do they have in all?"],
             [("t", "a*b", "{m} has {eq} {items}."), ("r", "a+t", "Together they have {eq} {items}.")]),
    skeleton("weeks", {"a": (2, 12), "b": (2, 8)},
             ["{n} {gain} {a} {items} every day. How many {items} does {n} have after {b} weeks?",
              "Every day of the week {n} {gain} {a} {items}. How many {items} is that in {b} weeks?"],
             [("t", "a*7", "In one week that is {eq} {items}."), ("r", "t*b", "In {b} weeks that is {eq} {items}.")]),
    skeleton("earn", {"a": (5, 60), "b": (2, 40), "c": (2, 9)},
             ["{n} has {a} {items} and sells {b} of them for {c} dollars each. How many dollars would the other "
              "{items} bring at the same price?"],
             [("t", "a-b", "There are {eq} other {items}."), ("r", "t*c", "They bring {eq} dollars.")]),
    skeleton("half-gain", {"q": (3, 60), "b": (2, 60)},
             ["{n} has {a} {items}. {He} {lose} half of them and then {gain} {b} more. How many {items} does {n} "
              "have now?",
              "{n} {lose} half of {his} {a} {items}. After that {he} {gain} {b} {items}. How many {items} does {n} "
              "have?"],
             [("t", "a/2", "{n} has {eq} {items} left."), ("r", "t+b", "Then {n} has {eq} {items}.")], {"a": "2*q"}),
    skeleton("packs-left", {"b": (2, 10), "q": (4, 20), "c": (2, 15)},
             ["{n} packs {a} {items} into {boxes} of {b}. {He} sells {c} {boxes}. How many {boxes} are left?",
              "A {box} holds {b} {items}. {n} fills {boxes} with {a} {items} and gives {c} {boxes} to {m}. "
              "How many {boxes} does {n} keep?"],
             [("t", "a/b", "There are {eq} {boxes}."), ("r", "t-c", "There are {eq} {boxes} left.")], {"a": "b*q"}),
    skeleton("three-people", {"a": (3, 70), "b": (3, 70), "c": (3, 70)},
             ["{n} has {a} {items}, {m} has {b} and {k} has {c}. How many {items} do the three have together?",
              "{n} {gain} {a} {items}, {m} {gain} {b} and {k} {gain} {c}. How many {items} is that in total?"],
             [("t", "a+b", "{n} and {m} have {eq} {items}."), ("r", "t+c", "The three have {eq} {items}.")]),
    skeleton("unit-price", {"b": (2, 9), "q": (2, 12), "c": (2, 12)},
             ["{b} {items} cost {a} dollars. How many dollars do {c} {items} cost?",
              "{n} pays {a} dollars for {b} {items}. How much would {he} pay for {c} {items} in dollars?"],
             [("t", "a/b", "One {item} costs {eq} dollars."), ("r", "t*c", "{c} {items} cost {eq} dollars.")],
             {"a": "b*q"}),
]

THREE_STEP = [
    skeleton("shop", {"a": (2, 9), "b": (2, 12), "c": (2, 9), "d": (2, 12)},
             ["{n} buys {a} {items} for {b} dollars each and {c} {boxes} for {d} dollars each. "
              "How many dollars does {n} spend?",
              "At the {place} a {item} costs {b} dollars and a {box} costs {d} dollars. {n} buys {a} {items} and "
              "{c} {boxes}. How much does {n} pay in dollars?"],
             [("t", "a*b", "The {items} cost {eq} dollars."), ("u", "c*d", "The {boxes} cost {eq} dollars."),
              ("r", "t+u", "{n} pays {eq} dollars.")]),
    skeleton("boxes-give-share", {"a": (2, 9), "b": (3, 15), "c": (2, 60), "d": (2, 6)},
             ["{n} has {a} {boxes} with {b} {items} each. {He} {lose} {c} {items} and shares the rest equally among "
              "{d} friends. How many {items} does each friend get?",
              "There are {b} {items} in each of {a} {boxes}. {n} {lose} {c} {items}. Then {d} friends share what is "
              "left. How many {items} does each friend get?"],
             [("t", "a*b", "There are {eq} {items}."), ("u", "t-c", "After that there are {eq} {items} left."),
              ("r", "u/d", "Each friend gets {eq} {items}.")]),
    skeleton("chain", {"a": (10, 90), "b": (2, 50), "c": (2, 50), "d": (2, 50)},
             ["{n} has {a} {items}. On Monday {he} {gain} {b}. On Tuesday {he} {lose} {c}. On Wednesday {he} {gain} "
              "{d}. How many {items} does {n} have now?",
              "{n} starts with {a} {items}, {gain} {b}, {lose} {c} and {gain} {d} again. How many {items} does {n} "
              "have in the end?"],
             [("t", "a+b", "First {n} has {eq} {items}."), ("u", "t-c", "Then {n} has {eq} {items}."),
              ("r", "u+d", "At last {n} has {eq} {items}.")]),
    skeleton("profit", {"a": (2, 10), "b": (5, 20), "c": (2, 9), "d": (2, 60)},
             ["{n} fills {a} {boxes} with {b} {items} each and sells each {item} for {c} dollars after {he} {lose} {d} "
              "{items}. How many dollars does {n} get?",
              "{n} has {a} {boxes} of {b} {items}. {He} {lose} {d} {items} and sells the rest for {c} dollars each. "
              "How many dollars does {he} get?"],
             [("t", "a*b", "There are {eq} {items}."), ("u", "t-d", "{n} sells {eq} {items}."),
              ("r", "u*c", "{n} gets {eq} dollars.")]),
    skeleton("compare-boxes", {"a": (2, 10), "b": (2, 12), "c": (2, 10), "d": (2, 12)},
             ["{n} has {a} {boxes} with {b} {items} each. {m} has {c} {boxes} with {d} {items} each. How many more "
              "{items} does {n} have than {m}?",
              "{n} fills {a} {boxes} with {b} {items} each and {m} fills {c} {boxes} with {d} {items} each. How many "
              "fewer {items} does {m} have?"],
             [("t", "a*b", "{n} has {eq} {items}."), ("u", "c*d", "{m} has {eq} {items}."),
              ("r", "t-u", "The difference is {eq} {items}.")]),
    skeleton("twice-three", {"a": (3, 60), "b": (2, 40)},
             ["{n} has {a} {items}. {m} has twice as many as {n}. {k} has {b} more than {m}. How many {items} do {m} "
              "and {k} have together?",
              "{m} has twice as many {items} as {n}, and {k} has {b} more than {m}. {n} has {a} {items}. How many do "
              "{m} and {k} have in all?"],
             [("t", "a*2", "{m} has {eq} {items}."), ("u", "t+b", "{k} has {eq} {items}."),
              ("r", "t+u", "{m} and {k} have {eq} {items}.")]),
    skeleton("save-up", {"a": (2, 12), "b": (2, 10), "c": (2, 50), "d": (40, 200)},
             ["{n} saves {a} dollars a week for {b} weeks. {He} already had {c} dollars. {He} wants to buy {items} for "
              "{d} dollars. How many dollars are missing?",
              "The {items} cost {d} dollars. {n} has {c} dollars and saves {a} dollars a week for {b} weeks. How many "
              "more dollars does {n} need?"],
             [("t", "a*b", "{n} saves {eq} dollars."), ("u", "c+t", "Then {n} has {eq} dollars."),
              ("r", "d-u", "{n} still needs {eq} dollars.")]),
    skeleton("dozen", {"a": (2, 9), "b": (2, 60), "c": (2, 6)},
             ["{n} buys {a} dozen {items}. {He} {lose} {b} of them and puts the rest into {c} {boxes} equally. "
              "How many {items} are in each {box}?",
              "There are {a} dozen {items} at the {place}. {n} {lose} {b}. The others go into {c} {boxes} equally. How "
              "many {items} does each {box} hold?"],
             [("t", "a*12", "There are {eq} {items}."), ("u", "t-b", "After that there are {eq} {items}."),
              ("r", "u/c", "Each {box} holds {eq} {items}.")]),
    skeleton("sum-times", {"a": (2, 30), "b": (2, 30), "c": (2, 9), "d": (2, 80)},
             ["Each day {n} {gain} {a} {items} and {m} {gain} {b}. After {c} days they sell {d} {items}. How many "
              "{items} do they have left?",
              "{n} {gain} {a} {items} a day and {m} {gain} {b} a day. They do so for {c} days and then give {d} "
              "{items} to {k}. How many {items} do they keep?"],
             [("t", "a+b", "Each day they have {eq} more {items}."),
              ("u", "t*c", "After {c} days that is {eq} {items}."),
              ("r", "u-d", "They have {eq} {items} left.")]),
    skeleton("rows", {"a": (2, 9), "b": (2, 9), "c": (2, 9), "d": (2, 60)},
             ["A room at the {place} has {a} rows of {b} {boxes}. Each {box} holds {c} {items}. {n} {lose} {d} "
              "{items}. How many {items} are left?",
              "{n} puts {c} {items} into each {box} and makes {a} rows of {b} {boxes}. Then {he} {lose} {d} {items}. "
              "How many {items} remain?"],
             [("t", "a*b", "There are {eq} {boxes}."), ("u", "t*c", "They hold {eq} {items}."),
              ("r", "u-d", "There are {eq} {items} left.")]),
    skeleton("half-third", {"q": (2, 30), "b": (2, 40)},
             ["{n} has {a} {items}. {He} gives half of them to {m}. {m} {gain} {b} more and then {lose} half of all. "
              "How many {items} does {m} have?",
              "{m} gets half of the {a} {items} of {n} and {gain} {b} more. Then {m} {lose} half of what is there. "
              "How many {items} does {m} have?"],
             [("t", "a/2", "{m} gets {eq} {items}."), ("u", "t+b", "Then {m} has {eq} {items}."),
              ("r", "u/2", "Half of that is {eq} {items}.")], {"a": "2*q"}),
]

SKELETONS = ONE_STEP + TWO_STEP + THREE_STEP
