"""Kobold's names of sampling parameters to ours; the model's own where a request says nothing."""

import dataclasses
from collections.abc import Iterable

from aphrodite.adapters.inbound.http.form_names import naming_form
from aphrodite.adapters.inbound.http.kobold.protocol import KoboldRequest
from aphrodite.adapters.inbound.http.sampling_fields import KOBOLD, given
from aphrodite.domain.prompting.sampler_order import parse_kobold_order
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs

DEFAULT_MAX_LENGTH = 512
FORM_FIELD = "grammar"

_BANNED = -100.0  # what is added to a logit


def kobold_sampling(asked: KoboldRequest, default: SamplingParams, eos_token_ids: Iterable[int]) -> SamplingParams:
    """Raises SamplingParamsError."""
    sampling = given(asked, KOBOLD)
    if asked.sampler_seed is not None and asked.sampler_seed >= 0:
        sampling["seed"] = asked.sampler_seed
    if asked.dynatemp_range:
        temperature = sampling.get("temperature", default.temperature)
        sampling["dynatemp_min"] = max(temperature - asked.dynatemp_range, 0.0)
        sampling["dynatemp_max"] = temperature + asked.dynatemp_range
    if asked.sampler_order:
        sampling["sampler_priority"] = parse_kobold_order(asked.sampler_order)
    if asked.dry_penalty_last_n is not None:
        sampling["dry_range"] = max(asked.dry_penalty_last_n, 0)
    if asked.dry_sequence_breakers is not None:
        sampling["dry_sequence_breakers"] = [words for words in asked.dry_sequence_breakers if words]
    if asked.banned_tokens is not None:
        sampling["bad_words"] = [words for words in asked.banned_tokens if words.strip()]
    bias = dict(asked.logit_bias or {})
    if asked.ban_eos_token or asked.use_default_badwordsids:
        bias |= dict.fromkeys(eos_token_ids, _BANNED)
    form = None
    if asked.grammar:
        with naming_form(FORM_FIELD):
            form = StructuredOutputs(grammar=asked.grammar)
    return dataclasses.replace(
        default,
        max_tokens=asked.max_length or DEFAULT_MAX_LENGTH,
        stop=[words for words in asked.stop_sequence or () if words],
        include_stop_str_in_output=asked.trim_stop is False,
        skip_special_tokens=not asked.render_special,
        logit_bias=bias,
        structured_outputs=form,
        **sampling,
    )
