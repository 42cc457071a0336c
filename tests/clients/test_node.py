"""Clients for node, each feature in a process of its own."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.clients.conftest import KEY

FOLDER = Path(__file__).with_name("node")
ALL = ("text", "image", "stream", "structured", "tools")
CLIENTS = {
    "openai": ALL,
    "anthropic": ALL,
    "vercel": ALL,
    "vercel-compatible": ALL,
}


@pytest.mark.parametrize(
    ("client", "feature"), [(client, feature) for client, features in CLIENTS.items() for feature in features]
)
def test_node(url: str, picture: str, client: str, feature: str) -> None:
    script = f"{client.partition('-')[0]}.mjs"
    provider = "compatible" if "-" in client else "openai"
    environment = os.environ | {"SERVER_URL": url, "SERVER_KEY": KEY, "PICTURE": picture, "PROVIDER": provider}
    done = subprocess.run(
        ["node", script, feature], cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
