"""What shapes the distribution that a token is drawn from: the next sampler is an entry here, and a line a backend."""

from dataclasses import dataclass
from typing import Annotated

from aphrodite.domain.errors import SamplingParamsError
from aphrodite.domain.prompting.parameter import Parameter, table_of
from aphrodite.domain.prompting.sampler_order import in_order, parse_priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Samplers:
    """The part of SamplingParams that is about distributions.

    Parameters with one `stage` belong together; the first of them says whether the stage runs: where it is not at its
    default. Stages run in the order in which they stand here, unless a request says otherwise.
    """

    temperature: Annotated[
        float,
        Parameter(
            "divides the logits; 0: the most likely token",
            low=0,
            stage="temperature",
            kobold="temperature",
            ollama="temperature",
        ),
    ] = 1.0
    dynatemp_max: Annotated[
        float,
        Parameter(
            "takes the place of the temperature where it is above 0: what the flattest distribution is divided by",
            low=0,
            source="arXiv 2309.02772",
            stage="dynatemp",
        ),
    ] = 0.0
    dynatemp_min: Annotated[
        float,
        Parameter(
            "what the sharpest distribution is divided by; between them the entropy decides", low=0, stage="dynatemp"
        ),
    ] = 0.0
    dynatemp_exponent: Annotated[
        float,
        Parameter(
            "of the entropy, as a share of the largest there could be",
            low=0,
            stage="dynatemp",
            kobold="dynatemp_exponent",
        ),
    ] = 1.0
    nsigma: Annotated[
        float,
        Parameter(
            "keeps logits at most so many standard deviations below the largest; 0: all",
            low=0,
            source="arXiv 2411.07641",
            stage="nsigma",
            kobold="nsigma",
        ),
    ] = 0.0
    top_k: Annotated[
        int,
        Parameter(
            "keeps so many of the most likely tokens; 0 or -1: all",
            low=-1,
            source="arXiv 1805.04833",
            stage="top_k",
            kobold="top_k",
            ollama="top_k",
        ),
    ] = 0
    top_p: Annotated[
        float,
        Parameter(
            "keeps the most likely tokens that together have this probability; 0: the most likely token",
            low=0,
            high=1,
            source="arXiv 1904.09751",
            stage="top_p",
            kobold="top_p",
            ollama="top_p",
        ),
    ] = 1.0
    top_a: Annotated[
        float,
        Parameter(
            "keeps tokens with this share of the square of the largest probability",
            low=0,
            source="KoboldAI-Client 115",
            stage="top_a",
            kobold="top_a",
        ),
    ] = 0.0
    min_p: Annotated[
        float,
        Parameter(
            "keeps tokens with this share of the largest probability",
            low=0,
            high=1,
            source="arXiv 2407.01082",
            stage="min_p",
            kobold="min_p",
            ollama="min_p",
        ),
    ] = 0.0
    tfs: Annotated[
        float,
        Parameter(
            "keeps the most likely tokens up to this share of the curvature of the sorted probabilities",
            above=0,
            high=1,
            source="Phénix and Egan 2019, Tail Free Sampling",
            stage="tfs",
            kobold="tfs",
            ollama="tfs_z",
        ),
    ] = 1.0
    eta_cutoff: Annotated[
        float,
        Parameter(
            "keeps probabilities of at least eps, or sqrt(eps) * exp(-entropy) where that is less; in units of 1e-4",
            low=0,
            source="arXiv 2210.15191",
            stage="eta_cutoff",
            kobold="eta_cutoff",
        ),
    ] = 0.0
    epsilon_cutoff: Annotated[
        float,
        Parameter(
            "keeps probabilities of at least this, in units of 1e-4",
            low=0,
            high=1000,
            source="arXiv 2210.15191",
            stage="epsilon_cutoff",
            kobold="epsilon_cutoff",
        ),
    ] = 0.0
    typical_p: Annotated[
        float,
        Parameter(
            "keeps the tokens whose surprise is nearest to the entropy and that together have this probability",
            low=0,
            high=1,
            source="arXiv 2202.00666",
            stage="typical_p",
            kobold="typical",
            ollama="typical_p",
        ),
    ] = 1.0
    smoothing_factor: Annotated[
        float,
        Parameter(
            "bends logits down by the square of how far they are below the largest; 0: not",
            low=0,
            source="text-generation-webui 5403",
            stage="smoothing",
            kobold="smoothing_factor",
        ),
    ] = 0.0
    smoothing_curve: Annotated[
        float,
        Parameter(
            "turns the square into a cube, at 3 wholly",
            low=1,
            source="text-generation-webui 5551",
            stage="smoothing",
            kobold="smoothing_curve",
        ),
    ] = 1.0
    xtc_probability: Annotated[
        float,
        Parameter(
            "how often the most likely tokens are left out",
            low=0,
            high=1,
            source="text-generation-webui 6335",
            stage="xtc",
            kobold="xtc_probability",
        ),
    ] = 0.0
    xtc_threshold: Annotated[
        float,
        Parameter(
            "these are all that have this probability, but for the least likely of them",
            low=0,
            high=1,
            stage="xtc",
            kobold="xtc_threshold",
        ),
    ] = 0.1
    skew: Annotated[
        float,
        Parameter(
            "raises the cumulative probability, most likely token first, to the power exp(skew); above 0: rarer tokens",
            low=-10,
            high=10,
            source="exllamav2 1de4cdd",
            stage="skew",
            kobold="skew",
        ),
    ] = 0.0
    mirostat_mode: Annotated[
        int,
        Parameter(
            "2: Mirostat 2, which leaves out what surprises more than a bound, in the place of all but the temperature",
            low=0,
            high=2,
            source="arXiv 2007.14966",
            stage="mirostat",
            kobold="mirostat",
            ollama="mirostat",
        ),
    ] = 0
    mirostat_tau: Annotated[
        float,
        Parameter(
            "bits of surprise that an answer's tokens are to have, and half of the first bound",
            low=0,
            stage="mirostat",
            kobold="mirostat_tau",
            ollama="mirostat_tau",
        ),
    ] = 5.0
    mirostat_eta: Annotated[
        float,
        Parameter(
            "by how much of what a token missed it the bound changes",
            low=0,
            stage="mirostat",
            kobold="mirostat_eta",
            ollama="mirostat_eta",
        ),
    ] = 0.1
    temperature_last: Annotated[bool, Parameter("the temperature comes behind the filters")] = False
    sampler_priority: tuple[str | int, ...] | list[str | int] | None = None  # names of stages in order

    def check_samplers(self) -> None:
        """What is not about one parameter alone. Raises SamplingParamsError."""
        if self.sampler_priority is not None:
            object.__setattr__(self, "sampler_priority", parse_priority(self.sampler_priority, STAGES))
        if self.mirostat_mode == 1:
            raise SamplingParamsError("mirostat_mode must be 0 or 2; the first version is not supported.")
        if self.dynatemp_min > self.dynatemp_max:
            raise SamplingParamsError(
                f"dynatemp_min must be at most dynatemp_max ({self.dynatemp_max:g}), got {self.dynatemp_min:g}."
            )

    @property
    def stages(self) -> tuple[str, ...]:
        """Those that change anything, in order; Mirostat is alone with the temperature."""
        on = {stage for stage, switch in _SWITCHES.items() if getattr(self, switch.name) != switch.default}
        if self.top_k < 0:
            on.discard("top_k")
        if "dynatemp" in on:
            on.discard("temperature")
        if "mirostat" in on:
            on &= {"temperature", "dynatemp", "mirostat"}
        order = in_order(STAGES, self.sampler_priority, temperature_last=self.temperature_last)
        return tuple(stage for stage in order if stage in on)


STAGED = tuple(parameter for parameter in table_of(Samplers).values() if parameter.stage)
"""The parameters of all stages."""

STAGES = tuple(dict.fromkeys(parameter.stage for parameter in STAGED))
"""What shapes a distribution, in the order in which it does."""

_SWITCHES = {parameter.stage: parameter for parameter in reversed(STAGED)}  # the first of each stage
