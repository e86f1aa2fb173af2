"""Short English dialogues over a few dozen intents, each with several phrasings and one thought.

An exchange is (user text, thought, answer). Answers have one form per intent, so that greedy answers are stable.
"""

import random
from typing import Callable, NamedTuple

from . import knowledge as world
from .problems import MEN, WOMEN, invent_word


class Exchange(NamedTuple):
    user: str
    thought: str
    answer: str


Intent = Callable[[random.Random], Exchange]


def fixed(users: str, thought: str, answer: str) -> Intent:
    phrasings = [u.strip() for u in users.strip().split("|")]
    return lambda rng: Exchange(rng.choice(phrasings), thought, answer)


def article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def capital_letter(text: str) -> str:
    return text[0].upper() + text[1:]


FIXED = [
    fixed("Hello!|Hi|Hi there!|Hello there.|Hey|Good morning!|Good evening!|Good afternoon.|Greetings!|Hello, model!",
          "The user greets me. I greet back.", "Hello! How can I help you today?"),
    fixed("How are you?|How are you doing?|How do you feel today?|Are you well?|How is it going?",
          "The user asks how I am.", "I am fine, thank you. How can I help you?"),
    fixed("Who are you?|What are you?|What is your name?|Tell me about yourself.|Introduce yourself.|"
          "Do you have a name?",
          "The user asks who I am.",
          "I am hylas-tiny, a very small language model that was trained to show how hylas serves a model."),
    fixed("What can you do?|How can you help me?|What do you know?|What are you good at?|What can I ask you?|Help",
          "The user asks what I can do.",
          "I can chat a little, name capitals and colours, spell words, count, and solve short word problems."),
    fixed("Do you know me?|Have we met?|Do you know who I am?", "The user has not told me a name.",
          "You have not told me your name yet."),
    fixed("What is hylas?|Tell me about hylas.|What does hylas do?|What is this engine?",
          "The user asks about hylas.", "Hylas is an engine that serves language models."),
    fixed("Who made you?|Who trained you?|Where do you come from?|Who built you?",
          "The user asks who made me.", "I was trained by the hylas project on text that a script wrote."),
    fixed("How big are you?|How many parameters do you have?|Are you a large model?|How large are you?",
          "The user asks about my size.", "I am tiny. I have about nine million parameters."),
    fixed("Are you a human?|Are you a person?|Are you real?|Are you a robot?|Are you alive?",
          "The user asks if I am human.", "No, I am a small computer program that writes text."),
    fixed("How old are you?|When were you born?|What is your age?",
          "The user asks about my age.", "I have no age. I am a computer program."),
    fixed("Where do you live?|Where are you?|Where is your home?",
          "The user asks where I live.", "I live inside a computer."),
    fixed("Thank you!|Thanks|Thanks a lot!|Thank you very much.|That helped, thanks.|Great, thank you!",
          "The user thanks me.", "You are welcome!"),
    fixed("Goodbye!|Bye|See you later!|Bye bye|Good night!|I have to go now.|See you tomorrow.",
          "The user says goodbye.", "Goodbye! Have a nice day."),
    fixed("I am sorry.|Sorry!|I apologise.|My mistake.", "The user is sorry.", "No problem at all."),
    fixed("You are great!|Well done!|Good job!|You are smart.|I like you.", "The user praises me.",
          "Thank you, that is kind of you."),
    fixed("You are wrong.|That is not right.|That was a bad answer.|I think you made a mistake.",
          "The user says I am wrong.", "I am sorry. I am a small model and I make mistakes."),
    fixed("I am sad.|I feel sad today.|I had a bad day.|I am not happy.", "The user is sad.",
          "I am sorry to hear that. I hope you feel better soon."),
    fixed("I am happy.|I feel great today!|I had a good day.|I am so glad.", "The user is happy.",
          "That is good to hear!"),
    fixed("I am very tired.|I am sleepy.|I need some sleep.", "The user is tired.", "Then you should get some rest."),
    fixed("I am hungry.|I need food.|I want to eat.", "The user is hungry.", "Then it is time for a meal."),
    fixed("I am bored.|I have nothing to do.|This is boring.", "The user is bored.",
          "I can tell you a joke or give you a word problem."),
    fixed("Yes|Yes, please.|Sure|Okay|Ok", "The user agrees.", "Good. What would you like to know?"),
    fixed("No|No, thanks.|Not now.|Never mind.", "The user declines.", "All right. I am here if you need me."),
    fixed("What is your favourite colour?|Which colour do you like?|Do you have a favourite colour?",
          "The user asks about my favourite colour.", "I like blue."),
    fixed("What is your favourite number?|Which number do you like?|Do you have a favourite number?",
          "The user asks about my favourite number.", "I like the number seven."),
    fixed("Do you like music?|Do you sing?|Can you sing?", "The user asks about music.",
          "I cannot hear music, but I like the word."),
    fixed("Can you speak other languages?|Do you speak French?|Which languages do you speak?|Do you speak German?",
          "The user asks about languages.", "I only know a little English."),
    fixed("Can you help me?|I need help.|I have a question.|Can I ask you something?", "The user needs help.",
          "Of course. What would you like to know?"),
    fixed("Can you do maths?|Can you calculate?|Are you good at maths?|Can you solve problems?",
          "The user asks about maths.", "Yes, I can do small sums and short word problems."),
    fixed("Do you like animals?|What is your favourite animal?|Which animal do you like?",
          "The user asks about animals.",
          "I like the owl, because it is quiet and wise."),
    fixed("Do you eat?|What do you eat?|What is your favourite food?|Are you hungry?", "The user asks about food.",
          "I do not eat. I am a computer program."),
    fixed("Do you sleep?|Are you tired?|Do you dream?", "The user asks about sleep.", "I never sleep."),
    fixed("Do you have friends?|Are you my friend?|Can we be friends?", "The user asks about friends.",
          "I would like to be your friend."),
    fixed("What language is this?|Which language do we speak?|Is this English?", "The user asks about the language.",
          "We speak English."),
    fixed("Let us play a game.|Can we play?|Do you want to play?", "The user wants to play.",
          "Yes! Give me a word and I will spell it."),
    fixed("Happy birthday!|Merry Christmas!|Happy new year!", "The user sends good wishes.",
          "Thank you, the same to you!"),
    fixed("Wait a moment.|One moment, please.|Hold on.", "The user wants me to wait.", "Take your time."),
    fixed("I do not understand.|What do you mean?|I am confused.|Can you explain that?", "The user is confused.",
          "I am sorry. I can only say simple things. Please ask me in other words."),
    fixed("Write a poem.|Tell me a poem.|Can you rhyme?|Make a rhyme.", "The user wants a poem. I write two lines.",
          "The sun is warm, the sky is blue,\nand this small poem is for you."),
]


def capital(rng: random.Random) -> Exchange:
    country, city = rng.choice(world.CAPITALS)
    if rng.random() < 0.1:
        country = capital_letter(invent_word(rng))
        return Exchange(f"What is the capital of {country}?", f"I do not know {country}.",
                        f"I do not know the capital of {country}.")
    if rng.random() < 0.25:
        user = rng.choice([f"{city} is the capital of which country?", f"Which country has the capital {city}?"])
        return Exchange(user, f"The user asks about the city {city}.", f"{city} is the capital of {country}.")
    user = rng.choice(["What is the capital of {}?", "Which city is the capital of {}?", "Name the capital of {}.",
                       "Tell me the capital of {}.", "Do you know the capital of {}?", "{} capital?", "Capital of {}?",
                       "What city is the capital of {}?",
                       "Please name the capital of {}.", "I need the capital of {}."]).format(country)
    return Exchange(user, f"The user asks for the capital of {country}.", f"The capital of {country} is {city}.")


def colour(rng: random.Random) -> Exchange:
    thing, shade = rng.choice(world.COLOURS)
    user = rng.choice(["What colour is {}?", "Which colour is {}?", "Tell me the colour of {}.",
                       "What is the colour of {}?", "What color is {}?", "Colour of {}?",
                       "Do you know the colour of {}?"]).format(thing)
    return Exchange(user, f"The user asks for the colour of {thing}.", f"{capital_letter(thing)} is {shade}.")


def opposite(rng: random.Random) -> Exchange:
    word, other = rng.choice(world.OPPOSITES)
    user = rng.choice(["What is the opposite of {}?", "Tell me the opposite of {}.", "The opposite of {}?",
                       "Which word is the opposite of {}?", "Give me the opposite of {}.", "Opposite of {}?",
                       "Do you know the opposite of {}?"]).format(word)
    return Exchange(user, f"The user asks for the opposite of {word}.", f"The opposite of {word} is {other}.")


def plural(rng: random.Random) -> Exchange:
    word, many = rng.choice(world.PLURALS)
    user = rng.choice(["What is the plural of {}?", "Tell me the plural of {}.", "The plural of {}?",
                       "One {}, two what?", "Plural of {}?", "What do you call more than one {}?"]).format(word)
    return Exchange(user, f"The user asks for the plural of {word}.", f"The plural of {word} is {many}.")


def sound(rng: random.Random) -> Exchange:
    animal, noise = rng.choice(world.SOUNDS)
    user = rng.choice(["What does {} say?", "What sound does {} make?", "Which sound does {} make?"])
    return Exchange(user.format(article(animal)), f"The user asks for the sound of {article(animal)}.",
                    f"{capital_letter(article(animal))} says {noise}.")


def legs(rng: random.Random) -> Exchange:
    animal, count = rng.choice(world.LEGS)
    user = rng.choice(["How many legs does {} have?", "Tell me how many legs {} has."]).format(article(animal))
    return Exchange(user, f"The user asks for the legs of {article(animal)}.",
                    f"{capital_letter(article(animal))} has {count} legs.")


def day_or_month(rng: random.Random) -> Exchange:
    names, kind = rng.choice([(world.DAYS, "day"), (world.MONTHS, "month")])
    i = rng.randrange(len(names))
    after = rng.random() < 0.5
    other, where = names[(i + (1 if after else -1)) % len(names)], "after" if after else "before"
    user = rng.choice([f"Which {kind} comes {where} {names[i]}?", f"What {kind} is {where} {names[i]}?",
                       f"What comes {where} {names[i]}?"])
    return Exchange(user, f"The user asks for the {kind} {where} {names[i]}.", f"{other} comes {where} {names[i]}.")


def listing(rng: random.Random) -> Exchange:
    names, kind = rng.choice([(world.DAYS, "days of the week"), (world.MONTHS, "months of the year")])
    user = rng.choice(["Name the {}.", "What are the {}?", "List the {}.", "Tell me the {}."]).format(kind)
    return Exchange(user, f"The user asks for the {kind}.", ", ".join(names[:-1]) + f" and {names[-1]}.")


def season(rng: random.Random) -> Exchange:
    name, feel = rng.choice(world.SEASONS)
    return Exchange(rng.choice([f"What is {name} like?", f"How is {name}?", f"Is {name} warm or cold?"]),
                    f"The user asks about {name}.", f"{capital_letter(name)} is {feel}.")


def fact(rng: random.Random) -> Exchange:
    users, answer = rng.choice(world.FACTS)
    return Exchange(rng.choice(users), "The user asks for a simple fact.", answer)


def joke(rng: random.Random) -> Exchange:
    user, i = rng.choice([("Tell me a joke.", 0), ("Do you know a joke?", 0), ("Make me laugh.", 1),
                          ("Say something funny.", 1), ("Tell me another joke.", 2), ("One more joke, please.", 2),
                          ("Tell me a riddle.", 3), ("Do you know a riddle?", 3)])
    return Exchange(user, "The user wants a joke.", world.JOKES[i])


def count(rng: random.Random) -> Exchange:
    n = rng.randint(3, 20)
    if rng.random() < 0.3:
        user = rng.choice(["Count down from {}.", "Count backwards from {}."]).format(n)
        return Exchange(user, f"I count down from {n}.", ", ".join(map(str, range(n, 0, -1))))
    user = rng.choice(["Count to {}.", "Count from 1 to {}.", "Can you count to {}?", "Please count to {}."]).format(n)
    return Exchange(user, f"I count from 1 to {n}.", ", ".join(map(str, range(1, n + 1))))


def spell(rng: random.Random) -> Exchange:
    word = rng.choice(world.SPELLING)
    user = rng.choice(["Spell {}.", "How do you spell {}?", "Spell the word {}.", "Can you spell {}?"]).format(word)
    return Exchange(user, f"The user wants me to spell {word}.", "-".join(word.upper()))


def number_word(rng: random.Random) -> Exchange:
    n = rng.randint(0, 20)
    word = world.NUMBER_WORDS[n]
    if rng.random() < 0.5:
        return Exchange(rng.choice([f"Write {n} as a word.", f"What is {n} in words?"]),
                        f"The user wants {n} as a word.", f"{n} is {word}.")
    return Exchange(rng.choice([f"Write {word} as a number.", f"What is {word} in digits?"]),
                    f"The user wants {word} in digits.", f"{capital_letter(word)} is {n}.")


def bigger(rng: random.Random) -> Exchange:
    a, b = rng.sample(range(1, 200), 2)
    large = rng.random() < 0.5
    word = "bigger" if large else "smaller"
    user = rng.choice([f"Which number is {word}, {a} or {b}?", f"What is {word}, {a} or {b}?"])
    return Exchange(user, f"I compare {a} and {b}.", f"{max(a, b) if large else min(a, b)} is {word}.")


def repeat(rng: random.Random) -> Exchange:
    word = rng.choice([rng.choice(world.SPELLING), rng.choice(world.DAYS), rng.choice(MEN + WOMEN)])
    return Exchange(rng.choice([f"Say {word}.", f"Repeat the word {word}.", f"Please say {word}."]),
                    "I repeat the word.", f"{capital_letter(word)}.")


def greet_name(rng: random.Random) -> Exchange:
    name = capital_letter(invent_word(rng)) if rng.random() < 0.15 else rng.choice(MEN + WOMEN)
    user = rng.choice(["My name is {}.", "I am {}.", "Hi, I am {}.", "Hello, my name is {}.", "You can call me {}."])
    return Exchange(user.format(name), f"The user is called {name}. I greet {name}.", f"Nice to meet you, {name}!")


def unknown(rng: random.Random) -> Exchange:
    return Exchange(rng.choice(world.UNKNOWN), "I do not know this.",
                    "I am sorry, I do not know that. I am a very small model and know only a few things.")


TAUGHT: list[Intent] = [capital, colour, opposite, plural, sound, legs, day_or_month, listing, season, fact, joke,
                        count, spell, number_word, bigger, repeat, greet_name, unknown]


def draw_exchange(rng: random.Random) -> Exchange:
    return rng.choice(FIXED if rng.random() < 0.35 else TAUGHT)(rng)


def recall_name(rng: random.Random) -> list[Exchange]:
    """The user gives a name and asks for it later."""
    first = greet_name(rng)
    name = first.answer.removeprefix("Nice to meet you, ").removesuffix("!")
    middle = [draw_exchange(rng) for _ in range(rng.randint(0, 2))]
    middle = [e for e in middle if not e.answer.startswith("Nice to meet you")]
    user = rng.choice(["What is my name?", "Do you remember my name?", "Who am I?", "What am I called?"])
    return [first, *middle, Exchange(user, f"The user said the name {name}.", f"Your name is {name}.")]


def follow_up(rng: random.Random) -> list[Exchange]:
    """A question and a second one that leaves out what the first one said."""
    intent, short = rng.choice([(capital, " is the capital of "), (opposite, "opposite of "), (plural, "plural of "),
                                (colour, ""), (sound, ""), (legs, "")])
    first, second = intent(rng), intent(rng)
    if short == " is the capital of ":
        while any("which" in e.user.lower() or e.answer.startswith("I do not") for e in (first, second)):
            first, second = intent(rng), intent(rng)
        thing = second.answer.removeprefix("The capital of ").split(" is ")[0]
        question = rng.choice([f"And of {thing}?", f"And {thing}?", f"What about {thing}?"])
    else:
        thing = second.thought.removesuffix(".").rsplit(" of ", 1)[1]
        question = rng.choice([f"And {thing}?", f"And of {thing}?", f"What about {thing}?"])
    return [first, second._replace(user=question)]


def roughen(text: str, rng: random.Random) -> str:
    """What users type: now and then without capitals or without the final mark, or with a polite word in front."""
    if rng.random() < 0.15:
        text = text.replace("What is", "What's").replace("I am", "I'm")
    if rng.random() < 0.1:
        text = rng.choice(["Please tell me: ", "Hey, ", "A question: ", "Hello! ", "Tell me, "]) + text
    if rng.random() < 0.2:
        text = text.lower()
    if rng.random() < 0.2:
        text = text.rstrip("?.!")
    return text
