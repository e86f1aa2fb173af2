"""`hylas eval` and `hylas bench` against a server of the demo model."""
import json
import subprocess
import time

import pytest
from server import PROGRAM, ROOT, Server, free_port, run

TINY = ROOT / "models/hylas-tiny"
QUESTIONS = TINY / "eval/test.jsonl"
SHOTS = TINY / "eval/shots.jsonl"


@pytest.fixture(scope="module")
def tiny():
    running = Server("--model-path", TINY, "--max-running-requests", 16)
    yield running
    assert running.stop() == 0


def figures(out):
    return dict(line.split(": ") for line in out.splitlines())


@pytest.mark.parametrize("api", ["generate", "completions"])
def test_the_demo_model_solves_its_problems(tiny, tmp_path, api):
    results = tmp_path / "results.jsonl"
    code, out, log = run("eval", "gsm8k", "--data-path", QUESTIONS, "--num-questions", 20, "--num-shots", 0,
                         "--parallel", 8, "--base-url", tiny.url, "--api", api, "--out", results)
    assert code == 0, log
    assert list(figures(out)) == ["Accuracy", "Invalid", "Latency", "Output throughput"]
    assert float(figures(out)["Accuracy"]) >= 0.9
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert sorted(line["index"] for line in lines[:-1]) == list(range(20))
    assert all(line["correct"] == (line["prediction"] == line["label"]) for line in lines[:-1])
    assert sum(line["completion_tokens"] for line in lines[:-1]) == lines[-1]["summary"]["output_tokens"]
    assert lines[-1]["summary"]["complete"] is True


def test_a_server_that_dies_leaves_the_answers_so_far(tmp_path):
    results = tmp_path / "results.jsonl"
    dying = Server("--model-path", TINY, "--max-running-requests", 16)
    command = [PROGRAM, "eval", "gsm8k", "--data-path", QUESTIONS, "--num-questions", 500, "--shots-from", SHOTS,
               "--parallel", 4, "--base-url", dying.url, "--out", results]
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as evaluation:
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline and (not results.exists() or results.read_text().count("\n") < 3):
            time.sleep(0.02)
        dying.process.kill()
        out, log = evaluation.communicate(timeout=60)
    dying.process.wait()
    assert evaluation.returncode == 1, log
    assert "Incomplete: " in out and "of 500 questions" in out
    assert dying.url in log
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    answered = [line for line in lines if "text" in line]
    assert 3 <= len(answered) == lines[-1]["summary"]["answered"] < 500
    assert lines[-1]["summary"]["complete"] is False
    assert any("error" in line for line in lines[:-1])


@pytest.mark.parametrize("arguments, code, message", [
    (["eval"], 2, ""),
    (["eval", "gsm8k"], 2, "--data-path"),
    (["eval", "gsm8k", "--data-path", "/no/such/file"], 1, "/no/such/file"),
    (["eval", "gsm8k", "--data-path", QUESTIONS, "--num-questions", "0"], 2, "--num-questions"),
    (["eval", "gsm8k", "--data-path", QUESTIONS, "--shots-from", SHOTS, "--num-shots", "9"], 2, "holds 8 lines"),
    (["eval", "gsm8k", "--data-path", QUESTIONS, "--base-url", "https://x"], 3, "https://x"),
    (["eval", "gsm8k", "--data-path", QUESTIONS, "--paralel", "3"], 2, "did you mean --parallel?"),
    (["bench"], 2, ""),
    (["bench", "serve", "--request-rate", "0"], 2, "--request-rate"),
    (["bench", "serve", "--sweep", "max-concurrency=1,x"], 2, "--sweep"),
    (["bench", "serve", "--plot", "x.svg"], 2, "--sweep"),
    (["bench", "serve", "--dataset", "jsonl"], 2, "--data-path"),
])
def test_bad_input(arguments, code, message):
    done, _, log = run(*arguments)
    assert done == code and message in log, log


@pytest.mark.parametrize("command", [["eval", "gsm8k", "--data-path", QUESTIONS], ["bench", "serve"]])
def test_a_server_that_is_not_there_is_named(command):
    url = f"http://127.0.0.1:{free_port()}"
    code, _, log = run(*command, "--base-url", url)
    assert code == 1 and url in log


@pytest.mark.parametrize("text, message", [
    ("", "holds no questions"),
    ('{"question": "q", "answer": "#### 1"}\n{"x": 1}\n', "line 2"),
])
def test_a_bad_data_file_is_named(tmp_path, text, message):
    data = tmp_path / "bad.jsonl"
    data.write_text(text)
    code, _, log = run("eval", "gsm8k", "--data-path", data, "--num-shots", 0)
    assert code == 2 and f"{data}" in log and message in log


@pytest.mark.parametrize("backend", ["hylas", "openai"])
def test_bench_serve(tiny, tmp_path, backend):
    file = tmp_path / "bench.json"
    code, out, log = run("bench", "serve", "--base-url", tiny.url, "--backend", backend, "--num-prompts", 8,
                         "--random-input-len", 32, "--random-output-len", 16, "--random-range-ratio", 1,
                         "--request-rate", 50, "--gpus", 2, "--output-file", file)
    assert code == 0, log
    assert "Time to first token (TTFT)" in out
    result = json.loads(file.read_text())["runs"][0]
    assert (result["succeeded"], result["failed"]) == (8, 0)
    assert (result["input_tokens"], result["output_tokens"]) == (8 * 32, 8 * 16)
    assert 0 < result["ttft_ms"]["p50"] <= result["ttft_ms"]["p99"] <= result["e2e_ms"]["p99"]
    assert result["e2e_ms"]["p99"] <= result["duration_s"] * 1000
    assert result["output_tokens_per_s"] == pytest.approx(128 / result["duration_s"])
    assert result["output_tokens_per_s_per_gpu"] == pytest.approx(64 / result["duration_s"])


def test_bench_serve_sweeps_and_plots(tiny, tmp_path):
    data, file, plot = tmp_path / "prompts.jsonl", tmp_path / "bench.json", tmp_path / "bench.svg"
    data.write_text('{"prompt": "Hello"}\n{"prompt": [5, 6, 7], "output_tokens": 3}\n')
    code, out, log = run("bench", "serve", "--base-url", tiny.url, "--dataset", "jsonl", "--data-path", data,
                         "--num-prompts", 4, "--random-output-len", 5, "--sweep", "max-concurrency=1,2",
                         "--output-file", file, "--plot", plot)
    assert code == 0, log
    runs = json.loads(file.read_text())["runs"]
    assert [one["max_concurrency"] for one in runs] == [1, 2]
    assert [one["output_tokens"] for one in runs] == [16, 16]
    assert runs[0]["concurrency"] <= 1
    assert "2 at a time" in out
    svg = plot.read_text()
    assert svg.startswith("<svg") and svg.count("<polyline") == 4 and "2 at a time" in svg


def test_bench_offline(tmp_path):
    file = tmp_path / "bench.json"
    code, _, log = run("bench", "offline", "--model-path", TINY, "--max-total-tokens", 4096, "--threads", 2,
                       "--num-prompts", 8, "--random-input-len", 32, "--random-output-len", 16, "--random-range-ratio", 1,
                       "--output-file", file)
    assert code == 0, log
    result = json.loads(file.read_text())["runs"][0]
    assert (result["succeeded"], result["input_tokens"], result["output_tokens"]) == (8, 8 * 32, 8 * 16)
    assert result["itl_ms"]["count"] == 8 * 15


def test_the_mtp_head_foresees_most_tokens(tiny, tmp_path):
    foreseen = generated = 0
    for line in QUESTIONS.read_text().splitlines()[:3]:
        problem = json.loads(line)
        ids = tiny.post_json("/tokenize", {"prompt": f"Question: {problem['question']}\nAnswer:"})["tokens"]
        count = len(tiny.post_json("/tokenize", {"prompt": problem["answer"]})["tokens"])
        path = tmp_path / "logits.safetensors"
        code, out, log = run("logits", "--model-path", TINY, "--input-ids", ",".join(map(str, ids)), "--generate", count,
                             "--mtp", "--out", path)
        assert code == 0, log
        words = out.splitlines()[-1].split()
        assert words[:4] == ["the", "MTP", "head", "foresaw"] and int(words[6]) == count - 1
        foreseen, generated = foreseen + int(words[4]), generated + int(words[6])
        data = path.read_bytes()
        header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
        assert header["mtp_draft_ids"]["shape"] == [len(ids) + count - 1]
    assert foreseen > 0.6 * generated


def test_every_layout_says_what_one_rank_says():
    code, out, log = run("eval", "layouts", "--model-path", TINY, "--data-path", QUESTIONS, "--num-shots", 0,
                         "--num-questions", 8, "--dtypes", "bfloat16")
    assert code == 0, out + log
    rows = [line for line in out.splitlines()[1:]]
    assert len(rows) == 12 and sum("identical" in row for row in rows) == 8
