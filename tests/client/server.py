"""Starts `hylas serve` on a golden checkpoint (random weights: its text is noise, but always the same noise)."""
import json
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("HYLAS_BIN", ROOT / "build/release/hylas"))
MODEL = ROOT / "tests/data/goldens/mtp-moe"
READY_WITHIN_S = 120


def free_port():
    """Below those that outgoing connections take: it must still be free when a process binds it, or binds it again."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    def __init__(self, *arguments, environment=None, log=None, port=None):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [PROGRAM, "serve", "--model-path", MODEL, "--port", self.port, "--threads", 2,
                   "--context-length", 2048, "--max-total-tokens", 16384, "--log-level", "warn", *arguments]
        self.process = subprocess.Popen([str(part) for part in command], stderr=log, text=True,
                                        env={**os.environ, **(environment or {})})
        self.wait_until_ready()

    def wait_until_ready(self):
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with exit code {self.process.returncode}")
            try:
                if self.get("/health")[0] == 200:
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the server was not ready in time")

    def request(self, method, path, body=None, headers=None):
        """(status, text) of one request; `body` is JSON or raw bytes."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json", **(headers or {})},
                                         method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body, **more):
        return self.request("POST", path, body, **more)

    def post_json(self, path, body):
        status, text = self.post(path, body)
        assert status == 200, text
        return json.loads(text)

    def stats(self):
        return json.loads(self.get("/server_info")[1])["internal_states"][0]

    def wait_until_idle(self, seconds=60):
        """The engine's statistics once nothing runs any more."""
        deadline = time.monotonic() + seconds
        stats = self.stats()
        busy = ("running_requests", "queued_requests", "slots_used", "pages_used", "transfers")
        while time.monotonic() < deadline and any(stats[name] for name in busy):
            time.sleep(0.05)
            stats = self.stats()
        return stats

    def stop(self, number=signal.SIGTERM, seconds=60):
        """The exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def run(*arguments, environment=None):
    """Runs the program to its end: (exit code, stdout, stderr)."""
    done = subprocess.run([str(PROGRAM), *map(str, arguments)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, **(environment or {})})
    return done.returncode, done.stdout, done.stderr
