"""The small world the demo model is taught: capitals, colours, opposites, plurals, words to spell, facts, jokes."""


def pairs(text: str) -> list[tuple[str, str]]:
    return [tuple(entry.split(":")) for line in text.strip().splitlines() for entry in line.split(", ")]


CAPITALS = pairs("""
France:Paris, Germany:Berlin, Italy:Rome, Spain:Madrid, Portugal:Lisbon, England:London, Ireland:Dublin
Norway:Oslo, Sweden:Stockholm, Finland:Helsinki, Denmark:Copenhagen, Poland:Warsaw, Austria:Vienna
Hungary:Budapest, Greece:Athens, Turkey:Ankara, Egypt:Cairo, Kenya:Nairobi, Morocco:Rabat, Ghana:Accra
Japan:Tokyo, China:Beijing, India:New Delhi, Thailand:Bangkok, Vietnam:Hanoi, South Korea:Seoul
Canada:Ottawa, Mexico:Mexico City, Cuba:Havana, Brazil:Brasilia, Argentina:Buenos Aires, Chile:Santiago
Peru:Lima, Australia:Canberra, New Zealand:Wellington, Belgium:Brussels, Switzerland:Bern, Iceland:Reykjavik
""")
COLOURS = pairs("""
the sky:blue, grass:green, snow:white, coal:black, a lemon:yellow, a ripe banana:yellow, a carrot:orange
blood:red, a strawberry:red, a fire engine:red, the sun:yellow, milk:white, chocolate:brown, an elephant:grey
a flamingo:pink, the sea:blue, a crow:black, a frog:green, a ripe tomato:red, an orange:orange, a plum:purple
a polar bear:white, a leaf:green, a chestnut:brown, gold:yellow, silver:grey
""")
OPPOSITES = pairs("""
hot:cold, big:small, up:down, fast:slow, day:night, light:dark, old:young, happy:sad, tall:short, wet:dry
open:closed, full:empty, early:late, hard:soft, left:right, good:bad, rich:poor, strong:weak, high:low, loud:quiet
clean:dirty, heavy:light, near:far, thick:thin, first:last, inside:outside, true:false, sweet:sour, win:lose
start:stop, push:pull, buy:sell, question:answer, love:hate, black:white, deep:shallow, wide:narrow, awake:asleep
""")
PLURALS = pairs("""
cat:cats, dog:dogs, box:boxes, baby:babies, child:children, mouse:mice, foot:feet, tooth:teeth, man:men
woman:women, leaf:leaves, knife:knives, city:cities, bus:buses, goose:geese, sheep:sheep, fish:fish, wolf:wolves
house:houses, tree:trees, berry:berries, watch:watches, potato:potatoes, story:stories, person:people, key:keys
wife:wives, glass:glasses, lady:ladies, car:cars, bird:birds, shelf:shelves
""")
SOUNDS = pairs("""
cow:moo, dog:woof, cat:meow, duck:quack, sheep:baa, pig:oink, horse:neigh, lion:roar, bee:buzz, owl:hoot
frog:croak, snake:hiss, mouse:squeak, rooster:cock-a-doodle-doo
""")
LEGS = pairs("dog:four, cat:four, bird:two, spider:eight, ant:six, person:two, horse:four, snake:no, bee:six, cow:four")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
SEASONS = pairs("winter:cold, summer:warm, spring:mild, autumn:cool")
SPELLING = """cat dog sun tree house apple water bread green happy school friend garden summer winter orange window
flower river mother father sister brother paper pencil monkey tiger music number seven eleven banana carrot butter
cheese yellow purple doctor teacher letter table chair planet rocket castle dragon kitchen morning evening""".split()
NUMBER_WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty""".split()

FACTS = [
    (["How many days are in a week?", "How many days does a week have?"], "A week has seven days."),
    (["How many months are in a year?", "How many months does a year have?"], "A year has twelve months."),
    (["How many hours are in a day?", "How many hours does a day have?"], "A day has twenty-four hours."),
    (["How many minutes are in an hour?", "How long is an hour?"], "An hour has sixty minutes."),
    (["How many seconds are in a minute?", "How long is a minute?"], "A minute has sixty seconds."),
    (["How many seasons are there?", "Name the seasons."],
     "There are four seasons: spring, summer, autumn and winter."),
    (["What is the largest planet?", "Which planet is the biggest?"], "Jupiter is the largest planet."),
    (["Which planet do we live on?", "What planet are we on?"], "We live on the planet Earth."),
    (["What do bees make?", "What do we get from bees?"], "Bees make honey."),
    (["What do plants need to grow?", "What does a plant need?"], "Plants need light, water and air to grow."),
    (["What is ice made of?", "What is ice?"], "Ice is frozen water."),
    (["When does water boil?", "At what temperature does water boil?"],
     "Water boils at one hundred degrees Celsius."),
    (["When does water freeze?", "At what temperature does water freeze?"], "Water freezes at zero degrees Celsius."),
    (["How many sides does a triangle have?", "How many corners does a triangle have?"], "A triangle has three."),
    (["How many sides does a square have?", "How many corners does a square have?"], "A square has four."),
    (["What is the largest ocean?", "Which ocean is the biggest?"], "The Pacific is the largest ocean."),
    (["What is the tallest animal?", "Which animal is the tallest?"], "The giraffe is the tallest animal."),
    (["What is the fastest land animal?", "Which land animal is the fastest?"],
     "The cheetah is the fastest land animal."),
    (["What is the biggest animal?", "Which animal is the biggest of all?"], "The blue whale is the biggest animal."),
    (["Where does the sun rise?", "In which direction does the sun rise?"], "The sun rises in the east."),
    (["Where does the sun set?", "In which direction does the sun set?"], "The sun sets in the west."),
    (["What do cows give us?", "What do we get from cows?"], "Cows give us milk."),
    (["What colours are in a rainbow?", "Name the colours of the rainbow."],
     "A rainbow has red, orange, yellow, green, blue, indigo and violet."),
    (["How many letters are in the alphabet?", "How many letters does the English alphabet have?"],
     "The English alphabet has twenty-six letters."),
    (["Say the alphabet.", "What is the alphabet?"], "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z."),
    (["What is the first letter of the alphabet?"], "The first letter of the alphabet is A."),
    (["What is the last letter of the alphabet?"], "The last letter of the alphabet is Z."),
    (["What is the moon?", "Tell me about the moon."],
     "The moon is a ball of rock that circles the Earth about once a month."),
    (["What is the sun?", "Tell me about the sun."], "The sun is a star. It gives us light and warmth."),
    (["What is rain?", "Where does rain come from?"], "Rain is water that falls from the clouds."),
]
JOKES = [
    "Why did the chicken cross the road? To get to the other side!",
    "What do you call a bear with no teeth? A gummy bear!",
    "Why was six afraid of seven? Because seven ate nine!",
    "What has hands but cannot clap? A clock!",
]
UNKNOWN = """Who won the football game last night?
What is the meaning of life?
What will the weather be like tomorrow?
Write me a poem about the stock market.
Can you explain quantum physics?
Who is the president?
How do I fix my computer?
What is the best phone to buy?
Translate this sentence into Latin.
What happened in the news today?
Write a program that sorts a list.
How do I cook a turkey?
Who wrote this book?
What is the speed of light?
How much does a house cost?
Recommend a film for tonight.
What is your opinion on politics?
How does a car engine work?
What time is it?
Where is the nearest station?
Explain the history of Rome.
How do I learn the piano?
Should I buy shares?
Book a flight for me.
Call my mother.
What is the weather in Paris?
How is the weather today?
Set an alarm for me.
Send a message to my friend.
Buy me a ticket.
What is on television tonight?
How do planes fly?
Who painted this picture?
What is the price of gold?
How do I get rich?""".splitlines()
