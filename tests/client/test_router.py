"""`hylas router` in front of whole instances, through OpenAI's own client."""
import concurrent.futures
import time

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from router import Router
from server import Server, run


def instance(*arguments):
    return Server("--served-model-name", "tiny", "--threads", 1, "--max-running-requests", 16, *arguments)


@pytest.fixture(scope="module")
def pair():
    instances = [instance(), instance()]
    router = Router("--worker-urls", *(one.url for one in instances), "--policy", "round_robin")
    router.wait_until_up(2)
    yield router, instances
    assert router.stop() == 0
    assert [one.stop() for one in instances] == [0, 0]


def complete(client, prompt, **more):
    return client.completions.create(model="tiny", prompt=prompt, temperature=0, max_tokens=12, **more)


def test_answers_are_the_instances_own(pair):
    router, instances = pair
    direct = openai.OpenAI(base_url=instances[0].url + "/v1", api_key="none")
    expected = complete(direct, "Hello").choices[0].text
    assert [complete(router.client, "Hello").choices[0].text for _ in range(4)] == [expected] * 4
    assert all(one.stats()["requests_total"] >= 2 for one in instances)
    assert router.client.models.list().data[0].id == "tiny"


def test_streams(pair):
    router, _ = pair
    whole = complete(router.client, "Hello").choices[0].text
    assert "".join(chunk.choices[0].text for chunk in complete(router.client, "Hello", stream=True)) == whole
    chunks = list(router.client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hi"}],
                                                        max_tokens=8, stream=True))
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def test_a_clients_error_comes_through(pair):
    router, _ = pair
    with pytest.raises(openai.BadRequestError, match="temperature"):
        router.client.completions.create(model="tiny", prompt="x", temperature=-1)


def test_a_closed_stream_stops_the_generation(pair):
    router, instances = pair
    stream = router.client.completions.create(model="tiny", prompt="x", max_tokens=1900, stream=True,
                                              extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    assert all(one.wait_until_idle()["slots_used"] == 0 for one in instances)


def test_metrics_parse(pair):
    router, _ = pair
    families = {one.name: one for one in text_string_to_metric_families(router.get("/metrics")[1])}
    assert len(families["hylas_router:worker_up"].samples) == 2
    assert sum(sample.value for sample in families["hylas_router:requests"].samples) >= 1


def test_an_instance_is_killed_under_load():
    instances = [instance(), instance()]
    router = Router("--worker-urls", *(one.url for one in instances), "--policy", "round_robin")
    try:
        router.wait_until_up(2)
        expected = complete(router.client, "Hello").choices[0].text

        def whole(_):
            return complete(router.client, "Hello").choices[0].text

        def streamed(_):
            text = ""
            try:
                for chunk in complete(router.client, "Hello", stream=True):
                    text += chunk.choices[0].text
            except openai.APIError as broken:  # a stream under way says so
                assert text and "the instance is lost" in str(broken), broken
                assert expected.startswith(text)
                return expected
            return text

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(whole if i % 2 else streamed, i) for i in range(80)]
            while sum(answer.done() for answer in answers) < 20:
                time.sleep(0.01)
            instances[0].process.kill()
            assert {answer.result() for answer in answers} == {expected}
        router.wait_until_up(1)
        assert instances[1].wait_until_idle()["slots_used"] == 0
    finally:
        router.stop()
        for one in instances:
            one.process.kill()
            one.process.wait()


@pytest.mark.parametrize("arguments, code, message", [
    (["--help"], 0, ""),
    ([], 2, "--worker-urls"),
    (["--prefill", "http://h:1"], 2, "--prefill without --decode"),
    (["--decode", "http://h:1"], 2, "--decode without --prefill"),
    (["--worker-urls", "h:1"], 2, "'h:1'"),
    (["--worker-urls", "https://h:1"], 3, "https://h:1"),
    (["--worker-urls", "http://h:1", "http://h:1"], 2, "already"),
    (["--prefill", "http://h:1", "x", "--decode", "http://h:2"], 2, "bootstrap port"),
    (["--worker-urls", "http://h:1", "--policy", "best"], 2, "--policy"),
    (["--worker-urls", "http://h:1", "--retry-max-retry", "1"], 2, "did you mean --retry-max-retries?"),
    (["--workers-file", "/no/such/file"], 1, "/no/such/file"),
    (["--pd-disaggregation", "--worker-urls", "http://h:1"], 2, "--pd-disaggregation"),
])
def test_bad_usage(arguments, code, message):
    done, _, log = run("router", *arguments, *([] if "--help" in arguments else ["--port", 0]))
    assert done == code and message in log, log


def test_the_key_of_the_workers_is_not_printed():
    _, _, log = run("router", environment={"HYLAS_WORKER_API_KEY": "hidden"})
    assert "HYLAS_WORKER_API_KEY sets --worker-api-key" in log and "hidden" not in log
