"""Exit codes and messages of the command line: 0 done, 1 failed, 2 wrong usage, 3 not what this build can take."""
import json
import re
import shlex

import pytest
from server import MODEL, ROOT, run

SERVE = ["serve", "--model-path", MODEL, "--port", 0]  # any free port: what is refused is not the port


@pytest.mark.parametrize("arguments, code, message", [
    (["--help"], 0, ""),
    (["--version"], 0, ""),
    (["serve", "--help"], 0, ""),
    (["generate", "--help"], 0, ""),
    (["nonsense"], 2, "nonsense"),
    (["bench"], 2, "bench needs a command: serve, offline, simulate"),
    (["bench", "srve"], 2, "there is no command 'bench srve': serve, offline, simulate"),
    (["eval", "mmlu"], 2, "there is no command 'eval mmlu': layouts, gsm8k"),
    (["serve"], 2, "--model-path"),
    ([*SERVE, "--prot", "80"], 2, "did you mean --port?"),
    ([*SERVE, "--port", "x"], 2, "--port"),
    ([*SERVE, "--port", "70000"], 2, "--port"),
    ([*SERVE, "stray"], 2, "stray"),
    ([*SERVE, "--kv-cache-dtype", "int3"], 2, "--kv-cache-dtype"),
    ([*SERVE, "--chunked-prefill-size", "100"], 2, "not a multiple of 64"),
    ([*SERVE, "--reasoning-parser", "other"], 2, "--reasoning-parser"),
    ([*SERVE, "--chat-template", "/no/such/file"], 2, "--chat-template"),
    ([*SERVE, "--tp-size", "8"], 3, "num_attention_heads 4 cannot be split over 8 ranks (--tp-size)"),
    ([*SERVE, "--tp-size", "3"], 3, "--tp-size 3 must be a power of two"),
    ([*SERVE, "--tp-size", "2", "--dp-size", "2"], 3, "--dp-size 2 needs --enable-dp-attention"),
    ([*SERVE, "--tp-size", "2", "--ep-size", "4"], 3, "--ep-size 4 must divide --tp-size 2"),
    ([*SERVE, "--pp-size", "5"], 3, "--pp-size 5: the model has only 4 layers"),
    ([*SERVE, "--pp-size", "2", "--pp-layer-partition", "1,2"], 3, "the sum is 3, but the model has 4 layers"),
    ([*SERVE, "--pp-size", "2", "--pp-layer-partition", "4"], 3, "1 numbers for 2 stages"),
    ([*SERVE, "--pp-size", "2", "--pp-layer-partition", "2,x"], 2, "`x` is no number of layers"),
    ([*SERVE, "--pp-async-batch-depth", "1000"], 2, "--pp-async-batch-depth"),
    ([*SERVE, "--disaggregation-mode", "prefill", "--pp-size", "2", "--nnodes", "2", "--dist-init-addr", "127.0.0.1:1"], 3,
     "--disaggregation-mode works on one node"),
    ([*SERVE, "--disaggregation-mode", "both"], 2, "--disaggregation-mode: both not in {null,prefill,decode}"),
    ([*SERVE, "--speculative-algo", "EAGLE", "--speculative-num-steps", "3"], 3,
     "no speculative decoding yet; leave out all --speculative flags"),
    ([*SERVE, "--moe-a2a-backend"], 2, "--moe-a2a-backend: 1 required TEXT missing"),
    ([*SERVE, "--speculative-whatever", "1"], 3, "--speculative-whatever"),
    (["serve", "--model-path", "Qwen/Qwen3.5-4B"], 1, "Qwen/Qwen3.5-4B: there is no such folder; nothing is downloaded"),
    (["quantize", "--model-path", "Qwen/Qwen3.5-4B", "--out", "/no/such/folder"], 1, "there is no such folder"),
    (["generate", "--model-path", ROOT / "models/configs/qwen3.5-0.8b", "--load-format", "dummy", "--prompt", "x"], 1,
     "tokenizer.json: no such file; text needs the checkpoint's tokenizer, also with --load-format dummy"),
    (["generate", "--model-path", MODEL, "--prompt", ""], 2, "--prompt"),
    (["generate", "--model-path", MODEL, "--prompt", "x", "--system", "y"], 2, "--chat"),
    (["generate", "--model-path", MODEL, "--prompt", "x", "--chat", "--chat-template-kwargs", "{"], 2,
     "--chat-template-kwargs"),
])
def test_exit_codes(arguments, code, message):
    done, out, log = run(*arguments)
    assert done == code, log
    assert message in log


@pytest.mark.parametrize("gpu, layout, code", [("B200", "tp8", 2), ("H100", "x", 2), ("H100", "tp3", 3)])
def test_a_simulation_that_is_refused_prints_no_table(gpu, layout, code):
    done, out, log = run("bench", "simulate", "--model", "qwen3.5-397b-a17b-fp8", "--gpu", gpu, "--layout", layout)
    assert (done, out) == (code, "") and log


def test_ids_without_a_tokenizer(tmp_path):
    """As the released sizes in models/configs have none: a config.json is enough to measure a model by token ids."""
    (tmp_path / "config.json").write_bytes((MODEL / "config.json").read_bytes())
    code, out, log = run("bench", "offline", "--model-path", tmp_path, "--load-format", "dummy", "--num-prompts", 2,
                         "--random-input-len", 8, "--random-output-len", 2, "--random-range-ratio", 1)
    assert code == 0 and re.search(r"Output tokens +4\n", out), log


def test_values_that_ask_for_nothing_are_taken():
    code, _, log = run("generate", "--model-path", MODEL, "--prompt", "x", "--max-new-tokens", 1, "--tp-size", 1, "--pp-size",
                       1, "--dp-size", 1, "--ep-size", 1, "--nnodes", 1)
    assert code == 0, log


def test_flags_of_sglang_that_have_one_answer_say_so():
    code, _, log = run("generate", "--model-path", MODEL, "--prompt", "x", "--max-new-tokens", 1, "--trust-remote-code",
                       "--skip-server-warmup", "--attention-backend", "fa3", "--sampling-backend", "flashinfer",
                       "--grammar-backend", "xgrammar")
    assert code == 0, log
    assert "--trust-remote-code: no code of a checkpoint is run" in log
    assert "--attention-backend fa3: decode has kernels of its own" in log


def test_environment_supplies_defaults_and_is_printed():
    code, _, log = run(*SERVE, environment={"HYLAS_TP_SIZE": "4"})
    assert code == 3 and "HYLAS_TP_SIZE sets --tp-size 4" in log
    code, _, log = run(*SERVE, "--tp-size", 8, environment={"HYLAS_TP_SIZE": "4"})
    assert code == 3 and "HYLAS_TP_SIZE" not in log and "8 ranks" in log
    code, _, log = run(*SERVE, "--pp-size", 2, environment={"SGLANG_PP_LAYER_PARTITION": "3,2"})
    assert code == 3 and "SGLANG_PP_LAYER_PARTITION sets --pp-layer-partition 3,2" in log


def test_the_last_of_a_repeated_option_counts():
    code, _, log = run(*SERVE, "--port", "1", "--port", "99999999")
    assert code == 2
    code, _, log = run(*SERVE, "--host", "no.such.host.invalid", "--port", "8000", "--port", "30300")
    assert code == 1 and "no.such.host.invalid:30300" in log


def test_memory_too_small_for_one_request():
    code, _, log = run("generate", "--model-path", MODEL, "--prompt", "word " * 300, "--max-new-tokens", 1,
                       "--max-total-tokens", 64)
    assert code in (1, 2) and "token" in log


def test_a_broken_template_is_named(tmp_path):
    template = tmp_path / "broken.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}")
    code, _, log = run(*SERVE, "--chat-template", template)
    assert code in (2, 3) and "broken.jinja" in log


def test_plan():
    code, out, log = run("plan", "--model", "Qwen3.5-397B-A17B-FP8", "--gpu-memory", "1024GiB", "--context-length", 4096, "--json",
                         "--kv-cache-dtype", "fp8_e4m3", "--mamba-ssm-dtype", "float16")
    assert code == 0, log
    plan = json.loads(out)
    assert plan["kv_bytes_per_token"] == 15360  # 15 layers, K and V of 2 heads of 256
    assert abs(plan["state_bytes_per_sequence"] / 2**20 - 93.2) < 0.1
    assert 380e9 < plan["weight_bytes"] < 420e9
    used = plan["largest_batch"] * (4096 * plan["kv_bytes_per_token"] + plan["state_bytes_per_sequence"])
    assert 0 < used <= plan["cache_bytes"]
    assert 2**30 <= plan["workspace_bytes"] <= plan["memory_bytes"] / 16
    code, out, log = run("plan", "--model", "Qwen3.5-397B-A17B-FP8", "--gpu-memory", "80GB", "--tp-size", 2)
    assert code == 3 and "199.4 GB (and 1.1 GB of workspace), its memory is 80.0 GB: take more ranks" in log
    code, out, log = run("plan", "--model-path", MODEL)
    assert code == 0 and "largest batch" in out


def test_the_page_on_plans_shows_what_is_printed():
    """docs/plan.md: a block is a command, or lines of what the last command prints; of 96 GB where the text before says so."""
    shown, command, text = 0, None, ""
    for piece in re.split(r"^```\n(.*?)^```\n", (ROOT / "docs/plan.md").read_text(), flags=re.S | re.M):
        if "hylas plan" in piece.partition("\n")[0] and "[any flag" not in piece:
            command = piece.replace("\\\n", " ")
        elif piece.startswith(("Qwen3_5", "stage ")):
            printed = output_of(command.replace("141GB", "96GB") if "On 96 GB" in text else command)
            missing = [line for line in piece.splitlines() if line not in printed]
            assert not missing, f"{command} prints\n" + "\n".join(printed)
            shown += 1
        text = piece
    assert shown == 4


def output_of(line):
    words = shlex.split(line)
    environment = dict(word.split("=", 1) for word in words[:words.index("hylas")])
    code, out, log = run(*words[words.index("hylas") + 1:], environment=environment)
    assert code == 0, log
    return out.splitlines()


def test_a_measured_plan_balances_the_stages_by_time():
    code, out, log = run("plan", "--model-path", MODEL, "--pp-size", 3, "--measure", "--json")
    assert code == 0, log
    plan = json.loads(out)
    costs = plan["measured"]["layers_us"]
    assert len(costs) == plan["layers"] and min(costs) > 0
    begins = [stage["layers"][0] for stage in plan["stages"]] + [plan["layers"]]
    spent = [sum(costs[a:b]) for a, b in zip(begins, begins[1:])]
    spent[-1] += plan["measured"]["last_us"]
    for stage, us in zip(plan["stages"], spent):
        assert abs(stage["cost_share"] - us / sum(spent)) < 1e-6
    for a in range(1, plan["layers"] - 1):  # no other cut has a cheaper dearest stage
        for b in range(a + 1, plan["layers"]):
            others = [sum(costs[:a]), sum(costs[a:b]), sum(costs[b:]) + plan["measured"]["last_us"]]
            assert max(others) >= max(spent) * (1 - 1e-9)


@pytest.mark.parametrize("arguments, code, message", [
    ([], 2, ""),
    (["--model", "qwen3.5-4b", "--model-path", MODEL], 2, ""),
    (["--model", "no-such-model"], 1, "qwen3.5-4b"),
    (["--model-path", "/no/such/folder"], 1, "/no/such/folder"),
])
def test_bad_plans(arguments, code, message):
    done, _, log = run("plan", *arguments)
    assert done == code and message in log, log
