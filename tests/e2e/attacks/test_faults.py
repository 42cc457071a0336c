"""Faults: whatever hangs or dies, every request is answered, and soon the server serves again."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.e2e.attacks.process_tree import tree, tree_cpu_s
from tests.e2e.attacks.promise import MODEL, http_post, send
from tests.e2e.attacks.test_pictures import question
from tests.e2e.conftest import picture
from tests.e2e.server_process import SMALL, ServerProcess, running

NUM_REQUESTS = 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running(tmp_path / "log", "demo", *SMALL, "--step-timeout", "5") as process:
        yield process


def long_answer(number: int) -> bytes:
    body = {"model": MODEL, "prompt": [10 + number, 9, 9], "max_tokens": 900, "ignore_eos": True}
    return http_post("/v1/completions", json.dumps(body).encode(), "Connection: close")


def text(server: ServerProcess) -> int:
    body = {"model": MODEL, "prompt": "USER: Hello\nASSISTANT:", "max_tokens": 2}
    return send(server, http_post("/v1/completions", json.dumps(body).encode(), "Connection: close"))[0]


def time_until_served(server: ServerProcess, within_s: float = 90) -> float:
    began_s = time.monotonic()
    while text(server) != 200:
        assert time.monotonic() - began_s < within_s, server.log[-2000:]
        time.sleep(0.05)
    return time.monotonic() - began_s


@pytest.mark.attack
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_an_engine_that_is_lost_under_40_requests(server: ServerProcess, number: signal.Signals) -> None:
    [engine] = server.engine_pids()
    with ThreadPoolExecutor(NUM_REQUESTS) as pool:
        answers = [pool.submit(send, server, long_answer(index), timeout_s=120) for index in range(NUM_REQUESTS)]
        server.wait_for_metric("num_requests_running", NUM_REQUESTS)
        os.kill(engine, number)
        lost_s = time.monotonic()
        statuses = [answer.result()[0] for answer in answers]
        answered_s = time.monotonic() - lost_s
    served_s = answered_s + time_until_served(server)
    [successor] = server.engine_pids()
    print(
        f"\n{number.name} of the engine under {NUM_REQUESTS} requests: all answered after {answered_s:.2f} s, served"
        f" again after {served_s:.2f} s; the new engine took {tree_cpu_s(server.process.pid)[successor]:.2f} CPU s;"
        f" load {os.getloadavg()[0]:.1f}"
    )
    assert set(statuses) == {503}
    assert successor != engine


@pytest.mark.attack
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_workers_that_are_lost_are_replaced_and_text_goes_on(server: ServerProcess, number: signal.Signals) -> None:
    """A stopped one keeps its picture until the deadline of a minute; others are read by the next."""
    pids = tree(server.process.pid)
    readers = [pid for pid in pids if b"nursery" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    workers = [
        pid
        for pid in readers
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] in map(str, readers)
    ]
    assert len(workers) >= 2
    os.kill(workers[0], number)
    with ThreadPoolExecutor(4) as pool:
        questions = [question(picture("rgb", (9, 9, index))) for index in range(4)]
        asked = [pool.submit(send, server, asked, timeout_s=120) for asked in questions]
        began_s = time.monotonic()
        assert text(server) == 200
        text_s = time.monotonic() - began_s
        statuses = [answer.result()[0] for answer in asked]
    load = os.getloadavg()[0]
    print(f"\n{number.name} of a worker: statuses {statuses}, text beside it {text_s:.2f} s; load {load:.1f}")
    assert sorted(statuses) == ([200] * 4 if number is signal.SIGKILL else [200, 200, 200, 400])
    assert send(server, question(picture("rgb", (9, 9, 99))))[0] == 200
