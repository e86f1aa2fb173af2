#!/usr/bin/env python3
"""`make demo`: serves the demo model, streams one answer to the terminal, then serves until Ctrl-C (ONCE=1: ends).

Environment: HOST, PORT, MODEL (a checkpoint folder), PROMPT, ONCE, HYLAS_BIN. Ends with 0 and leaves no process behind.
"""
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("HYLAS_BIN") or ROOT / "build/release/hylas")
READY_WITHIN_S = 300
STOP_WITHIN_S = 15


class Stopped(Exception):
    """Ctrl-C or SIGTERM."""


def fail(message):
    sys.exit(f"demo: {message}")


def demo_model():
    if os.environ.get("MODEL"):
        return Path(os.environ["MODEL"])
    trained = ROOT / "models/hylas-tiny"
    if (trained / "config.json").exists():
        return trained
    for config in sorted((ROOT / "tests/data/goldens").glob("*/config.json")):
        print("demo: this checkpoint has random weights, so the answer will be nonsense; it shows the path, not a mind")
        return config.parent
    fail("there is no demo checkpoint; name one: make demo MODEL=/path/to/checkpoint")


def take_terminal():
    """Makes this process the terminal's foreground job, so that Ctrl-C reaches it and not the `make` that runs it."""
    with contextlib.suppress(OSError):
        if os.tcgetpgrp(0) != os.getpgrp():
            return None
        before = os.getpgrp()
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpgrp())
        return before
    return None


def check_port(host, port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            fail(f"cannot listen on {host}:{port}: {problem.strerror}; try another port: make demo PORT={port + 1}")


def stop(server):
    if server.poll() is None:
        server.terminate()
    try:
        server.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def ask(host, port, method, path, body=None, timeout_s=5):
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    return connection.getresponse()


def wait_until_ready(server, host, port):
    started = time.monotonic()
    while time.monotonic() - started < READY_WITHIN_S:
        if server.poll() is not None:
            fail(f"the server ended with exit code {server.returncode} before it was ready")
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ask(host, port, "GET", "/health").status == 200:
                print(f"\rdemo: ready after {time.monotonic() - started:.1f} s" + " " * 20)
                return
        print(f"\rdemo: waiting for http://{host}:{port}/health, {time.monotonic() - started:.0f} s", end="", flush=True)
        time.sleep(0.2)
    fail(f"the server was not ready within {READY_WITHIN_S} s")


def stream_answer(host, port, prompt):
    """Prints the answer as it comes; the number of tokens and the seconds from the first to the last of them."""
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 256,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "chat_template_kwargs": {"enable_thinking": False},
    }
    response = ask(host, port, "POST", "/v1/chat/completions", body, timeout_s=120)
    if response.status != 200:
        fail(f"the server answered {response.status}: {response.read().decode(errors='replace')}")
    tokens, first, last = 0, None, None
    for line in response:
        event = line.decode().strip()
        if not event.startswith("data: ") or event == "data: [DONE]":
            continue
        chunk = json.loads(event.removeprefix("data: "))
        if "error" in chunk:
            fail(f"the server answered: {chunk['error']}")
        for choice in chunk.get("choices", []):
            delta = choice.get("delta", {})
            text = (delta.get("reasoning_content") or "") + (delta.get("content") or "")
            if text:
                last = time.monotonic()
                first = first or last
                print(text, end="", flush=True)
        if chunk.get("usage"):
            tokens = chunk["usage"]["completion_tokens"]
    return tokens, (last - first) if first else 0.0


def serve_and_ask(server, host, port):
    wait_until_ready(server, host, port)
    prompt = os.environ.get("PROMPT") or "Tom has 3 apples and buys 4 more. How many apples does he have?"
    print(f"\nuser> {prompt}\nhylas> ", end="", flush=True)
    tokens, elapsed_s = stream_answer(host, port, prompt)
    rate = f", {(tokens - 1) / elapsed_s:.1f} tokens/s" if tokens > 1 and elapsed_s > 0 else ""
    print(f"\n\ndemo: {tokens} tokens{rate}")
    if os.environ.get("ONCE"):
        return
    print(f"demo: serving on http://{host}:{port}/v1 until Ctrl-C; in another terminal, for example:")
    print(f"  curl http://{host}:{port}/v1/chat/completions -H 'Content-Type: application/json' \\")
    print("""    -d '{"model": "default", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 64}'""")
    server.wait()
    fail(f"the server ended with exit code {server.returncode}")


def on_signal(number, frame):
    raise Stopped


def main():
    host, port = os.environ.get("HOST") or "127.0.0.1", int(os.environ.get("PORT") or 30000)
    model = demo_model()
    check_port(host, port)
    terminal_owner = take_terminal()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    command = [PROGRAM, "serve", "--model-path", model, "--host", host, "--port", port]
    command = [str(part) for part in command]
    print("demo: " + " ".join(command), flush=True)
    # A session of its own: a Ctrl-C is for this script, which then stops the server in order.
    server = subprocess.Popen(command, start_new_session=True)
    try:
        serve_and_ask(server, host, port)
    except Stopped:
        print("\ndemo: stopping")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        stop(server)
        if terminal_owner is not None:
            os.tcsetpgrp(0, terminal_owner)


if __name__ == "__main__":
    main()
