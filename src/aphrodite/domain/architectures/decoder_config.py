"""What the configurations of all decoder families share."""

import math
from collections.abc import Mapping

from aphrodite.domain.architectures.activation import Activation
from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.spec import AttentionSpec, DecoderSpec, RopeSpec

_ROPE_TYPES = ("default", "dynamic", "linear", "llama3", "yarn", "longrope")
_LAYER_TYPES = ("full_attention", "sliding_attention")


def read_decoder(
    config: ConfigFields,
    *,
    qkv_bias: bool,
    output_bias: bool,
    mlp_bias: bool = False,
    qk_norm: bool = False,
    windows: tuple[int | None, ...] | None = None,
    attention_scale: float | None = None,
    attention_softcap: float | None = None,
    activation: Activation | None = None,
    partial_rotation: bool = False,
) -> DecoderSpec:
    """A decoder from its configuration and from what its family says.

    `windows` None is full attention throughout; `attention_scale` None 1 / sqrt(head size), as most have it;
    `activation` None what the configuration calls `hidden_act`; with `partial_rotation` the file says how much of a
    head turns.

    Raises UnsupportedModelError for a value that we cannot run.
    """
    hidden_size, num_heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    num_kv_heads = config.integer("num_key_value_heads") if config.has("num_key_value_heads") else num_heads
    if num_heads % num_kv_heads != 0:
        raise config.unsupported("num_key_value_heads", f"a divisor of the {num_heads} attention heads")
    head_dim = config.integer("head_dim") if config.has("head_dim") else hidden_size // num_heads
    if head_dim % 2 != 0:
        raise config.unsupported("head_dim", "an even number")
    num_layers = config.integer("num_hidden_layers")
    scale = attention_scale or head_dim**-0.5
    return DecoderSpec(
        vocab_size=config.integer("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=config.integer("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_position=config.integer("max_position_embeddings"),
        rms_norm_eps=config.number("rms_norm_eps"),
        ropes=_read_ropes(config, num_layers, head_dim, partial_rotation),
        activation=activation or config.activation("hidden_act"),
        qkv_bias=qkv_bias,
        output_bias=output_bias,
        mlp_bias=mlp_bias,
        qk_norm=qk_norm,
        attention=tuple(AttentionSpec(scale, window, attention_softcap) for window in windows or (None,) * num_layers),
        experts=(None,) * num_layers,
        tied_embeddings=config.flag("tie_word_embeddings"),
    )


def check_sections(config: ConfigFields, decoder: DecoderSpec) -> None:
    """Raises UnsupportedModelError where nothing says what turns by rows and what by columns."""
    if not all(rope.sections for rope in decoder.ropes):
        raise config.section("rope_parameters").unsupported("mrope_section", "three numbers")


def read_layer_windows(config: ConfigFields) -> tuple[int | None, ...]:
    """[L] the sliding windows of a configuration with a `layer_types` list.

    A file from before that list has `max_window_layers`: so many layers keep full attention, those above slide.
    """
    num_layers = config.integer("num_hidden_layers")
    window = config.integer("sliding_window") if config.values.get("sliding_window") else None  # 0: none, too
    types = config.values.get("layer_types")
    if types is None:
        if not config.flag("use_sliding_window") or window is None:
            return (None,) * num_layers
        num_full = config.integer("max_window_layers", low=0)
        return tuple(window if i >= num_full else None for i in range(num_layers))
    if not isinstance(types, list | tuple) or len(types) != num_layers or not set(types) <= set(_LAYER_TYPES):
        raise config.unsupported("layer_types", f"a list of {num_layers}, each one of {', '.join(_LAYER_TYPES)}")
    if "sliding_attention" in types and window is None:
        raise config.unsupported("sliding_window", "a number of tokens, as layer_types asks for one")
    return tuple(window if kind == "sliding_attention" else None for kind in types)


def _read_ropes(config: ConfigFields, num_layers: int, head_dim: int, is_partial: bool) -> tuple[RopeSpec, ...]:
    """[L], where a configuration has one for each kind of layer, or one for all."""
    ropes = config.section("rope_parameters")
    if not any(isinstance(value, Mapping) for value in ropes.values.values()):
        return (_read_rope(config, ropes, head_dim, is_partial),) * num_layers
    read_layer_windows(config)  # looks through the list of kinds
    kinds = config.values.get("layer_types") or ["full_attention"] * num_layers
    by_kind = {kind: _read_rope(config, ropes.section(kind), head_dim, is_partial) for kind in dict.fromkeys(kinds)}
    return tuple(by_kind[kind] for kind in kinds)


def _read_rope(config: ConfigFields, rope: ConfigFields, head_dim: int, is_partial: bool) -> RopeSpec:
    theta, kind = rope.number("rope_theta"), rope.choice("rope_type", _ROPE_TYPES)
    num_rotated = _read_num_rotated(rope, head_dim, is_partial)
    if rope.has("mrope_section"):
        sections, num_pairs = rope.values["mrope_section"], (num_rotated or head_dim) // 2
        if kind != "default" or not isinstance(sections, list | tuple) or len(sections) != 3:
            raise rope.unsupported("mrope_section", "three numbers, and rope_type default")
        if not all(type(size) is int and size >= 0 for size in sections) or sum(sections) != num_pairs:
            raise rope.unsupported("mrope_section", f"three numbers that add up to the {num_pairs} pairs that turn")
        return RopeSpec(theta, sections=tuple(sections), num_rotated=num_rotated)
    if kind == "linear":
        return RopeSpec(theta, "linear", rope.number("factor"), num_rotated=num_rotated)
    if kind == "llama3":
        return RopeSpec(
            theta,
            "llama3",
            rope.number("factor"),
            low_freq_factor=rope.number("low_freq_factor"),
            high_freq_factor=rope.number("high_freq_factor"),
            original_max_position=rope.integer("original_max_position_embeddings"),
            num_rotated=num_rotated,
        )
    if kind == "yarn":
        if num_rotated is not None:
            raise rope.unsupported("partial_rotary_factor", "1 with rope_type yarn")
        return _read_yarn(rope, theta)
    if kind == "longrope":
        return _read_longrope(config, rope, theta, num_rotated, (num_rotated or head_dim) // 2)
    return RopeSpec(theta, num_rotated=num_rotated)  # dynamic too: it stretches beyond max_position_embeddings alone


def _read_yarn(rope: ConfigFields, theta: float) -> RopeSpec:
    if rope.values.get("truncate") is False:
        raise rope.unsupported("truncate", "true")
    factor = rope.number("factor")
    amplitude = rope.optional_number("attention_factor")
    if amplitude is None:
        scale, scale_all = rope.optional_number("mscale"), rope.optional_number("mscale_all_dim")
        scales = (scale, scale_all) if scale and scale_all else (1.0, 0.0)
        grown, grown_all = (1 + 0.1 * each * math.log(max(factor, 1.0)) for each in scales)
        amplitude = grown / grown_all
    return RopeSpec(
        theta,
        "yarn",
        factor,
        original_max_position=rope.integer("original_max_position_embeddings"),
        beta_fast=rope.optional_number("beta_fast") or 32.0,
        beta_slow=rope.optional_number("beta_slow") or 1.0,
        amplitude=amplitude,
    )


def _read_longrope(
    config: ConfigFields, rope: ConfigFields, theta: float, num_rotated: int | None, num_pairs: int
) -> RopeSpec:
    """With `attention_factor`, or one by how far the contexts were stretched."""

    def stretches(name: str) -> tuple[float, ...]:
        given = rope.values.get(name)
        if not isinstance(given, list | tuple) or len(given) != num_pairs or not all(map(_is_above_zero, given)):
            raise rope.unsupported(name, f"a list of {num_pairs} numbers above 0, one for each pair that turns")
        return tuple(map(float, given))

    holder = rope if rope.has("original_max_position_embeddings") else config
    original = holder.integer("original_max_position_embeddings", low=2)
    factor = rope.optional_number("factor") or config.integer("max_position_embeddings") / original
    grown = math.sqrt(1 + math.log(max(factor, 1.0)) / math.log(original))
    return RopeSpec(
        theta,
        "longrope",
        original_max_position=original,
        stretches=stretches("short_factor"),
        long_stretches=stretches("long_factor"),
        amplitude=rope.optional_number("attention_factor") or grown,
        num_rotated=num_rotated,
    )


def _is_above_zero(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def _read_num_rotated(rope: ConfigFields, head_dim: int, is_partial: bool) -> int | None:
    share = rope.optional_number("partial_rotary_factor")
    if share is None or share == 1:
        return None
    if not is_partial:
        raise rope.unsupported("partial_rotary_factor", "1, a rotation of the whole head")
    num_rotated = int(head_dim * share)
    if num_rotated % 2 != 0 or not 0 < num_rotated <= head_dim:
        raise rope.unsupported("partial_rotary_factor", f"a share of the head's {head_dim} numbers, an even one")
    return num_rotated
