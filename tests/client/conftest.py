import openai
import pytest
from server import Server


@pytest.fixture(scope="session")
def server():
    """One server for all tests that do not stop it."""
    running = Server("--reasoning-parser", "qwen3", "--tool-call-parser", "qwen3_coder", "--enable-metrics",
                     "--served-model-name", "tiny", "--max-running-requests", 32)
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=60)
