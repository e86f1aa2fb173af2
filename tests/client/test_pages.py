"""What the pages say of the command line and of HTTP, beside the program: flags, variables, routes, metrics."""
import functools
import re

import pytest
from router import Router
from server import ROOT, run

PAGES = [ROOT / "README.md", ROOT / "AGENTS.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "models").glob("*/*.md"))]
COMMANDS = ["serve", "router", "generate", "logits", "quantize", "plan", "eval gsm8k", "eval layouts", "bench serve",
            "bench offline", "bench simulate"]
FLAG = r"(?<![\w|-])--[a-z][a-z0-9-]*\b(?!_)"
# Of other programs: Slurm, and our benchmark of the engine.
OTHERS = {"--nodes", "--ntasks-per-node", "--exclusive", "--own-kernels"}


@functools.cache
def help_of(command):
    code, out, _ = run(*command.split(), "--help")
    assert code == 0
    return out


def flags_of(command):
    """Those that the help lists, not those that its texts and examples name."""
    lists = re.findall(r"^ +(?:-h,)?(--[a-z0-9,-]+)", help_of(command), re.M)
    return {flag for names in lists for flag in names.split(",")}


def pages_and_helps():
    """Name and text of each; a command that goes over several lines is on one."""
    for page in PAGES:
        yield str(page.relative_to(ROOT)), page.read_text().replace("\\\n", " ")
    for command in ["", "bench", "eval", *COMMANDS]:
        yield f"hylas {command} --help", help_of(command)


def commands_in(text):
    """(command, its flags) of every command line of ours in a text."""
    for found in re.finditer(rf"hylas ({'|'.join(COMMANDS)})\b([^\n`]*)", text):
        yield found[1], re.findall(FLAG, found[2].split("#")[0])


def test_every_command_line_takes_its_flags():
    unknown = [f"{name}: hylas {command} has no {flag}" for name, text in pages_and_helps()
               for command, flags in commands_in(text) for flag in flags if flag not in flags_of(command)]
    assert not unknown, "\n".join(unknown)


def test_every_flag_is_one_of_ours():
    ours = set().union(*map(flags_of, COMMANDS)) | OTHERS | {"--version"}
    unknown = [f"{name}: {flag}" for name, text in pages_and_helps() for flag in re.findall(FLAG, text) if flag not in ours]
    assert not unknown, "\n".join(unknown)


def test_every_default_is_the_helps():
    """`--flag` (5) or (5 s) in a page is the default."""
    defaults = {(flag, default) for command in COMMANDS
                for names, default in re.findall(r"^ +(--[a-z0-9,-]+) [^\n]*?=(\S+)(?: |$)", help_of(command), re.M)
                for flag in names.split(",")}
    told = [(page.name, *found) for page in PAGES for found in re.findall(r"`(--[a-z0-9-]+)` \(([\d.]+)", page.read_text())]
    assert len(told) > 10
    assert not [one for one in told if one[1:] not in defaults]


def rows_of(text):
    """Cells of the table's rows for a GPU and a layout."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if re.match(r"\| H\d+ ", line)]
    return [row for row in rows if re.fullmatch(r"(?i)(tp|pp)[\dxtp]+", row[1])]


def test_the_page_on_the_simulator_shows_what_is_printed():
    """docs/simulator.md, the prediction: the table of a command, and one figure of the same command with --bound."""
    command = ["bench", "simulate", "--model", "qwen3.5-397b-a17b-fp8", "--gpu", "H20,H200"]  # H100 has H200's kernels
    printed, bound = (rows_of(run(*command, *more)[1]) for more in ([], ["--bound"]))
    expected = [[*row, other[6]] for row, other in zip(printed, bound)]
    shown = [[gpu, layout.lower().replace("x", ""), *rest] for gpu, layout, *rest in rows_of((ROOT / "docs/simulator.md").read_text())]
    assert len(expected) == 6 and [row for row in shown if row[0] != "H100"] == expected


def test_every_variable_is_read_somewhere():
    flags = {"HYLAS_" + flag[2:].upper().replace("-", "_") for command in COMMANDS for flag in flags_of(command)}
    readers = [path for folder in ("src/app", "src/base", "tests/support", "tests/client", "scripts", "cmake")
               for path in (ROOT / folder).rglob("*")
               if path.suffix in {".cc", ".h", ".py", ".sh", ".cmake"} and path.name != "test_pages.py"]
    sources = "\n".join(path.read_text() for path in [ROOT / "CMakeLists.txt", *readers])
    unknown = {f"{name}: {variable}" for name, text in pages_and_helps()
               for variable in re.findall(r"\b(?:HYLAS|SGLANG|SLURM|LWS|OMPI)_[A-Z_]+\b", text)
               if variable not in flags and not re.search(rf"\b{variable}\b", sources)}
    assert not unknown, "\n".join(unknown)


def routes_in_tables(page):
    """("GET", "/workers/ID") for every route in the first column of a table; the last method holds for those behind it."""
    for line in (ROOT / page).read_text().splitlines():
        method = "GET"
        for named, path in re.findall(r"`((?:[A-Z]+ )?)(/[^`]*)`", line.split("|")[1] if line.startswith("| `") else ""):
            method = named.strip() or method
            yield method, path.partition("?")[0]


def untold_routes(source, page):
    """Routes of the program that a page does not name; those of other spelling (/v1/tokenize, /get_model_info) it may omit."""
    text = (ROOT / page).read_text()
    paths = re.findall(r'"[A-Z]+", (?:\.path = )?"(/[^"]*)"', (ROOT / source).read_text())
    assert len(paths) > 10
    return [path for path in paths if re.sub("^/(v1/(?=.*tokenize)|get_(?!load))", "/", path).rstrip("/") not in text]


def test_every_route_of_the_api_is_served_and_told(server):
    told = list(routes_in_tables("docs/api.md"))
    assert len(told) > 10
    for method, path in told:
        if path not in ("/flush_cache", "/abort_request"):  # which do something; test_server.py has them
            status, text = server.request(method, path.replace("NAME", "tiny"), {} if method == "POST" else None)
            assert status in (200, 400), f"{method} {path}: {text}"
    assert not untold_routes("src/serve/routes.cc", "docs/api.md")


def test_every_field_of_a_native_answer_comes(server):
    told = re.search(r"answers `\{([^}]*)\}`.*?`meta_info` has(.*?) of `\[logprob", (ROOT / "docs/api.md").read_text(), re.S)
    answer = server.post_json("/generate", {"text": "x", "return_logprob": True, "logprob_start_len": 0, "top_logprobs_num": 1,
                                            "sampling_params": {"max_new_tokens": 1}})
    assert set(answer) == set(re.findall(r"\w+", told[1]))
    assert set(answer["meta_info"]) == set(re.findall(r"`(\w+)`", told[2]))


@pytest.fixture(scope="module")
def router(server):
    running = Router("--worker-urls", server.url)
    running.wait_until_up(1)
    yield running
    assert running.stop() == 0


def test_every_route_of_the_router_is_served_and_told(router):
    told = list(routes_in_tables("docs/router.md"))
    assert len(told) > 10
    for method, path in told:
        if method == "GET" and not path.endswith("tokenize"):  # which are behind a GET in their row
            status, text = router.get(path.replace("ID", "worker-1"))
            assert status == 200, f"{path}: {text}"
    assert not untold_routes("src/router/routes.cc", "docs/router.md")


def test_every_metric_is_there(server, router):
    router.client.completions.create(model="tiny", prompt="x", max_tokens=1)  # some are of requests alone
    printed = server.get("/metrics")[1] + router.get("/metrics")[1]
    named = set()
    for page in PAGES:
        for line in page.read_text().splitlines():
            named |= set(re.findall(r"`(hylas(?:_router)?:[a-z]+_[a-z_]+)", line))
            if line.startswith("| `hylas_router:"):  # names behind the first leave the prefix out
                named |= {"hylas_router:" + name for name in re.findall(r", `([a-z_]+)`", line.split("|")[1])}
    assert len(named) > 10
    assert not [name for name in named if f"# TYPE {name} " not in printed]
