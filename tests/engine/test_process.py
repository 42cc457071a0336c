"""The engine's process by itself: what it says over its socket, and how it ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
import zmq
from tests.engine.engines import CRASH_TOKEN, ROOMY, build, build_badly, build_none

from aphrodite.domain.errors import AphroditeError, EngineDeadError, ModelNotFoundError, PromptTooLongError
from aphrodite.domain.generation.delta import SequenceDelta
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.engine.engine import Engine, EngineRequest
from aphrodite.engine.messages import (
    Abort,
    AbortSequence,
    EngineMessage,
    Failed,
    Heartbeat,
    Ready,
    Refused,
    Shutdown,
    StepDone,
    decode_for_client,
    encode_for_engine,
)
from aphrodite.engine.process import EXIT_REPORTED, MAX_MESSAGES_UNDER_WAY, run_engine

TIMEOUT_S = 20.0


class Peer:
    """The client's end of the socket, blocking."""

    def __init__(self, socket: "zmq.Socket[bytes]", process: SpawnProcess) -> None:
        self.process = process
        self._socket = socket

    def send(self, *messages: EngineRequest | Abort | AbortSequence | Shutdown) -> None:
        for message in messages:
            self._socket.send_multipart(encode_for_engine(message))

    def receive(self) -> EngineMessage:
        while True:
            assert self._socket.poll(TIMEOUT_S * 1000), "the process said nothing"
            message = decode_for_client(self._socket.recv())
            if not isinstance(message, Heartbeat):
                return message

    def heartbeat(self) -> None:
        assert self._socket.poll(TIMEOUT_S * 1000), "the process said nothing"
        assert isinstance(decode_for_client(self._socket.recv()), Heartbeat)

    def step(self) -> StepDone:
        message = self.receive()
        assert isinstance(message, StepDone)
        return message

    def ended(self) -> int | None:
        self.process.join(TIMEOUT_S)
        return self.process.exitcode


@contextmanager
def running(folder: Path, builder: Callable[[], Engine]) -> Iterator[Peer]:
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        socket.linger = 0
        socket.rcvhwm = MAX_MESSAGES_UNDER_WAY
        socket.bind(f"ipc://{folder / 'engine'}")
        process = multiprocessing.get_context("spawn").Process(target=run_engine, args=(builder, folder / "engine"))
        process.start()
        try:
            yield Peer(socket, process)
        finally:
            process.kill()
            process.join()
            process.close()


def request(request_id: str, *token_ids: int, n: int = 1, max_tokens: int = 3) -> EngineRequest:
    return EngineRequest(request_id, list(token_ids), SamplingParams(n=n, max_tokens=max_tokens, temperature=0.0))


def test_one_message_a_step_and_statistics_that_come_to_rest(tmp_path: Path) -> None:
    with running(tmp_path, partial(build, step_s=0.005)) as peer:
        ready = peer.receive()
        assert isinstance(ready, Ready)
        assert ready.limits == ROOMY
        num_measured = min(256, ROOMY.max_model_len)
        assert ready.longest_step_s >= 0.005 * ROOMY.max_num_batched_tokens / num_measured

        peer.send(request("a", 20, 21, 22, 23, 24))
        steps = [peer.step() for _ in range(3)]
        assert [[delta.request_id for delta in step.deltas] for step in steps] == [["a"]] * 3
        assert [step.deltas[0].finish_reason for step in steps] == [None, None, "length"]
        assert steps[0].stats.num_running == 1
        assert steps[0].stats.kv_cache_usage == pytest.approx(2 / (ROOMY.num_blocks - 1))
        assert steps[2].stats.num_running == steps[2].stats.kv_cache_usage == 0

        peer.send(request("b", 20, 21, 22, 23, 24, max_tokens=1))
        stats = peer.step().stats
        assert (stats.num_prefix_cache_queries, stats.num_prefix_cache_hits) == (10, 4)

        # An abort makes no delta, but the statistics tell of it, although nothing is left to step for.
        peer.send(request("c", *range(20, 30), max_tokens=400))
        while not (step := peer.step()).deltas:
            pass
        peer.send(Abort("c"), Abort("never heard of"))
        while step.stats.kv_cache_usage:
            step = peer.step()
        assert step.stats.num_running == 0

        peer.send(request("d", 30, 31, n=2, max_tokens=400))
        seen: list[SequenceDelta] = []
        while {delta.index for delta in seen} != {0, 1}:
            seen += peer.step().deltas
        peer.send(AbortSequence("d", 0))
        while peer.step().stats.num_running != 1:
            pass
        assert {delta.index for _ in range(3) for delta in peer.step().deltas} == {1}

        peer.send(Shutdown())
        assert peer.ended() == 0


def test_it_says_that_it_lives_as_soon_as_it_can_and_while_it_waits(tmp_path: Path) -> None:
    with running(tmp_path, build) as peer:
        peer.heartbeat()
        assert isinstance(peer.receive(), Ready)
        peer.heartbeat()
        peer.heartbeat()
        peer.send(request("a", 20, max_tokens=1))
        assert peer.step().deltas[0].finish_reason == "length"


def test_a_refused_request_is_answered_and_the_others_go_on(tmp_path: Path) -> None:
    with running(tmp_path, build) as peer:
        peer.receive()
        peer.send(request("long", *range(600)), request("b", 20, max_tokens=1))
        refused = peer.receive()
        assert isinstance(refused, Refused)
        assert (refused.request_id, type(refused.error)) == ("long", PromptTooLongError)
        assert str(refused.error).startswith(
            "This model's maximum context length is 512 tokens. However, you requested 601 "
        )
        assert [delta.request_id for delta in peer.step().deltas] == ["b"]


def test_an_engine_that_breaks_says_so_and_exits(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path, build) as peer:
        peer.receive()
        peer.send(request("a", CRASH_TOKEN))
        failed = peer.receive()
        assert isinstance(failed, Failed)
        assert type(failed.error) is EngineDeadError
        assert str(failed.error) == "The engine broke; its log says why."
        assert peer.ended() == EXIT_REPORTED
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("builder", "error"),
    [
        (build_none, ModelNotFoundError("No model is at nowhere/at-all.")),
        (build_badly, EngineDeadError("The engine broke; its log says why.")),
    ],
)
def test_an_engine_that_cannot_be_built_says_why(
    tmp_path: Path, builder: Callable[[], Engine], error: AphroditeError
) -> None:
    with running(tmp_path, builder) as peer:
        failed = peer.receive()
        assert isinstance(failed, Failed)
        assert (type(failed.error), str(failed.error)) == (type(error), str(error))
        assert peer.ended() == EXIT_REPORTED


def test_ctrl_c_and_sigterm_are_the_parents_to_judge(tmp_path: Path) -> None:
    with running(tmp_path, build) as peer:
        peer.receive()
        assert peer.process.pid is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(peer.process.pid, number)
        peer.send(request("a", 20, max_tokens=1))
        assert peer.step().deltas[0].finish_reason == "length"


@pytest.mark.parametrize("engine", ["build", "functools.partial(engines.build_slowly, sys.argv[1])"])
@pytest.mark.parametrize("stopped", [False, True])
def test_it_ends_with_its_parent_however_that_ends(tmp_path: Path, engine: str, stopped: bool) -> None:
    """While it serves, and while the engine is being built; even while it is stopped itself."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.replace("ENGINE", engine), tmp_path / "started", tmp_path / "engine"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child_pid = int(parent.stdout.readline())
    if stopped:
        os.kill(child_pid, signal.SIGSTOP)
    parent.kill()
    try:
        # The child holds the other end of this pipe too: it is at its end when both are gone.
        assert parent.communicate(timeout=TIMEOUT_S) == ("", None)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child_pid, signal.SIGKILL)


PARENT = textwrap.dedent("""
    import functools, multiprocessing, pathlib, sys, time
    from aphrodite.engine.process import run_engine
    from tests.engine import engines
    from tests.engine.engines import build

    if __name__ == "__main__":
        import zmq
        socket = zmq.Context().socket(zmq.PAIR)
        socket.bind(f"ipc://{sys.argv[2]}")
        arguments = (ENGINE, pathlib.Path(sys.argv[2]))
        process = multiprocessing.get_context("spawn").Process(target=run_engine, args=arguments)
        process.start()
        if arguments[0] is build:
            while b"ready" not in socket.recv():
                pass
        else:
            while not pathlib.Path(sys.argv[1]).exists():
                time.sleep(0.01)
        print(process.pid, flush=True)
        time.sleep(3600)
""")


def test_it_is_no_function_for_every_process(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(RuntimeError, match="the body of a process"):
        run_engine(build, tmp_path / "engine")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_engine_that_is_faster_than_its_client_waits_for_it(tmp_path: Path) -> None:
    """Its news would lie there in ever longer a row, and those of a request that comes later behind them."""
    with running(tmp_path, build) as peer:
        peer.receive()
        peer.send(request("a", 20, 21, n=64, max_tokens=500))
        first = peer.step()
        time.sleep(2)  # nobody takes what comes
        peer.send(Abort("a"), request("b", 20, 22, max_tokens=1))
        num_steps = 0
        while "b" not in {delta.request_id for delta in peer.step().deltas}:
            num_steps += 1
        assert len(first.deltas) > 0
        assert num_steps < 150
        peer.send(request("c", 20, 21, n=64, max_tokens=500))
        peer.step()
        peer.send(Shutdown())
        while peer.process.is_alive():
            if peer._socket.poll(100):
                peer._socket.recv()
        assert peer.ended() == 0
