"""Prefilling and decoding instances behind a router, as real processes, and a load that checks every text."""
import concurrent.futures
import http.client
import json
import os
import random
import subprocess
import threading
import time

from server import PROGRAM, Server, free_port

SECRET = {"HYLAS_DISAGGREGATION_SECRET": "of the tests"}


class Instance:
    """One instance that can be killed and started again at the same address."""

    def __init__(self, role, *arguments, environment=None):
        self.role = role
        self.port = free_port()
        self.bootstrap_port = free_port() if role == "prefill" else None
        self.arguments = ["--disaggregation-mode", role, *arguments]
        if self.bootstrap_port:
            self.arguments += ["--disaggregation-bootstrap-port", self.bootstrap_port]
        self.environment = {**SECRET, **(environment or {})}
        self.start()

    def start(self):
        self.server = Server(*self.arguments, environment=self.environment, port=self.port)

    def kill(self):
        self.server.process.kill()
        self.server.process.wait()

    def cut_link(self):
        """Ends the connections that states travel over, and only those. False where this machine cannot."""
        known = {self.port, self.bootstrap_port}
        listed = subprocess.run(["ss", "-Htnp", "state", "established"], capture_output=True, text=True)
        cut = 0
        for line in listed.stdout.splitlines():
            local, remote = (int(address.rsplit(":", 1)[1]) for address in line.split()[2:4])
            if f"pid={self.server.process.pid}," not in line or known & {local, remote}:
                continue
            subprocess.run(["ss", "-K", "sport", "=", str(local), "dport", "=", str(remote)], capture_output=True)
            cut += 1
        return cut > 0

    def maps_states(self):
        """Memory of states that it shares with other processes, or that others share with it."""
        maps = open(f"/proc/{self.server.process.pid}/maps").read()
        return "memfd:hylas state" in maps

    def alive(self):
        return self.server.process.poll() is None

    def stop(self):
        return self.server.stop()


class Pair:
    """A router in front of instances. Leaving the context checks that every survivor ends well and holds nothing."""

    def __init__(self, prefills=1, decodes=1, prefill_arguments=(), decode_arguments=(), router_arguments=(),
                 transports="shm,tcp"):
        environment = {"UCX_TLS": transports}
        self.prefills = [Instance("prefill", *prefill_arguments, environment=environment) for _ in range(prefills)]
        self.decodes = [Instance("decode", *decode_arguments, environment=environment) for _ in range(decodes)]
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [PROGRAM, "router", "--port", self.port, *router_arguments]
        for instance in self.prefills:
            command += ["--prefill", instance.server.url, instance.bootstrap_port]
        for instance in self.decodes:
            command += ["--decode", instance.server.url]
        self.router = subprocess.Popen([str(part) for part in command], env=os.environ)
        self.wait_until_ready()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.check_nothing_is_held()
        finally:
            self.router.terminate()
            codes = [instance.stop() for instance in self.instances() if instance.alive()]
            router_code = self.router.wait(60)
        if kind is None:
            assert not any(codes) and router_code == 0

    def instances(self):
        return self.prefills + self.decodes

    def wait_until_ready(self, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.router.poll() is None, "the router ended"
            try:
                if generate(self, [1, 2, 3], 2)["output_ids"]:
                    return
            except (OSError, AssertionError):
                time.sleep(0.05)
        raise RuntimeError("the router was not ready in time")

    def check_nothing_is_held(self):
        for instance in self.instances():
            if not instance.alive():
                continue
            stats = instance.server.wait_until_idle()
            for name in ("pages_used", "slots_used", "transfers", "running_requests", "queued_requests"):
                assert stats[name] == 0, (instance.role, stats)


def body_of(ids, tokens, **more):
    return {"input_ids": ids, "sampling_params": {"temperature": 0, "max_new_tokens": tokens, "ignore_eos": True}, **more}


def generate(pair, ids, tokens):
    connection = http.client.HTTPConnection("127.0.0.1", pair.port, timeout=60)
    connection.request("POST", "/generate", json.dumps(body_of(ids, tokens)), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, text
    return json.loads(text)


def stream(port, body, stop_after=None):
    """(kind, token ids): kind is "ok", "error" (a clear error event or status), "left" (this client went), "broken"."""
    ids = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", "/generate", json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            return "error", ids, answer.read().decode()
        while line := answer.readline():
            line = line.decode().strip()
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                return "ok", ids, ""
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                return "error", ids, json.dumps(event)
            ids = event["output_ids"]
            if stop_after is not None and len(ids) >= stop_after:
                return "left", ids, ""
        return "broken", ids, "the stream ended without [DONE]"
    except (OSError, http.client.HTTPException) as gone:
        return "broken", ids, repr(gone)
    finally:
        connection.close()


class Load:
    """`count` requests in `streams` streams at a time, in the background. Some clients leave in the middle."""

    def __init__(self, port, expected, count=200, streams=8, leave=0.0, seed=1):
        self.port, self.expected, self.count, self.leave = port, expected, count, leave
        self.random = random.Random(seed)
        self.next, self.done, self.lock = 0, 0, threading.Lock()
        self.problems, self.interrupted = [], 0
        self.pool = concurrent.futures.ThreadPoolExecutor(streams)
        self.futures = [self.pool.submit(self.run) for _ in range(streams)]

    def run(self):
        while True:
            with self.lock:
                if self.next >= self.count:
                    return
                index, self.next = self.next, self.next + 1
                stop_after = self.random.randint(0, 8) if self.random.random() < self.leave else None
            prompt, wanted = self.expected[index % len(self.expected)]
            kind, ids, why = stream(self.port, body_of(prompt, len(wanted)), stop_after)
            with self.lock:
                self.done += 1
                self.interrupted += kind == "error" and bool(ids)
                right = ids == wanted[: len(ids)] and (kind != "ok" or ids == wanted)
                told = kind in ("ok", "left") or (kind == "error" and ids)
                if not right or not told:
                    self.problems.append((index, kind, len(ids), why))

    def wait_for(self, requests):
        while self.done < requests and not all(future.done() for future in self.futures):
            time.sleep(0.005)

    def finish(self, seconds=240):
        """Every text was right, and whoever had not been answered was answered in the end."""
        for future in self.futures:
            future.result(timeout=seconds)
        assert self.done == self.count and not self.problems, self.problems[:5]


def expected_texts(server, count=24, tokens=24, seed=7):
    """Prompts with what one instance says to them."""
    generator = random.Random(seed)
    prompts = [[generator.randrange(10, 250) for _ in range(generator.choice((5, 64, 130, 300)))] for _ in range(count)]
    return [(prompt, server.post_json("/generate", body_of(prompt, tokens))["output_ids"]) for prompt in prompts]
