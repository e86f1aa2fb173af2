#!/usr/bin/env python3
"""What prefill and decode on two instances cost and bring, beside one instance, over loopback:

  .deps/venv/bin/python bench/disaggregation.py [MODEL [PROMPT_TOKENS]]

1. The time that a hand-off adds to the first token: one request at a time, at one instance and at a pair behind the router,
   in turns. 2. The time between tokens of four streams, alone and while prompts come as fast as they are taken. On a machine
   where both instances share the cores, the second says what the scheduler does, and not what two machines would."""
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/client"))
import server  # noqa: E402
from disaggregated import Pair, body_of, stream  # noqa: E402

MODEL = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "models/hylas-tiny"
PROMPT_TOKENS = int(sys.argv[2]) if len(sys.argv) > 2 else 1024


def bench(url, prompts, prompt_tokens, output_tokens, concurrency, seed):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run([str(server.PROGRAM), "bench", "serve", "--base-url", url, "--num-prompts", str(prompts),
                        "--random-input-len", str(prompt_tokens), "--random-output-len", str(output_tokens),
                        "--random-range-ratio", "1", "--max-concurrency", str(concurrency), "--seed", str(seed),
                        "--output-file", out.name], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return json.loads(Path(out.name).read_text())


def figure(result, name, quantile):
    run = result["runs"][0] if "runs" in result else result
    return run[name][quantile]


def added_to_the_first_token(whole, pair):
    rounds = 5
    times = {"one instance": [], "pair": []}
    for seed in range(rounds):
        for name, url in (("one instance", whole.url), ("pair", pair.url)):
            times[name].append(bench(url, 20, PROMPT_TOKENS, 4, 1, seed))
    for quantile in ("p50", "p99"):
        values = {name: sorted(figure(run, "ttft_ms", quantile) for run in runs)[rounds // 2] for name, runs in times.items()}
        added = values["pair"] - values["one instance"]
        print(f"time to first token {quantile}: one instance {values['one instance']:.1f} ms, pair {values['pair']:.1f} ms, "
              f"added {added:.1f} ms (ratio {values['pair'] / values['one instance']:.3f})")


def between_tokens(name, target, port):
    alone = bench(target, 16, 64, 96, 4, 1)
    stop = threading.Event()

    def prompts():
        while not stop.is_set():
            stream(port, body_of(list(range(10, 10 + PROMPT_TOKENS % 900)) * 2, 1))

    loaders = [threading.Thread(target=prompts) for _ in range(4)]
    for loader in loaders:
        loader.start()
    loaded = bench(target, 16, 64, 96, 4, 2)
    stop.set()
    for loader in loaders:
        loader.join()
    quiet, busy = figure(alone, "itl_ms", "p99"), figure(loaded, "itl_ms", "p99")
    print(f"time between tokens p99, {name}: alone {quiet:.1f} ms, while prompts come {busy:.1f} ms (ratio {busy / quiet:.2f})")


def main():
    server.MODEL = MODEL
    dummy = [] if list(MODEL.glob("*.safetensors")) else ["--load-format", "dummy"]
    os.environ["HYLAS_LOG_LEVEL"] = "error"
    whole = server.Server(*dummy)
    with Pair(prefill_arguments=dummy, decode_arguments=dummy) as pair:
        added_to_the_first_token(whole, pair)
        between_tokens("one instance", whole.url, whole.port)
        between_tokens("pair", pair.url, pair.port)
    whole.stop()


if __name__ == "__main__":
    main()
