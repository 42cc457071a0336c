"""Ten minutes of mixed requests to a real server, and what its processes' memory does meanwhile.

    python -m tests.e2e.soak [MINUTES]

prints memory that no file backs, in MiB, and ends with 1 where it grows still in the second half.
"""

import base64
import io
import json
import random
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.e2e.attacks.process_tree import bytes_of, tree
from tests.e2e.server_process import SMALL, ServerProcess, running

_NUM_CLIENTS, _NUM_PICTURES = 6, 50
_MAX_GROWTH_MIB = 32.0  # in the second half


def picture(number: int) -> str:
    """A data: URL; every picture has a size and contents of its own."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (200 + 40 * (number % 20), 300 + 30 * (number % 17), 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, ("JPEG", "PNG", "WEBP")[number % 3])
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def any_request(rng: random.Random, pictures: list[str]) -> tuple[str, dict[str, Any]]:
    """One of what people ask: with a picture, short, long, several answers, log-probabilities."""
    common = {"model": "demo", "max_tokens": rng.randint(1, 100), "ignore_eos": True, "temperature": 1}
    kind = rng.randrange(5)
    if kind < 2:
        parts = [
            {"type": "text", "text": "What is the content of this image?"},
            {"type": "image_url", "image_url": {"url": rng.choice(pictures)}},
        ]
        return "/v1/chat/completions", common | {"messages": [{"role": "user", "content": parts}]}
    prompt = [rng.randrange(10, 200) for _ in range(rng.randint(1, 20) if kind == 2 else rng.randint(1, 800))]
    more = {"n": rng.randint(1, 16)} if kind == 3 else {"logprobs": 5, "echo": rng.random() < 0.5}
    return "/v1/completions", common | {"prompt": prompt} | more


def ask(url: str, seed: int, pictures: list[str], ends_s: float) -> None:
    rng = random.Random(seed)
    while time.monotonic() < ends_s:
        path, body = any_request(rng, pictures)
        asked = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=120) as answer:
            answer.read()


def weigh(server: ServerProcess) -> tuple[float, float, float]:
    """MiB of the HTTP server, of the engine, and of those that decode pictures."""
    pid, engines = server.process.pid, server.engine_pids()
    others = [bytes_of(other) for other in tree(pid) if other not in (pid, *engines)]
    return bytes_of(pid) / 2**20, sum(map(bytes_of, engines)) / 2**20, sum(others) / 2**20


def main(minutes: float) -> int:
    pictures = [picture(number) for number in range(_NUM_PICTURES)]
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "log", "demo", *SMALL) as server:
        started_s, totals = time.monotonic(), list[float]()
        ends_s = started_s + 60 * minutes
        clients = [
            threading.Thread(target=ask, args=(server.url, seed, pictures, ends_s)) for seed in range(_NUM_CLIENTS)
        ]
        print("seconds  server  engine  pictures  total, MiB", flush=True)
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            http, engine, rest = weigh(server)
            totals.append(http + engine + rest)
            print(
                f"{time.monotonic() - started_s:7.0f} {http:7.1f} {engine:7.1f} {rest:9.1f} {totals[-1]:6.1f}",
                flush=True,
            )
            time.sleep(3 * minutes)
        num_answers = server.log.count(" 200 in ")
    half = len(totals) // 2
    growth = max(totals[half:]) - max(totals[:half])
    print(f"{num_answers} answers; {growth:+.1f} MiB from the first half's peak to the second's")
    return int(growth > _MAX_GROWTH_MIB)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0))
