"""The demo model's shape and its Hugging Face folder: tokenizer, chat template, image processor and config.

LLaVA-1.5 (arXiv 2310.03744) in small: a CLIP vision tower (arXiv 2103.00020), a two-layer projector, a Llama decoder.
"""

import random

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from drawings import draw
from questions import questions
from small_talk import small_talk

IMAGE_SIZE = 96
PATCH_SIZE = 12
HIDDEN_SIZE = 192
NUM_PATCHES = (IMAGE_SIZE // PATCH_SIZE) ** 2
VOCAB_SIZE = 768
BOS, EOS, PAD, IMAGE = "<s>", "</s>", "<pad>", "<image>"
SYSTEMS = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions. ",
    "You are a helpful assistant. ",
    "Answer in one word. ",
)

# LLaVA-1.5's conversation: pictures first, then text; the assistant's turns end with </s>. Content may be a string.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['content'] is string -%}
{%- set pictures, text = '', message['content'] -%}
{%- else -%}
{%- set pictures = (message['content'] | selectattr('type', 'equalto', 'image') | list | length) * '<image>\\n' -%}
{%- set text = message['content'] | selectattr('type', 'equalto', 'text') | map(attribute='text') | join('\\n') -%}
{%- endif -%}
{%- if message['role'] == 'system' -%}
{{- pictures + text + ' ' -}}
{%- elif message['role'] == 'assistant' -%}
{{- 'ASSISTANT: ' + text -}}{{- '</s>' -}}
{%- else -%}
{{- message['role'] | upper + ': ' + pictures + text + ' ' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- 'ASSISTANT:' -}}
{%- endif -%}
"""


def build_processor() -> LlavaProcessor:
    """Train the tokenizer on a sample of the questions and join it with CLIP's image processor."""
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=train_tokenizer(),
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        model_input_names=["input_ids", "attention_mask"],
    )
    # The whole picture is squashed to a square: a centre crop would cut shapes away.
    square = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return LlavaProcessor(  # type: ignore[no-untyped-call]
        image_processor=CLIPImageProcessorPil(size=square, crop_size=square, do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def train_tokenizer() -> Tokenizer:
    """A byte-level BPE of `VOCAB_SIZE` tokens that encodes any text and gives it back, one token a digit."""
    rng = random.Random("tokenizer")
    asked = [question for seed in range(-1, -1001, -1) for question in questions(draw(seed), rng)]
    asked += [small_talk(rng) for _ in range(2000)]
    corpus = [f"USER: \n{question.text}\nASSISTANT: {question.answer}" for question in asked]
    corpus += [f"USER: {question.text} ASSISTANT: {question.answer}" for question in asked]
    corpus += [system + "USER:" for system in SYSTEMS] * 100

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True, normalized=False) for token in (PAD, BOS, EOS, IMAGE)]
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            special_tokens=special,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    bos_id = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, bos_id)]
    )
    return tokenizer


def build_config(processor: LlavaProcessor) -> LlavaConfig:
    """About 4 million parameters; grouped key-value heads, tied embeddings."""
    tokenizer = processor.tokenizer
    vision = CLIPVisionConfig(
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        hidden_size=HIDDEN_SIZE,
        intermediate_size=768,
        num_hidden_layers=5,
        num_attention_heads=6,
        projection_dim=HIDDEN_SIZE,
    )
    text = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=HIDDEN_SIZE,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=processor.image_token_id,
        image_seq_length=NUM_PATCHES,
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
        tie_word_embeddings=True,
        dtype="bfloat16",
    )
