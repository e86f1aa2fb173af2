"""The command lines of SGLang's pull request 19254 after `hylas serve`, with only the model replaced: a small one whose
shapes admit TP2 x PP4 with 15 layers a stage and TP8 with EP8 and four attention groups. Its weights are made up: the
environment says so (HYLAS_LOAD_FORMAT), the lines are as they were. Left out: speculation, which this build refuses; a
last --port and bootstrap port keep the tests apart."""
import concurrent.futures
import json
import os
import shutil
import subprocess
import time
import urllib.request

import pytest
from server import MODEL, PROGRAM, free_port

PREFILL = """--port 8000 --tp-size 2 --pp-size 4 --mem-fraction-static 0.85 --reasoning-parser qwen3
--tool-call-parser qwen3_coder --mamba-ssm-dtype float16 --kv-cache-dtype fp8_e4m3 --host 0.0.0.0 --port 8000
--disable-radix-cache --pp-async-batch-depth 1 --pp-max-micro-batch-size 1 --max-running-requests 128
--chunked-prefill-size {chunk} --max-prefill-tokens 16384 --page-size 64"""
DEVICES = '--disaggregation-ib-device mlx5_1,mlx5_2,mlx5_3,mlx5_4'
DECODE = """--port 8000 --tp-size 8 --ep-size 8 --mem-fraction-static 0.75 --context-length 131072
--reasoning-parser qwen3 --tool-call-parser qwen3_coder --cuda-graph-bs 1 8 16 32 64 --max-running-requests 256
--enable-dp-attention --dp-size 4 --mamba-ssm-dtype float16 --kv-cache-dtype fp8_e4m3 --moe-runner-backend deep_gemm
--moe-a2a-backend deepep --deepep-mode low_latency --host 0.0.0.0 --port 30300 --enable-metrics --disable-radix-cache
--page-size 64"""
PIPELINE = {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_MIN_NCHANNELS": "24", "NCCL_IB_QPS_PER_CONNECTION": "8",
            "SGLANG_PP_LAYER_PARTITION": "15,15,15,15"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seed-model")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        if (MODEL / name).exists():
            shutil.copy(MODEL / name, folder / name)
    config = json.loads((MODEL / "config.json").read_text())
    text = config["text_config"]
    text.update(hidden_size=64, num_hidden_layers=60, layer_types=["linear_attention"] * 3 + ["full_attention"],
                num_attention_heads=4, num_key_value_heads=2, head_dim=32, linear_num_key_heads=2,
                linear_num_value_heads=4, num_experts=16, num_experts_per_tok=4, moe_intermediate_size=32,
                shared_expert_intermediate_size=32, mtp_num_hidden_layers=0, max_position_embeddings=131072)
    text["layer_types"] = text["layer_types"] * 15
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def start(model, log, line, environment, *more):
    port = free_port()
    command = [PROGRAM, "serve", "--model-path", model, *line.split(), "--port", port, *more]
    with open(log, "w") as out:
        process = subprocess.Popen([str(part) for part in command], stderr=out,
                                   env={**os.environ, "HYLAS_LOAD_FORMAT": "dummy", **environment})
    return process, port


def wait_until_ready(process, port, log):
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        try:
            return get(port, "/health")
        except OSError:
            time.sleep(0.1)


def get(port, path):
    return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).read().decode()


def generate(port, **more):
    body = {"text": "one two three " * 60, "sampling_params": {"max_new_tokens": 4, "ignore_eos": True}, **more}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/generate", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    return json.loads(urllib.request.urlopen(request, timeout=60).read())


def stages_traced(port):
    return {event["tid"] for event in json.loads(get(port, "/trace"))["traceEvents"] if event["ph"] == "X"}


def stop(process, log):
    process.terminate()
    assert process.wait(60) == 0, log.read_text()


def test_the_pipeline_line_serves(model, tmp_path):
    log = tmp_path / "log"
    process, port = start(model, log, PREFILL.format(chunk=4096), PIPELINE)
    try:
        wait_until_ready(process, port, log)
        assert generate(port)["meta_info"]["completion_tokens"] == 4
        assert stages_traced(port) == set(range(4))
    finally:
        stop(process, log)
    assert "[0, 15) with 3 full-attention layers" in log.read_text()


def test_the_prefill_line_feeds_the_decode_line(model, tmp_path):
    logs, bootstrap = (tmp_path / "prefill", tmp_path / "decode"), free_port()
    prefill = start(model, logs[0], f"{PREFILL.format(chunk=8192)} --disaggregation-mode prefill {DEVICES}", PIPELINE,
                    "--disaggregation-bootstrap-port", bootstrap)
    decode = start(model, logs[1], f"{DECODE} --disaggregation-mode decode {DEVICES}",
                   {"SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK": "128"})
    try:
        for (process, port), log in zip((prefill, decode), logs):
            wait_until_ready(process, port, log)
        where = {"bootstrap_host": "127.0.0.1", "bootstrap_port": bootstrap, "bootstrap_room": 1 << 40}
        with concurrent.futures.ThreadPoolExecutor() as pool:
            first, rest = pool.map(lambda one: generate(one[1], **where), (prefill, decode))
        assert rest["meta_info"]["completion_tokens"] == 4
        assert first["output_ids"] == rest["output_ids"][:1]
        assert stages_traced(prefill[1]) == set(range(4)) and stages_traced(decode[1]) == {0}
        metrics = get(decode[1], "/metrics")
        assert 'hylas:pp_bubble_ratio{' in metrics and 'stage="0"' in metrics
    finally:
        for (process, _), log in zip((prefill, decode), logs):
            stop(process, log)
    assert "[45, 60) with 4 full-attention layers" in logs[0].read_text()
    assert "attention tp 2 x dp 4; experts ep 8 x tp 1" in logs[1].read_text()
