"""How the texts of a conversation's answers are read."""

from uuid import uuid4

from aphrodite.adapters.inbound.http.chat_forms import form_or_calls
from aphrodite.adapters.inbound.http.chat_question import ChatQuestion
from aphrodite.domain.generation.message_format import MessageFormat
from aphrodite.domain.generation.message_reader import MessageReader
from aphrodite.domain.generation.reasoning import ReasoningReader
from aphrodite.domain.generation.tool_calls.forced import ListedCalls, NamedCall
from aphrodite.domain.generation.tool_calls.reader import CallReader, FormattedCalls


class Reading:
    """How the texts of one question's answers are read."""

    def __init__(self, question: ChatQuestion, message_format: MessageFormat, prompt: str) -> None:
        is_free = not question.forces_form
        may_call = is_free or form_or_calls(question, message_format) is not None
        self._calls = message_format.calls if question.offers_tools and may_call else None
        self._tags = message_format.reasoning if is_free else None
        self._choice = question.tool_choice
        self._id_chars = None if message_format.calls is None else message_format.calls.id_chars
        self._tools = {tool.name: tool for tool in question.tools}
        self._only_one = not question.parallel_tool_calls
        self._is_open = self._tags is not None and self._tags.are_open(
            prompt, is_continued=question.continue_final_message
        )

    @property
    def markup(self) -> list[str]:
        """What may be a special token, and yet belongs to the text."""
        tags = () if self._tags is None else (self._tags.start.strip(), self._tags.end)
        return [*tags, *(() if self._calls is None else self._calls.markup)]

    def reader(self) -> MessageReader:
        """For one answer."""
        reasoning = None if self._tags is None else ReasoningReader(self._tags, is_open=self._is_open)
        calls: CallReader | None = None
        if self._choice.mode == "required":
            name = self._choice.name
            calls = ListedCalls(self._new_id) if name is None else NamedCall(name, self._new_id)
        elif self._calls is not None:
            calls = FormattedCalls(self._calls, self._tools, self._new_id, only_one=self._only_one)
        return MessageReader(reasoning, calls)

    def _new_id(self) -> str:
        return f"call_{uuid4().hex[:24]}" if self._id_chars is None else uuid4().hex[: self._id_chars]
