"""A model's config.json and generation_config.json, read through transformers."""

from pathlib import Path
from typing import Any

from aphrodite.adapters.outbound.huggingface.internvl_chat import complete_internvl_chat
from aphrodite.adapters.outbound.huggingface.json_file import read_json
from aphrodite.domain.errors import CheckpointError, ModelNotFoundError, UnsupportedModelError


def read_config(folder: Path, *, trust_remote_code: bool = False) -> dict[str, Any]:
    """config.json with the defaults of its family filled in, nested configurations included.

    A family that transformers does not know is returned as it is in the file: what runs, quantised weights
    included, is for the registry to say. `trust_remote_code` lets transformers run the configuration class that the
    folder brings.

    Raises ModelNotFoundError without a config.json, CheckpointError for a damaged one, UnsupportedModelError for a
    family that needs code of its own.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    path = folder / "config.json"
    if not path.is_file():
        raise ModelNotFoundError(f"The folder {folder} holds no model: it has no config.json.")
    raw = read_json(path)
    if raw.get("model_type") == "internvl_chat":
        return complete_internvl_chat(raw, folder)
    if str(raw.get("model_type")) not in CONFIG_MAPPING:
        if "auto_map" not in raw:
            return raw
        if not trust_remote_code:
            raise UnsupportedModelError(
                f"The model in {folder} brings code of its own; pass trust_remote_code=True if you trust it."
            )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        return dict(config.to_dict())
    except Exception as error:  # each family validates in its own way, and remote code may raise anything
        raise CheckpointError(f"The configuration {path} is not valid for a {raw.get('model_type')} model.") from error


def read_generation_config(folder: Path) -> dict[str, Any]:
    """generation_config.json, or {} where there is none. Raises CheckpointError for a damaged one."""
    path = folder / "generation_config.json"
    return read_json(path) if path.is_file() else {}
