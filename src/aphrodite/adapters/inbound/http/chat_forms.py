"""Which form an answer must have, for the sake of the tools that it may or must call."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from aphrodite.adapters.inbound.http.chat_question import ChatQuestion
from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.form_names import OWN, renaming_form
from aphrodite.domain.generation.message_format import MessageFormat
from aphrodite.domain.generation.tool_calls import forced
from aphrodite.domain.prompting.json_schema import check_schema
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs
from aphrodite.domain.prompting.tools import Tool, ToolChoice


def sampling_of(question: ChatQuestion, message_format: MessageFormat) -> SamplingParams:
    """Where a tool must be called, its call's form is forced; where it may be, a form leaves room for calls.

    Raises InvalidRequestError or SamplingParamsError.
    """
    if question.tool_choice.mode != "required":
        either = form_or_calls(question, message_format)
        if either is None:
            return question.sampling
        _check_schemas(question.tools)
        return replace(question.sampling, structured_outputs=either)
    if question.sampling.structured_outputs is not None:
        raise InvalidRequestError("tool_choice asks for a call; leave out the other form of the answer.", "tool_choice")
    if question.tool_choice.name is None:
        schema = forced.schema_of_calls(question.tools, only_one=not question.parallel_tool_calls)
    else:
        tool = next(tool for tool in question.tools if tool.name == question.tool_choice.name)
        schema = forced.schema_of_arguments(tool)
    form = StructuredOutputs(json=schema)  # bounds the tools' length, too
    _check_schemas(question.tools)
    return replace(question.sampling, structured_outputs=form)


def form_or_calls(question: ChatQuestion, message_format: MessageFormat) -> StructuredOutputs | None:
    """The form that is asked for or calls; None where there are no tools, no form, or it leaves no room for calls."""
    form = question.sampling.structured_outputs
    if form is None or not question.offers_tools or question.tool_choice.mode == "required":
        return None
    return forced.form_or_calls(form, message_format.calls, question.tools, only_one=not question.parallel_tool_calls)


def _check_schemas(tools: Sequence[Tool]) -> None:
    for number, tool in enumerate(tools):
        check_schema(dict(tool.parameters), f"{OWN}.tools[{number}].function.parameters")


def naming_tools(choice: ToolChoice) -> AbstractContextManager[None]:
    """Have errors about the form of a forced call name the tools that it is made from."""

    def rename(own: str) -> str | None:
        _, is_of_one, place = own.partition(".tools")
        if choice.mode != "required" and not is_of_one:
            return None
        return "tools" + place if is_of_one else "tools"

    return renaming_form(rename)
