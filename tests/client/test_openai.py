"""The official OpenAI client against a running server. The weights are random: what is tested is form, determinism, and
that whole and streamed answers agree."""
import json

import openai
import pytest

NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
HELLO = [{"role": "user", "content": "Hello, who are you?"}]
TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city",
    "parameters": {"type": "object", "required": ["city", "days"], "additionalProperties": False, "properties": {
        "city": {"type": "string", "enum": ["Paris", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}}}}},
    {"type": "function", "function": {
        "name": "get_time",
        "parameters": {"type": "object", "required": ["zone"], "additionalProperties": False,
                       "properties": {"zone": {"type": "string", "enum": ["utc", "local"]}}}}}]


def chat(client, **fields):
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 12, "temperature": 0, "extra_body": NO_THINKING, **fields}
    return client.chat.completions.create(**body)


def joined(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def test_chat(client):
    answer = chat(client)
    assert answer.object == "chat.completion" and answer.model == "tiny"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 1 <= answer.usage.completion_tokens <= 12


def test_greedy_chat_is_deterministic_and_streams_the_same(client):
    whole = chat(client)
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert joined(chunks) == whole.choices[0].message.content == chat(client).choices[0].message.content
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_thinking_goes_to_reasoning_content(client):
    answer = chat(client, extra_body={})
    assert answer.choices[0].message.reasoning_content  # random weights never close the thought
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0
    chunks = list(chat(client, extra_body={}, stream=True))
    streamed = "".join(getattr(c.choices[0].delta, "reasoning_content", None) or "" for c in chunks)
    assert streamed.strip() == answer.choices[0].message.reasoning_content.strip()


def test_seeds(client):
    def sample(seed):
        return chat(client, temperature=1.0, seed=seed).choices[0].message.content

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(4)}) > 1


def test_copies(client):
    answer = chat(client, n=3, temperature=1.0, seed=5)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    alone = [chat(client, temperature=1.0, seed=seed).choices[0].message.content for seed in (5, 6, 7)]
    assert [choice.message.content for choice in answer.choices] == alone


def test_stop_string(client):
    text = chat(client, max_tokens=32).choices[0].message.content
    stop = text[len(text) // 2:len(text) // 2 + 2]
    answer = chat(client, max_tokens=32, stop=[stop]).choices[0]
    assert answer.finish_reason == "stop" and answer.matched_stop == stop
    assert answer.message.content == text[:text.index(stop)]


def test_logprobs(client):
    answer = chat(client, logprobs=True, top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token  # greedy takes the best
        assert [t.logprob for t in token.top_logprobs] == sorted((t.logprob for t in token.top_logprobs), reverse=True)
    streamed = [t for c in chat(client, logprobs=True, top_logprobs=3, stream=True) if c.choices and c.choices[0].logprobs
                for t in c.choices[0].logprobs.content]
    assert streamed == tokens


def test_logit_bias_forces_a_token(server, client):
    token = server.post_json("/tokenize", {"prompt": "a"})["tokens"][0]
    answer = chat(client, max_tokens=4, logit_bias={str(token): 100})
    assert answer.choices[0].message.content == "aaaa"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_forced_calls_are_valid(client, choice, seed):
    fields = dict(tools=TOOLS, tool_choice=choice, max_tokens=400, temperature=1.0, seed=seed, parallel_tool_calls=False)
    answer = chat(client, **fields).choices[0]
    assert answer.finish_reason == "tool_calls"
    [call] = answer.message.tool_calls
    arguments = json.loads(call.function.arguments)
    if choice != "required":
        assert call.function.name == "get_weather"
    if call.function.name == "get_weather":
        assert arguments["city"] in ("Paris", "Oslo") and 1 <= arguments["days"] <= 9
    else:
        assert arguments["zone"] in ("utc", "local")

    name, pieces = None, ""
    for chunk in chat(client, **fields, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            if delta.function.name:
                assert name is None and pieces == ""
                name = delta.function.name
            pieces += delta.function.arguments or ""
    assert (name, json.loads(pieces)) == (call.function.name, arguments)


def test_json_schema(client):
    schema = {"type": "object", "required": ["name", "age"], "additionalProperties": False,
              "properties": {"name": {"type": "string", "maxLength": 6}, "age": {"type": "integer", "minimum": 0, "maximum": 99}}}
    for seed in range(3):
        answer = chat(client, max_tokens=300, temperature=1.0, seed=seed, response_format={
            "type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}})
        assert answer.choices[0].finish_reason == "stop"
        person = json.loads(answer.choices[0].message.content)
        assert set(person) == {"name", "age"} and 0 <= person["age"] <= 99


def test_regex(client):
    answer = chat(client, temperature=1.0, seed=3, extra_body={**NO_THINKING, "regex": "(yes|no), [0-9]{3}"})
    word, number = answer.choices[0].message.content.split(", ")
    assert word in ("yes", "no") and number.isdigit() and len(number) == 3


def test_completions(client):
    fields = dict(model="tiny", prompt="Once upon a time", max_tokens=8, temperature=0)
    whole = client.completions.create(**fields)
    assert whole.object == "text_completion"
    assert "".join(c.choices[0].text for c in client.completions.create(**fields, stream=True)) == whole.choices[0].text
    both = client.completions.create(**{**fields, "prompt": ["Once upon a time", "The end"]})
    assert both.choices[0].text == whole.choices[0].text and len(both.choices) == 2
    echoed = client.completions.create(**fields, echo=True, logprobs=1)
    assert echoed.choices[0].text == "Once upon a time" + whole.choices[0].text
    logprobs = echoed.choices[0].logprobs
    assert logprobs.token_logprobs[0] is None and all(p <= 0 for p in logprobs.token_logprobs[1:])
    assert len(logprobs.tokens) == echoed.usage.total_tokens


def test_models(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


@pytest.mark.parametrize("fields, message", [
    ({"messages": []}, "`messages` is empty"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "`messages[0].role`"),
    ({"max_tokens": 0}, "`max_tokens`"),
    ({"temperature": -1}, "`temperature`"),
    ({"tool_choice": "required"}, "`tool_choice`"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]},
     "text parts only"),
    ({"extra_body": {"lora_path": "x"}}, "`lora_path` is not supported"),
    ({"messages": [{"role": "user", "content": "word " * 5000}]}, "the context of 2048 tokens"),
])
def test_errors(client, fields, message):
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, **fields)
    assert message in refused.value.body["message"]
