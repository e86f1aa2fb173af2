"""The command lines of SGLang's pull request 19254 after `hylas serve`, with only the model replaced: a small one whose
shapes admit TP2 x PP4 with 15 layers a stage and TP8 with EP8 and four attention groups. Its weights are made up: the
environment says so (HYLAS_LOAD_FORMAT), the lines are as they were. Left out: what this build refuses (speculation,
disaggregation); a last --port keeps the tests apart."""
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


@pytest.mark.parametrize("line, environment, expected", [
    (PREFILL.format(chunk=4096), PIPELINE, "[0, 15) with 3 full-attention layers"),
    (PREFILL.format(chunk=8192), PIPELINE, "[45, 60) with 4 full-attention layers"),
    (DECODE, {"SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK": "128"}, "attention tp 2 x dp 4; experts ep 8 x tp 1"),
], ids=["pp", "pd-prefill", "pd-decode"])
def test_a_line_of_the_seed_serves(model, tmp_path, line, environment, expected):
    port, log = free_port(), tmp_path / "log"
    command = [PROGRAM, "serve", "--model-path", model, *line.split(), "--port", port]
    with open(log, "w") as out:
        process = subprocess.Popen([str(part) for part in command], stderr=out,
                                   env={**os.environ, "HYLAS_LOAD_FORMAT": "dummy", **environment})
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
                break
            except OSError:
                time.sleep(0.1)
        body = {"text": "one two three " * 60, "sampling_params": {"max_new_tokens": 4, "ignore_eos": True}}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/generate", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        answer = json.loads(urllib.request.urlopen(request, timeout=60).read())
        assert answer["meta_info"]["completion_tokens"] == 4
        trace = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/trace", timeout=5).read())
        stages = {event["tid"] for event in trace["traceEvents"] if event["ph"] == "X"}
        assert stages == set(range(4 if "--pp-size" in line else 1))
        if "--enable-metrics" in line:
            metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
            assert 'hylas:pp_bubble_ratio{' in metrics and 'stage="0"' in metrics
    finally:
        process.terminate()
        code = process.wait(60)
    assert code == 0, log.read_text()
    assert expected in log.read_text()
