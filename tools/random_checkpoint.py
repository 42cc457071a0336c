"""A checkpoint of random weights with a published model's layers but fewer or smaller ones, for benchmarks.

    python tools/random_checkpoint.py qwen2.5-vl FOLDER     190 million parameters
    python tools/random_checkpoint.py smolvlm FOLDER        SmolVLM-256M's own shapes; a picture is one tile

Saved by transformers, in bfloat16, so that every engine reads it. The tokenizer has a word for each token id.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, models

VOCAB_SIZE = 49152
_TEXT = {"vocab_size": VOCAB_SIZE, "tie_word_embeddings": True, "max_position_embeddings": 8192}
_QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
_SMOL_TOKENS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
_SMOL_TILES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("qwen2.5-vl", "smolvlm"))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    {"qwen2.5-vl": qwen, "smolvlm": smolvlm}[options.model](options.folder)


def qwen(folder: Path) -> None:
    """Qwen2.5-VL: windows, full attention in every fourth layer of the tower, sections of positions."""
    ids = save_tokenizer(folder, _QWEN_TOKENS)
    text = _TEXT | {
        "hidden_size": 768,
        "intermediate_size": 2304,
        "num_hidden_layers": 16,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
    }
    tower = {
        "depth": 12,
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_heads": 8,
        "out_hidden_size": 768,
        "fullatt_block_indexes": [3, 7, 11],
    }
    start_id, end_id, _, image_id, video_id = (ids[token] for token in _QWEN_TOKENS)
    config = transformers.Qwen2_5_VLConfig(
        text_config=text, vision_config=tower, image_token_id=image_id, video_token_id=video_id,
        vision_start_token_id=start_id, vision_end_token_id=end_id, tie_word_embeddings=True,
    )  # fmt: skip
    save(transformers.Qwen2_5_VLForConditionalGeneration(config), folder)
    image = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "size": {"shortest_edge": 3136, "longest_edge": 12845056},
        "processor_class": "Qwen2_5_VLProcessor",
    }
    save_json(folder / "preprocessor_config.json", image)


def smolvlm(folder: Path) -> None:
    """SmolVLM-256M."""
    ids = save_tokenizer(folder, (*_SMOL_TOKENS, *_SMOL_TILES))
    text = _TEXT | {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e5},
    }
    tower = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    config = transformers.SmolVLMConfig(
        text_config=text,
        vision_config=tower | {"image_size": 512, "patch_size": 16},
        image_token_id=ids["<image>"],
        scale_factor=4,
        tie_word_embeddings=True,
    )
    save(transformers.SmolVLMForConditionalGeneration(config), folder)
    image = {
        "image_processor_type": "SmolVLMImageProcessor",
        "size": {"longest_edge": 512},
        "max_image_size": {"longest_edge": 512},
        "processor_class": "SmolVLMProcessor",
    }
    save_json(folder / "preprocessor_config.json", image)
    save_json(folder / "processor_config.json", {"processor_class": "SmolVLMProcessor", "image_seq_len": 64})


def save(model: Any, folder: Path) -> None:
    """Weights as transformers draws them."""
    model.to(torch.bfloat16).save_pretrained(folder)


def save_tokenizer(folder: Path, special: tuple[str, ...]) -> dict[str, int]:
    """Returns the ids of the special tokens, the vocabulary's last."""
    first = VOCAB_SIZE - len(special)
    words = [f"word{token_id}" for token_id in range(first)] + list(special)
    tokenizer = Tokenizer(models.WordLevel({word: token_id for token_id, word in enumerate(words)}, words[0]))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    wrapper: Any = transformers.PreTrainedTokenizerFast
    extra = {"image_token": "<image>", "fake_image_token": special[0], "global_image_token": "<global-img>",
             "end_of_utterance_token": "<end_of_utterance>"} if "<image>" in special else {}  # fmt: skip
    wrapper(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, pad_token=words[0], extra_special_tokens=extra
    ).save_pretrained(folder)
    return {token: first + index for index, token in enumerate(special)}


def save_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
