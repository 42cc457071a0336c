"""What the others see when nobody attacks."""

import json

from tests.e2e.attacks.promise import MODEL, http_post, promise_kept, send
from tests.e2e.server_process import ServerProcess


def test_ordinary_requests(demo: ServerProcess) -> None:
    body = {"model": MODEL, "prompt": "USER: Hello\nASSISTANT:", "max_tokens": 2}
    with promise_kept(demo, "no attack"):
        for _ in range(10):
            assert send(demo, http_post("/v1/completions", json.dumps(body).encode()))[0] == 200
