"""A model that calls the function `weather` where it is offered, and then tells of its result.

It is for clients that leave it to the model whether it calls; `python -m tests.clients.caller FOLDER` saves it. What it
says depends on the last token alone, which its chat template chooses.
"""

import sys
from pathlib import Path

import torch
import transformers
from tests.builders import tiny_tokenizer

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
REPLY = "It is sunny in Paris."
_TO_CALL, _TO_REPLY = "<|call|>", "<|reply|>"
_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content or '' }}{{ message.tool_calls or '' }}\n"
    "{% endfor %}{% if add_generation_prompt %}"
    f"{{% if tools and messages[-1].role != 'tool' %}}{_TO_CALL}{{% else %}}{_TO_REPLY}{{% endif %}}"
    "{% endif %}{# calls are written as <tool_call> #}"
)


def save(folder: Path) -> None:
    tokenizer = tiny_tokenizer(folder, image_token=False)
    tokenizer.add_tokens([CALL, REPLY])
    tokenizer.add_tokens([_TO_CALL, _TO_REPLY], special_tokens=True)
    tokenizer.chat_template = _TEMPLATE
    tokenizer.save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=2048, tie_word_embeddings=False, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    call, reply, to_call, to_reply = tokenizer.convert_tokens_to_ids([CALL, REPLY, _TO_CALL, _TO_REPLY])
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.zero_()  # a token's features stay its embedding
        embeddings = model.model.embed_tokens.weight.normal_(generator=torch.Generator().manual_seed(0))
        head = model.lm_head.weight.zero_()
        for last, following in ((to_call, call), (to_reply, reply), (call, tokenizer.eos_token_id)):
            head[following] += embeddings[last]
        head[tokenizer.eos_token_id] += embeddings[reply]
    model.save_pretrained(folder)


if __name__ == "__main__":
    save(Path(sys.argv[1]))
