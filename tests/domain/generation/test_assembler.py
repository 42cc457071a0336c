import pytest
from tests.fakes import FakeTokenizer

from aphrodite.domain.generation.assembler import RequestAssembler
from aphrodite.domain.generation.delta import SequenceDelta
from aphrodite.domain.prompting.prompts import ProcessedPrompt
from aphrodite.domain.prompting.sampling_params import SamplingParams

PROMPT = ProcessedPrompt("Hi", [72, 105], None)


@pytest.mark.parametrize("incremental", [True, False])
def test_an_aborted_completion_has_the_text_of_its_tokens(incremental: bool) -> None:
    sampling = SamplingParams(max_tokens=32, stop=["wonder"])
    assembler = RequestAssembler("1", PROMPT, sampling, FakeTokenizer(), 0.0, incremental=incremental)
    text = "a won"  # which might still become the stop string, and so is held back until the end
    for byte in text.encode():
        assembler.push(SequenceDelta("1", 0, [byte]), 0.0)
    assembler.abort()
    (completion,) = assembler.output().outputs
    assert (completion.text, completion.finish_reason) == (text, "abort")


def test_without_stop_strings_the_text_is_worked_out_at_the_abort() -> None:
    assembler = RequestAssembler("1", PROMPT, SamplingParams(max_tokens=32), FakeTokenizer(), 0.0, incremental=False)
    assembler.push(SequenceDelta("1", 0, list(b"partly")), 0.0)
    assembler.abort()
    assert assembler.output().outputs[0].text == "partly"


def test_what_had_ended_stays_as_it_was() -> None:
    assembler = RequestAssembler("1", PROMPT, SamplingParams(max_tokens=2), FakeTokenizer(), 0.0, incremental=True)
    assembler.push(SequenceDelta("1", 0, list(b"ab"), finish_reason="length"), 0.0)
    assembler.abort()
    (completion,) = assembler.output().outputs
    assert (completion.text, completion.finish_reason) == ("ab", "length")
