"""Starts `hylas router`."""
import json
import signal
import subprocess
import time
import urllib.error
import urllib.request

import openai
from server import PROGRAM, free_port


class Router:
    def __init__(self, *arguments):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [PROGRAM, "router", "--port", self.port, "--log-level", "warn", *arguments]
        self.process = subprocess.Popen([str(part) for part in command])
        self.client = openai.OpenAI(base_url=self.url + "/v1", api_key="none", max_retries=0, timeout=60)

    def get(self, path):
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def wait_until_up(self, workers, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                listed = json.loads(self.get("/workers")[1])["workers"]
                if sum(worker["is_healthy"] for worker in listed) == workers:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"not {workers} workers are up: {listed}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)
