"""What the config.json of an InternVLChatModel leaves to its own code and to its tokenizer."""

from pathlib import Path
from typing import Any

from aphrodite.adapters.outbound.huggingface.json_file import read_json
from aphrodite.domain.errors import CheckpointError

_IMAGE_TOKEN, _END_OF_TURN = "<IMG_CONTEXT>", "<|im_end|>"


def complete_internvl_chat(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`raw` with its decoder's defaults filled in, where transformers knows the decoder, and with the ids of the image
    token and of the end of a turn, which the model's code looks up by their strings.

    Raises CheckpointError.
    """
    token_ids = _added_token_ids(folder)
    if _IMAGE_TOKEN not in token_ids:
        raise CheckpointError(f"The tokenizer in {folder} has no added token {_IMAGE_TOKEN}, the model's image token.")
    return {
        **raw,
        "llm_config": _completed_decoder(raw.get("llm_config"), folder),
        "dtype": raw.get("dtype") or raw.get("torch_dtype"),
        "image_token_id": token_ids[_IMAGE_TOKEN],
        "eos_token_id": token_ids.get(_END_OF_TURN),
    }


def _completed_decoder(decoder: Any, folder: Path) -> Any:
    """As it is where transformers does not know it: the registry says what runs."""
    from transformers import CONFIG_MAPPING, AutoConfig

    if not isinstance(decoder, dict) or str(decoder.get("model_type")) not in CONFIG_MAPPING:
        return decoder
    try:
        return dict(AutoConfig.for_model(**decoder).to_dict())
    except Exception as error:  # each family validates in its own way
        raise CheckpointError(
            f"The llm_config of {folder / 'config.json'} is not valid for a {decoder['model_type']} model."
        ) from error


def _added_token_ids(folder: Path) -> dict[str, int]:
    """Of the tokens beside the vocabulary; each of these files may have them, or not be there."""
    added, settings, whole = (
        read_json(folder / name) if (folder / name).is_file() else {}
        for name in ("added_tokens.json", "tokenizer_config.json", "tokenizer.json")
    )
    try:
        return {
            **added,
            **{token["content"]: int(index) for index, token in settings.get("added_tokens_decoder", {}).items()},
            **{token["content"]: int(token["id"]) for token in whole.get("added_tokens", [])},
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"The added tokens of the tokenizer in {folder} cannot be read.") from error
