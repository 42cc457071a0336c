"""Who can do what: the table that docs/clients.md has, from the results of all environments.

`python -m tests.clients.table FOLDER` prints it, and fails where a client failed or the documentation says otherwise.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

FEATURES = ("text", "image", "stream", "structured", "tools", "too_long")
_TITLES = ("client", "text", "image", "stream", "structured output", "tools", "prompt that is too long")
_DOCUMENT = Path("docs/clients.md")


def table(results: Mapping[str, Mapping[str, str]]) -> str:
    """Client by feature, in Markdown; a dash where the client has no such thing, or it is not tried."""
    rows = [_TITLES, tuple("-" * len(title) for title in _TITLES)]
    rows += [(name, *(results[name].get(each, "-") for each in FEATURES)) for name in sorted(results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def main(folder: Path) -> int:
    results: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob("*.json")):
        results |= json.loads(path.read_text())
    found = table(results)
    sys.stdout.write(found)
    failed = [name for name, row in results.items() if "NO" in row.values()]
    if failed:
        sys.stderr.write(f"Failed: {', '.join(failed)}.\n")
    is_documented = found in _DOCUMENT.read_text()
    if not is_documented:
        sys.stderr.write(f"{_DOCUMENT} has another table.\n")
    return int(bool(failed) or not is_documented)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
