"""Everything around generation: native routes, bad input, metrics, starting and stopping."""
import concurrent.futures
import http.client
import json
import signal
import socket
import threading
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from server import MODEL, Server, run


def generate(server, **fields):
    return server.post_json("/generate", {"text": "Hello", "sampling_params": {"temperature": 0, "max_new_tokens": 8}, **fields})


def sse(server, path, body):
    status, text = server.post(path, {**body, "stream": True})
    assert status == 200, text
    events = [line.removeprefix("data: ") for line in text.split("\n") if line]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


def test_generate(server):
    answer = generate(server)
    meta = answer["meta_info"]
    assert meta["completion_tokens"] == len(answer["output_ids"]) <= 8
    assert meta["finish_reason"]["type"] in ("stop", "length")
    ids = server.post_json("/tokenize", {"prompt": "Hello"})["tokens"]
    assert meta["prompt_tokens"] == len(ids)
    assert server.post_json("/generate", {"input_ids": ids, "sampling_params": {"temperature": 0, "max_new_tokens": 8}})[
        "output_ids"] == answer["output_ids"]


def test_generate_batch_and_stream(server):
    alone = generate(server)
    batch = generate(server, text=["Hello", "Goodbye", "Hello"])
    assert batch[0]["output_ids"] == batch[2]["output_ids"] == alone["output_ids"]
    events = sse(server, "/generate", {"text": "Hello", "sampling_params": {"temperature": 0, "max_new_tokens": 8}})
    assert events[-1]["text"] == alone["text"] and events[-1]["output_ids"] == alone["output_ids"]


def test_generate_logprobs(server):
    meta = generate(server, return_logprob=True, logprob_start_len=0, top_logprobs_num=2)["meta_info"]
    assert len(meta["input_token_logprobs"]) == meta["prompt_tokens"] and meta["input_token_logprobs"][0][0] is None
    assert all(len(entry) == 3 for entry in meta["output_token_logprobs"])
    assert all(len(top) == 2 for top in meta["output_top_logprobs"])


def test_abort_request(server):
    body = {"text": "Hello", "rid": "long", "sampling_params": {"max_new_tokens": 2000, "ignore_eos": True, "temperature": 1}}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(server.post_json, "/generate", body)
        while server.stats()["running_requests"] == 0 and not running.done():
            time.sleep(0.005)
        assert server.post("/abort_request", {"rid": "long"})[0] == 200
        meta = running.result()["meta_info"]
    assert meta["finish_reason"]["type"] in ("abort", "length")  # length: it was faster than the abort
    assert server.wait_until_idle()["slots_used"] == 0


def test_tokenize_and_back(server):
    text = "Größe 大小 🙂 <|im_start|>"
    tokens = server.post_json("/tokenize", {"prompt": text})
    assert tokens["count"] == len(tokens["tokens"])
    assert server.post_json("/detokenize", {"tokens": tokens["tokens"], "skip_special_tokens": False})["text"] == text


@pytest.mark.parametrize("path", ["/health", "/health_generate", "/model_info", "/get_model_info", "/server_info",
                                  "/get_server_info", "/flush_cache", "/v1/models", "/metrics"])
def test_get(server, path):
    assert server.get(path)[0] == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/generate", "/tokenize", "/detokenize",
                                  "/abort_request"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b'{"a": \xff\xfe}', b"[" * 100_000, b'{"a":' * 100_000,
                                  b'{"messages": {"role": 1}, "prompt": {}, "text": {}, "tokens": {}, "rid": []}'])
def test_bad_bodies(server, path, body):
    status, text = server.post(path, body)
    assert status == 400, text
    assert set(json.loads(text)["error"]) == {"message", "type", "param", "code"}


def test_a_bad_grammar_hurts_nobody(server):
    for field, grammar in [("regex", "(unclosed"), ("ebnf", "root ::= missing"), ("json_schema", '{"type": "nonsense"}')]:
        status, text = server.post("/generate", {"text": "x", "sampling_params": {field: grammar}})
        assert status == 400, (field, text)
    assert server.get("/health_generate")[0] == 200


def test_malformed_http(server):
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"\x00\x01 nonsense\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 400")
    assert server.get("/health")[0] == 200


def test_metrics(server):
    generate(server)
    families = {family.name: family for family in text_string_to_metric_families(server.get("/metrics")[1])}
    for name in ["num_running_reqs", "num_queue_reqs", "token_usage", "max_total_num_tokens", "prompt_tokens",
                 "generation_tokens", "num_requests", "time_to_first_token_seconds", "inter_token_latency_seconds",
                 "e2e_request_latency_seconds"]:
        assert f"hylas:{name}" in families, sorted(families)
    for sample in families["hylas:num_running_reqs"].samples:
        assert sample.labels == {"model_name": "tiny", "engine_type": "unified"}
    assert families["hylas:generation_tokens"].samples[0].value > 0


def drop_after(server, body, bytes_read):
    """Sends a request and hangs up after some bytes of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", "/generate", json.dumps(body))
        if bytes_read:
            connection.getresponse().read(bytes_read)
    finally:
        connection.close()


def test_soak(server):
    """2,000 mixed requests, a third of them cut off by their clients; nothing stays behind."""
    before = server.stats()["requests_total"]

    def one(i):
        tokens = 1 + i * 7 % 24
        params = {"max_new_tokens": tokens, "temperature": i % 3 / 2, "sampling_seed": i, "ignore_eos": i % 2 == 0}
        body = {"text": "word " * (1 + i * 13 % 90), "sampling_params": params, "stream": i % 4 == 0}
        if i % 3 == 0:
            params["max_new_tokens"] = 400
            return drop_after(server, {**body, "stream": True}, 0 if i % 2 else 40 + i % 200)
        status, text = server.post("/generate", body)
        assert status == 200, text

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        for done in pool.map(one, range(2000)):
            assert done is None
    stats = server.wait_until_idle()
    assert stats["requests_total"] > before + 1300
    for left in ("running_requests", "queued_requests", "retracted_requests", "slots_used", "pages_used", "kv_tokens_used"):
        assert stats[left] == 0, (left, stats)
    assert server.get("/health_generate")[0] == 200


def test_sigterm_drains():
    server = Server()
    body = {"text": "Hello", "sampling_params": {"max_new_tokens": 1500, "ignore_eos": True, "temperature": 0}}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(server.post_json, "/generate", body)
        while server.stats()["running_requests"] == 0 and not running.done():
            time.sleep(0.002)
        assert server.stop(signal.SIGTERM) == 0
        assert running.result()["meta_info"]["completion_tokens"] == 1500


def test_a_second_signal_does_not_wait():
    server = Server("--context-length", 200000, "--max-total-tokens", 400000)
    body = {"text": "Hello", "sampling_params": {"max_new_tokens": 150000, "ignore_eos": True, "temperature": 0}}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(server.post_json, "/generate", body)
        while server.stats()["running_requests"] == 0:
            time.sleep(0.002)
        threading.Timer(0.5, server.process.send_signal, [signal.SIGTERM]).start()
        assert server.stop(signal.SIGINT, seconds=20) == 0
        assert running.result()["meta_info"]["finish_reason"]["type"] == "abort"


def test_api_key_from_the_environment():
    server = Server(environment={"HYLAS_API_KEY": "secret"})
    assert server.get("/v1/models")[0] == 401
    assert server.get("/v1/models", headers={"Authorization": "Bearer secret"})[0] == 200
    assert server.get("/metrics", headers={"Authorization": "Bearer secret"})[0] == 404  # not enabled
    assert server.stop() == 0


def test_incremental_stream():
    server = Server("--incremental-streaming-output")
    body = {"text": "Hello", "sampling_params": {"temperature": 0, "max_new_tokens": 8}}
    pieces = [event["text"] for event in sse(server, "/generate", body)]
    assert "".join(pieces) == server.post_json("/generate", body)["text"]
    assert server.stop() == 0


def test_port_in_use(server):
    code, _, log = run("serve", "--model-path", MODEL, "--port", server.port)
    assert code == 1 and f"127.0.0.1:{server.port}" in log and "in use" in log


def test_generate_command(server):
    code, out, log = run("generate", "--model-path", MODEL, "--prompt", "Hello", "--temperature", "0",
                         "--max-new-tokens", "8", "--log-level", "warn")
    assert code == 0, log
    assert out == generate(server)["text"] + "\n"
    assert "tokens generated" in log


def test_generate_command_chats(server):
    code, out, log = run("generate", "--model-path", MODEL, "--chat", "--prompt", "Hello", "--temperature", "0",
                         "--max-new-tokens", "8", "--chat-template-kwargs", '{"enable_thinking": false}')
    assert code == 0, log
    answer = server.post_json("/v1/chat/completions", {
        "messages": [{"role": "user", "content": "Hello"}], "temperature": 0, "max_tokens": 8,
        "chat_template_kwargs": {"enable_thinking": False}})
    assert out == answer["choices"][0]["message"]["content"] + "\n"
