"""Prefill and decode on different instances behind the router: the same texts, whatever dies."""
import json
import os
import shutil
import signal
import threading
import time

import openai
import pytest
from disaggregated import Load, Pair, expected_texts, generate
from prometheus_client.parser import text_string_to_metric_families

LAYOUTS = (["--pp-size", 2, "--tp-size", 2], ["--tp-size", 2, "--dp-size", 2, "--enable-dp-attention"])


@pytest.fixture(scope="module")
def expected(server):
    return expected_texts(server)


@pytest.fixture(scope="module")
def pair():
    parsers = ["--reasoning-parser", "qwen3", "--tool-call-parser", "qwen3_coder", "--served-model-name", "tiny"]
    with Pair(prefill_arguments=[*LAYOUTS[0], *parsers], decode_arguments=[*LAYOUTS[1], *parsers, "--enable-metrics"]) as running:
        yield running


def test_the_texts_are_one_instances(pair, expected):
    Load(pair.port, expected, count=60).finish()


def test_the_openai_client_sees_no_difference(pair, client):
    other = openai.OpenAI(base_url=pair.url + "/v1", api_key="none", max_retries=0, timeout=60)
    fields = {"model": "tiny", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 24,
              "temperature": 0.7, "seed": 5, "logprobs": True, "top_logprobs": 2, "n": 2, "frequency_penalty": 0.5}
    plain, disaggregated = (one.chat.completions.create(**fields).model_dump() for one in (client, other))
    assert plain["choices"] == disaggregated["choices"] and plain["usage"] == disaggregated["usage"]
    streamed = ["".join(chunk.choices[0].delta.content or "" for chunk in one.chat.completions.create(
        **{**fields, "n": 1, "stream": True}) if chunk.choices) for one in (client, other)]
    assert streamed[0] == streamed[1]
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {
        "type": "object", "properties": {"a": {"enum": ["b", "c"]}}, "required": ["a"], "additionalProperties": False}}}
    constrained = [one.chat.completions.create(**{**fields, "n": 1, "logprobs": None, "top_logprobs": None}, response_format=schema,
                                               extra_body={"chat_template_kwargs": {"enable_thinking": False}}
                                               ).choices[0].message.content for one in (client, other)]
    assert constrained[0] == constrained[1] and json.loads(constrained[0])["a"] in ("b", "c")
    with pytest.raises(openai.BadRequestError, match="top_p"):
        other.chat.completions.create(**{**fields, "top_p": 7})


def test_an_instance_of_a_pair_refuses_clients_that_come_past_the_router(pair):
    for instance, word in ((pair.prefills[0], "prefills"), (pair.decodes[0], "decodes")):
        status, text = instance.server.post("/generate", {"text": "Hello"})
        assert status == 400 and word in text and "router" in text


def test_metrics_name_the_transfers(pair):
    metrics = {family.name for family in text_string_to_metric_families(pair.decodes[0].server.get("/metrics")[1])}
    assert "hylas:num_transferring_reqs" in metrics


FAULTS = {
    "kill-prefill": lambda pair: pair.prefills[0].kill(),
    "kill-decode": lambda pair: pair.decodes[0].kill(),
    "stop-prefill": lambda pair: pause(pair.prefills[0]),
    "stop-decode": lambda pair: pause(pair.decodes[0]),
}


def pause(instance, seconds=10):
    instance.server.process.send_signal(signal.SIGSTOP)
    threading.Timer(seconds, lambda: instance.server.process.send_signal(signal.SIGCONT)).start()


@pytest.mark.parametrize("transports", ["tcp", "shm,tcp"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_under_load_loses_no_text(expected, fault, transports):
    with Pair(prefills=2, decodes=2, transports=transports) as pair:
        load = Load(pair.port, expected)
        load.wait_for(30)
        assert all(one.maps_states() == ("shm" in transports) for one in pair.instances())
        FAULTS[fault](pair)
        load.finish()
        if fault.startswith("stop"):
            time.sleep(10.5)  # it is awake again, and parts with what it held


@pytest.mark.skipif(shutil.which("ss") is None or os.geteuid() != 0, reason="cutting connections needs ss and root")
def test_a_link_that_is_cut_under_load_loses_no_text(expected):
    with Pair(prefills=2, decodes=2, transports="tcp") as pair:
        load = Load(pair.port, expected)
        for requests in (30, 60, 90):
            load.wait_for(requests)
            assert pair.prefills[0].cut_link()
        load.finish()


def test_a_replacement_serves(expected):
    with Pair() as pair:  # nobody else could answer
        for instance in (pair.prefills[0], pair.decodes[0]):
            load = Load(pair.port, expected, count=40)
            load.wait_for(10)
            instance.kill()
            began = time.monotonic()
            instance.start()
            pair.wait_until_ready()
            print(f"a new {instance.role} instance served after {time.monotonic() - began:.2f} s")
            prompt, wanted = expected[0]
            assert generate(pair, prompt, len(wanted))["output_ids"] == wanted
            load.finish()


def test_clients_that_leave_at_random_leave_nothing_behind(expected):
    with Pair(prefills=2, decodes=2) as pair:
        Load(pair.port, expected, leave=0.4).finish()


def test_a_decoding_instance_short_of_memory_makes_requests_wait(expected):
    small = ["--max-total-tokens", 768, "--max-running-requests", 4, "--page-size", 16]
    with Pair(prefill_arguments=["--page-size", 16], decode_arguments=small) as pair:
        Load(pair.port, expected, count=100).finish()


def test_nobody_joins_without_the_secret(expected):
    with Pair(prefills=2) as pair:
        stranger = pair.prefills[0]
        stranger.kill()
        stranger.environment = {**stranger.environment, "HYLAS_DISAGGREGATION_SECRET": "another"}
        stranger.start()
        Load(pair.port, expected, count=40).finish()
