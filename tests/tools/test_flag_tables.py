"""The documentation's tables of flags, and what they are made from."""

from aphrodite.adapters.inbound.cli.vllm_flags import TABLE
from aphrodite.domain.config import EngineConfig, ServerConfig
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
