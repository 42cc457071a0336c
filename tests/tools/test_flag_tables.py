"""The documentation's tables of flags and parameters, and what they are made from."""

from dataclasses import fields
from pathlib import Path

from aphrodite.adapters.inbound.cli.vllm_flags import TABLE
from aphrodite.domain.config import EngineConfig, ServerConfig
from aphrodite.domain.prompting.sampling_params import SamplingParams
from flag_tables import on_page_markdown


def test_every_flag_is_in_its_table() -> None:
    ours = on_page_markdown("before <!-- our flags --> behind", page=None)
    assert ours.startswith("before ")
    assert ours.endswith(" behind")
    for config in (EngineConfig, ServerConfig):
        for name in set(config.__dataclass_fields__) - {"model"}:
            assert f"`--{name.replace('_', '-')}`" in ours, name
    vllm = on_page_markdown("<!-- vllm flags -->")
    for flag in TABLE:
        assert all(f"-{name}`" in vllm for name in flag.names)
        assert flag.reason in vllm
    assert on_page_markdown("nothing of them") == "nothing of them"


def test_every_sampling_parameter_is_on_its_page() -> None:
    table = on_page_markdown("<!-- sampling parameters -->")
    by_hand = Path("docs/sampling.md").read_text()
    for field in fields(SamplingParams):
        assert f"| `{field.name}` |" in table or f"`{field.name}`" in by_hand or field.name == "structured_outputs"
    assert "| `min_p` | 0 to 1 | `0.0` |" in table
    assert "| `repetition_penalty` | above 0 | `1.0` |" in table
    assert "| `rep_pen` | `repeat_penalty` |" in table
    assert {line.count("|") for line in table.splitlines()} == {8}
