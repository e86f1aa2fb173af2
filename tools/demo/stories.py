"""Very short stories about an animal and a thing: six sentences, each from a few forms."""

import random

from .dialogues import Exchange, article

ANIMALS = "fox cat dog bear mouse rabbit duck owl pig frog horse hedgehog squirrel goat lamb turtle".split()
TRAITS = "small brave kind clever shy merry old curious".split()
NAMES = "Pip Momo Bella Rufus Tilly Bruno Lola Max Nibbles Otto Pepper Rosie Sunny Toby Willow Ziggy".split()
HOMES = ["in a green forest", "on a quiet farm", "near a blue lake", "under an old oak tree", "in a warm barn",
         "behind a little house", "on top of a hill", "by the river"]
THINGS = ["a red ball", "a shiny key", "a lost hat", "a golden coin", "a sweet apple", "a tiny bell", "a letter",
          "a paper boat", "a silver spoon", "a big drum"]
FRIENDS = ["a bird", "a snail", "a bee", "a little girl", "a farmer", "a wise old owl", "a butterfly", "a fish"]


def story(rng: random.Random, animal: str) -> str:
    name, trait, home = rng.choice(NAMES), rng.choice(TRAITS), rng.choice(HOMES)
    thing, friend = rng.choice(THINGS), rng.choice(FRIENDS)
    the_thing = "the " + thing.split(" ", 1)[1]
    the_friend = "the " + friend.split(" ", 1)[1]
    sentences = [
        rng.choice([f"Once upon a time there was {article(trait)} {animal} called {name}.",
                    f"There once lived {article(trait)} {animal}. Its name was {name}."]),
        rng.choice([f"{name} lived {home}.", f"The home of {name} was {home}."]),
        rng.choice([f"One day {name} found {thing}.", f"One morning {name} saw {thing} in the grass.",
                    f"On a rainy day {name} came upon {thing}."]),
        rng.choice([f"{name} did not know what to do with it, so {name} asked {friend}.",
                    f"Then {friend} came by and asked to see it.",
                    f"{name} took {the_thing} to {friend}."]),
        rng.choice([f"\"Let us share {the_thing},\" said {name}, and {the_friend} was very happy.",
                    f"\"I lost {the_thing},\" said {the_friend}, and {name} gave it back at once.",
                    f"Together they played with {the_thing} all day long."]),
        rng.choice(["When the moon came out they went home and slept.", "From that day on they were good friends.",
                    f"That night {name} had a lovely dream."]),
    ]
    return " ".join(sentences)


def draw_story(rng: random.Random) -> Exchange:
    animal = rng.choice(ANIMALS)
    user = rng.choice(["Tell me a story about {}.", "Write a short story about {}.", "A story about {}, please.",
                       "Can you tell me a story about {}?"]).format(article(animal))
    return Exchange(user, f"The user wants a story about {article(animal)}.", story(rng, animal))
