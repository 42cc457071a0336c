"""The words that families write images and videos with: in their place, around them and between rows of features."""

_LABELLED_SIDE = 6  # tiles; Idefics3 and SmolVLM have labels for no more

IMAGE_WORDS = frozenset({
    "<image>", "<image_placeholder>", "<image_newline>", "<video>",
    "<fake_token_around_image>", "<global-img>",
    "<start_of_image>", "<image_soft_token>", "<end_of_image>",
    "<img>", "<IMG_CONTEXT>", "</img>",
    "[IMG]", "[IMG_BREAK]", "[IMG_END]",
    "<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_pad|>", "<|vision_end|>",
    "<|begin_of_image|>", "<|image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|video|>", "<|end_of_video|>",
    "<|IMAGE_START|>", "<|IMAGE_PLACEHOLDER|>", "<|IMAGE_END|>",
    *(f"<row_{row + 1}_col_{column + 1}>" for row in range(_LABELLED_SIDE) for column in range(_LABELLED_SIDE)),
})  # fmt: skip
"""Where a tokenizer has tokens of these names, no user can write them in a chat."""
