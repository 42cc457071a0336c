"""What is worth telling of a request besides its status: for its line in the log, and for its client."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import Scope

from aphrodite.domain.generation.outputs import RequestMetrics


@dataclass(slots=True)
class RequestNote:
    """Filled in as the request goes on; never what was asked or answered."""

    client: str = ""  # address
    error_code: str | None = None
    error_param: str | None = None
    num_prompt_tokens: int | None = None  # None: not known when the request ended
    num_output_tokens: int | None = None
    first_token_s: float | None = None  # since it was handed to the engine
    queue_s: float | None = None  # until it was first scheduled
    prefill_s: float | None = None  # from then to the first token
    decode_s: float | None = None  # from the first token to the last
    ignored_fields: Sequence[str] = ()

    @property
    def reason(self) -> str:
        """Why it was refused; "" when it was not."""
        return " ".join(filter(None, (self.error_code, self.error_param)))

    def fields(self) -> dict[str, object]:
        """All that is known."""
        known = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in known.items() if value not in (None, "", ())}

    def __str__(self) -> str:
        parts = [f"from {self.client}"] if self.client else []
        if self.reason:
            parts.append(ascii(self.reason)[1:-1])
        if self.num_prompt_tokens is not None:
            parts.append(f"{self.num_prompt_tokens} prompt tokens")
        if self.num_output_tokens is not None:
            parts.append(f"{self.num_output_tokens} output tokens")
        if self.first_token_s is not None:
            parts.append(f"the first after {self.first_token_s * 1000:.0f} ms")
        return ", ".join(parts)

    def note_times(self, prompts: Sequence[RequestMetrics]) -> None:
        """Where the time went, from the first of a request's prompts to the last; as far as they came."""
        scheduled = [times.first_scheduled_s for times in prompts if times.first_scheduled_s is not None]
        first = [times.first_token_s for times in prompts if times.first_token_s is not None]
        finished = [times.finished_s for times in prompts if times.finished_s is not None]
        if scheduled:
            self.queue_s = min(scheduled) - min(times.arrival_s for times in prompts)
        if scheduled and first:
            self.prefill_s = min(first) - min(scheduled)
        if first and finished:
            self.decode_s = max(finished) - min(first)

    @property
    def ignored_header(self) -> str:
        """Names as a header may hold them."""
        return ", ".join(ascii(name)[1:-1] for name in self.ignored_fields)


def note_of(scope: Scope) -> RequestNote:
    """The note of the request that came with this scope."""
    note: RequestNote = scope.setdefault("state", {}).setdefault("note", RequestNote())
    return note
