"""lm-eval with its models `local-completions` and `local-chat-completions`, on tasks of a line or two."""

import base64
import io
import json

import lm_eval
import openai
import pytest
from lm_eval.tasks import TaskManager
from tests.clients.answers import ANSWER, GREETING, MODEL, QUESTION
from tests.clients.conftest import KEY

PROMPT = f"USER: {GREETING}\nASSISTANT:"
GENERATING = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 30, temperature: 0}}
filter_list:
  - name: bare
    filter: [{{function: remove_whitespace}}, {{function: take_first}}]
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
CHOOSING = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: 0
target_delimiter: ""
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture
def evaluate(url, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))

    def evaluate(model, task, lines, path, extra="", **options):
        data = tmp_path / "data.jsonl"
        data.write_text("".join(json.dumps(line) + "\n" for line in lines))
        (tmp_path / "task.yaml").write_text(task.format(name="tiny", data=data) + extra)
        where = {"model": MODEL, "base_url": f"{url}{path}", "max_retries": 1, "num_concurrent": 1}
        found = lm_eval.simple_evaluate(
            model, model_args=where | options.pop("where", {}), tasks=["tiny"],
            task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False), bootstrap_iters=0, **options,
        )  # fmt: skip
        return found["results"]["tiny"], found["samples"]["tiny"]

    return evaluate


@pytest.fixture
def said(url):
    """What the server itself says to PROMPT."""
    answer = openai.OpenAI(max_retries=0).completions.create(model=MODEL, prompt=PROMPT, temperature=0, max_tokens=30)
    return answer.choices[0].text


def test_text(evaluate, said):
    remote = {"tokenizer_backend": "remote", "auth_token": KEY}
    lines = [{"question": PROMPT, "answer": said.strip()}]
    scores, _ = evaluate("local-completions", GENERATING, lines, "/v1/completions", where=remote)
    assert scores["exact_match,bare"] == 1
    lines = [{"question": GREETING, "answer": said.strip()}]
    scores, _ = evaluate("local-chat-completions", GENERATING, lines, "/v1/chat/completions", apply_chat_template=True)
    assert scores["exact_match,bare"] == 1


def test_loglikelihood(evaluate, said):
    remote = {"tokenizer_backend": "remote", "auth_token": KEY}
    lines = [{"question": PROMPT, "choices": [said, " No triangles at all, and nothing red."]}]
    scores, [sample] = evaluate("local-completions", CHOOSING, lines, "/v1/completions", where=remote)
    assert scores["acc,none"] == 1
    [likely, is_greedy], [unlikely, is_greedy_too] = [answer for [answer] in sample["resps"]]
    assert 0 > likely > unlikely
    assert (is_greedy, is_greedy_too) == (True, False)


def test_image(evaluate, picture, tmp_path):
    from PIL import Image

    path = tmp_path / "picture.png"
    Image.open(io.BytesIO(base64.b64decode(picture))).save(path)
    (tmp_path / "pictures.py").write_text(
        "from PIL import Image\ndef of(doc):\n    return [Image.open(doc['picture'])]\n"
    )
    lines = [{"question": QUESTION, "answer": ANSWER, "picture": str(path)}]
    scores, _ = evaluate(
        "local-chat-completions", GENERATING, lines, "/v1/chat/completions", "doc_to_image: !function pictures.of\n",
        apply_chat_template=True,
    )  # fmt: skip
    assert scores["exact_match,bare"] == 1
