"""Makes draft2020-12.jsonl from jsonschema's source distribution, which holds the JSON-Schema-Test-Suite.

    pip download --no-deps --no-binary :all: jsonschema==4.26.0
    python tests/json_schema_suite/make.py jsonschema-4.26.0.tar.gz

A line a schema of the suite's required part, with instances and whether they are valid. The suite is MIT-licensed, see
LICENSE beside this file.
"""

import json
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    lines = []
    with tarfile.open(sys.argv[1]) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            folder, _, name = member.name.rpartition("/")
            read = archive.extractfile(member) if folder.endswith("json/tests/draft2020-12") else None
            for group in [] if read is None else json.load(read):
                schema = group["schema"]
                if isinstance(schema, dict) and schema.get("$schema", "").startswith("https://json-schema.org/"):
                    del schema["$schema"]  # the same in all but a few, which have one of their own
                instances = [[test["data"], test["valid"]] for test in group["tests"]]
                line = [name.removesuffix(".json"), group["description"], schema, instances]
                lines.append(json.dumps(line, ensure_ascii=False, separators=(",", ":")))
    (HERE / "draft2020-12.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
