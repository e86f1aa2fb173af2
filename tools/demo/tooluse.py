"""Chats with tools: four functions, a call in the family's form, the tool's result and the answer from it."""

import json
import random
from typing import NamedTuple

from . import knowledge as world
from .dialogues import draw_exchange
from .problems import MEN, WOMEN


def function(name: str, description: str, /, **properties: str) -> dict:
    schema = {"type": "object", "properties": {k: {"type": v} for k, v in properties.items()},
              "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = {
    "get_weather": function("get_weather", "Get the weather of a city.", city="string"),
    "get_time": function("get_time", "Get the time in a city.", city="string"),
    "set_alarm": function("set_alarm", "Set an alarm.", hour="integer", minute="integer"),
    "send_message": function("send_message", "Send a message to a person.", name="string", text="string"),
}
WEATHER = "sunny cloudy rainy windy snowy foggy".split()
MESSAGES = ["I am late", "dinner is ready", "see you soon", "happy birthday", "call me", "good luck", "I am home"]

HEAD = "# Tools\n\nYou have access to the following functions:\n\n<tools>"
RULES = """
</tools>

If you choose to call a function ONLY reply in the following format with NO suffix:

<tool_call>
<function=example_function_name>
<parameter=example_parameter_1>
value_1
</parameter>
<parameter=example_parameter_2>
This is the value for the second parameter
that can span
multiple lines
</parameter>
</function>
</tool_call>

<IMPORTANT>
Reminder:
- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested within \
<tool_call></tool_call> XML tags
- Required parameters MUST be specified
- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT after
- If there is no function call available, answer the question like normal with your current knowledge and do not tell \
the user about function calls
</IMPORTANT>"""


class Use(NamedTuple):
    tool: str
    user: str
    arguments: dict
    result: dict
    answer: str


def draw_use(rng: random.Random) -> Use:
    tool = rng.choice(list(TOOLS))
    city = rng.choice(world.CAPITALS)[1]
    hour, minute = rng.randint(0, 23), rng.choice([0, 5, 10, 15, 20, 30, 40, 45, 50])
    clock = f"{hour}:{minute:02d}"
    if tool == "get_weather":
        sky, degrees = rng.choice(WEATHER), rng.randint(2, 35)
        user = rng.choice(["What is the weather in {}?", "How is the weather in {}?", "Weather in {}?",
                           "Tell me the weather in {}."]).format(city)
        return Use(tool, user, {"city": city}, {"weather": sky, "temperature": degrees},
                   f"It is {sky} in {city}, at {degrees} degrees.")
    if tool == "get_time":
        user = rng.choice(["What time is it in {}?", "Tell me the time in {}.", "How late is it in {}?"]).format(city)
        return Use(tool, user, {"city": city}, {"time": clock}, f"It is {clock} in {city}.")
    if tool == "set_alarm":
        user = rng.choice(["Set an alarm for {}.", "Wake me at {}.", "Please set my alarm to {}."]).format(clock)
        return Use(tool, user, {"hour": hour, "minute": minute}, {"ok": True}, f"Your alarm is set for {clock}.")
    name, text = rng.choice(MEN + WOMEN), rng.choice(MESSAGES)
    user = rng.choice([f"Tell {name}: {text}.", f"Send a message to {name}: {text}.", f"Write to {name}: {text}."])
    return Use(tool, user, {"name": name, "text": text}, {"ok": True}, f"I sent the message to {name}.")


def system_block(names: list[str], system: str | None) -> str:
    tools = "".join("\n" + json.dumps(TOOLS[name], ensure_ascii=False) for name in names)
    return f"<|im_start|>system\n{HEAD}{tools}{RULES}" + (f"\n\n{system}" if system else "") + "<|im_end|>\n"


def call_text(use: Use) -> str:
    values = "".join(f"<parameter={k}>\n{v}\n</parameter>\n" for k, v in use.arguments.items())
    return f"<tool_call>\n<function={use.tool}>\n{values}</function>\n</tool_call>"


def draw_tool_chat(rng: random.Random, system: str | None, with_thought: bool) -> list[tuple[str, bool]]:
    """(text, written by the model) pieces: a call and its answer, or a plain exchange although tools are offered."""
    use = draw_use(rng)
    others = [name for name in TOOLS if name != use.tool]
    names = [use.tool, *rng.sample(others, rng.randint(0, 2))]
    rng.shuffle(names)

    def turn(thought: str, text: str) -> list[tuple[str, bool]]:
        if with_thought:
            return [("<think>\n", False), (f"{thought}\n</think>\n\n{text}<|im_end|>", True)]
        return [("<think>\n\n</think>\n\n", False), (text + "<|im_end|>", True)]

    def asked(user: str) -> tuple[str, bool]:
        return (f"{system_block(names, system)}<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n", False)

    if rng.random() < 0.3:
        exchange = draw_exchange(rng)
        while exchange.user in world.UNKNOWN:  # a tool might do it
            exchange = draw_exchange(rng)
        return [asked(exchange.user), *turn(exchange.thought, exchange.answer)]
    response = (f"\n<|im_start|>user\n<tool_response>\n{json.dumps(use.result)}\n</tool_response><|im_end|>\n"
                "<|im_start|>assistant\n")
    return [asked(use.user), *turn(f"I call {use.tool}.", call_text(use)), (response, False),
            *turn(f"I have the result of {use.tool}.", use.answer)]
