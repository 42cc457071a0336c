import time
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from aphrodite.domain.errors import ConfigError, PromptError
from aphrodite.domain.prompting.chat_template import ChatTemplate

NOW = datetime(2024, 7, 26, 12, 30)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "What is it?"}],
    [
        {"role": "user", "content": "  Hello <b>&amp; 'you' \n"},
        {"role": "assistant", "content": "<think>\nHm\n</think>\n\nYes? 日本"},
        {"role": "user", "content": "{{ 7 * 7 }} {% for %} \x00\x1b"},
    ],
]


def _ours(source: str, messages: list[dict[str, Any]], **options: Any) -> str:
    return ChatTemplate(source).render(messages, now=NOW, special_tokens=TOKENS, **options)


def _theirs(source: str, messages: list[dict[str, Any]], add_generation_prompt: bool = True, **variables: Any) -> str:
    render: Any = render_jinja_template
    (text,), _ = render(
        [messages], chat_template=source, add_generation_prompt=add_generation_prompt, **TOKENS, **variables
    )
    return str(text)


def _as_parts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message | {"content": [{"type": "text", "text": message["content"]}]} for message in messages]


@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_string_templates_render_as_in_transformers(
    string_template: str, messages: list[dict[str, Any]], add_generation_prompt: bool
) -> None:
    ours = _ours(string_template, messages, add_generation_prompt=add_generation_prompt)
    assert ours == _theirs(string_template, messages, add_generation_prompt)
    assert ChatTemplate(string_template).content_format == "string"


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_parts_templates_render_as_in_transformers(parts_template: str, messages: list[dict[str, Any]]) -> None:
    messages = _as_parts(messages)
    messages[0]["content"].insert(0, {"type": "image"})
    assert _ours(parts_template, messages) == _theirs(parts_template, messages)
    assert ChatTemplate(parts_template).content_format == "openai"


@given(text=st.text(max_size=50))
def test_what_users_write_is_never_run(text: str) -> None:
    source = "{% for m in messages %}[{{ m.content }}]{{ m | tojson }}{% endfor %}"
    messages = [{"role": "user", "content": text}]
    assert _ours(source, messages) == _theirs(source, messages)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages | tojson }}{{ messages | tojson(indent=2) }}{{ {'b': 1, 'a': '<é>'} | tojson(sort_keys=true) }}",
        "{% for i in range(9) %}{% if i == 3 %}{% continue %}{% elif i > 5 %}{% break %}{% endif %}{{ i }}{% endfor %}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "a\n  {% if true %}\n    b\n  {% endif %}\nc\n",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        "{{ dict(a=1, b=2) }}{{ dict([('x', 1)]).items() | list }}{{ undefined }}{{ tools is none }}",
        "{% macro m(a, b='x') %}<{{ a }}{{ b }}{{ caller() if caller else '' }}>{% endmacro %}{{ m(1) }}"
        "{% call m(2, b=3) %}in{% endcall %}",
        "{{ messages | map(attribute='role') | join(', ') }}{{ ['b', 'a'] | sort }}{{ messages | length }}",
        "{% for m in messages recursive %}{{ loop.index }}{{ loop.last }}{{ loop.length }}{{ loop.cycle('a', 'b') }}"
        "{% if loop.depth < 3 %}{{ loop(messages) }}{% endif %}{% else %}none{% endfor %}",
        "{% for m in messages | selectattr('role', 'equalto', 'user') %}{{ loop.last }}{{ loop.length }}{% endfor %}",
        "{% for k, v in messages[0].items() %}{{ k ~ '=' ~ v ~ loop.index }}{% endfor %}",
        "{{ 'a-{}-{:>4}'.format(1, 'b') }}{{ '%s %03d' % ('a', 7) }}{{ '%s' | format('x') }}{{ 'ab' * 3 }}",
        "{{ 'a b'.split() }}{{ 'x'.join(['1', '2']) }}{{ 'abab'.replace('a', 'cc') }}{{ 'é' | upper | indent(3) }}",
        "{{ 2 ** 10 }}{{ 7 % 4 }}{{ -3 + 1.5 }}{{ 3 * 1.5 }}{{ 'a' + 'b' }}{{ [1] + [2] }}{{ none or 'd' }}",
        "{% set x %}block {{ 1 }}{% endset %}{{ x | trim }}{% filter upper %}up{% endfilter %}{{ x[::-1] }}",
        "{{ messages[0].missing is defined }}{{ messages[0]['role'] in ['user'] }}{{ messages | last | attr('role') }}",
    ],
)
def test_the_language_is_that_of_transformers(source: str) -> None:
    assert _ours(source, CONVERSATIONS[1]) == _theirs(source, CONVERSATIONS[1])


def test_the_time_is_what_the_caller_says() -> None:
    assert _ours("{{ strftime_now('%d %b %Y') }}", CONVERSATIONS[0]) == "26 Jul 2024"


def test_further_variables_reach_the_template_but_not_the_messages() -> None:
    source = "{{ enable_thinking }}{{ messages[0].role }}{{ bos_token }}"
    variables = {"enable_thinking": False, "messages": "forged"}
    assert _ours(source, CONVERSATIONS[0], variables=variables) == "Falseuser<s>"


def test_a_template_refuses_messages_in_its_own_words(string_templates: dict[str, str]) -> None:
    messages = [{"role": "assistant", "content": "first"}]
    with pytest.raises(PromptError, match="refuses these messages: Conversation roles must alternate"):
        _ours(string_templates["mistral"], messages)
    with pytest.raises(PromptError) as caught:
        _ours("{{ raise_exception('long ' * 9999) }}", messages)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("source", ["{% for %}", "{{ x", "{% endif %}", "{{ x | nofilter }}", "{{ " + "(" * 9999])
def test_a_broken_template_is_named_when_it_is_built(source: str) -> None:
    with pytest.raises(ConfigError, match="not valid Jinja"):
        ChatTemplate(source)


@pytest.mark.parametrize("source", ["{{ nothing.x }}", "{{ 1 / 0 }}", "{{ 'a' + 1 }}", "{% for x in 5 %}{% endfor %}"])
def test_a_template_that_fails_is_a_typed_error(source: str) -> None:
    with pytest.raises(PromptError, match="fails on these messages") as caught:
        _ours(source, CONVERSATIONS[0])
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__']['__mro__'] }}",
        "{{ (''|attr('__class__')|attr('__mro__')).x }}",
        "{{ '{0.__class__.__mro__}'.format('').x }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ raise_exception.__globals__.json }}",
        "{{ strftime_now.__self__.__class__.__mro__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ self._TemplateReference__context.environment }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{% set ns = namespace(__class__=1) %}",
        "{{ dict.mro() }}",
        "{{ (messages | map(attribute='__class__') | list)[0].mro() }}",
        "{% import 'os' as os %}",
        "{% include '/etc/passwd' %}",
        "{{ lipsum.__globals__.os }}",
    ],
)
def test_no_way_leads_out_of_the_sandbox(source: str) -> None:
    messages = [{"role": "user", "content": "hi"}]
    with pytest.raises((ConfigError, PromptError)):
        _ours(source, messages)
    assert messages == [{"role": "user", "content": "hi"}]


_GROWING = "{% set ns = namespace(x=START) %}{% for i in range(99) %}{% set ns.x = STEP %}{% endfor %}{{ ns.x SHOW}}"


def _growing(start: str, step: str, show: str = "") -> str:
    return _GROWING.replace("START", start).replace("STEP", step).replace("SHOW", show)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(999999999) %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ '" + "a" * 5000 + "' }}{% endfor %}",
        "{% for i in range(99999) %}" + "a" * 5000 + "{% endfor %}",
        "{% set x %}{% for i in range(99999) %}" + "a" * 5000 + "{% endfor %}{% endset %}",
        "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% for i in [1, 2] recursive %}{% if loop.depth < 60 %}{{ loop([1, 2]) }}{% endif %}{% endfor %}",
        _growing("'ab'", "ns.x + ns.x"),
        _growing("'ab'", "ns.x ~ ns.x"),
        _growing("'ab'", "ns.x.replace('', ns.x)"),
        _growing("'ab'", "[ns.x, ns.x] | join"),
        _growing("[1]", "[ns.x, ns.x]"),
        _growing("[1]", "[ns.x, ns.x]", "| tojson "),
        _growing("[1]", "[ns.x, ns.x]", "| string "),
        _growing("9", "ns.x * ns.x"),
        "{{ 'a' * 10 ** 12 }}",
        "{{ [0] * 10 ** 12 }}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 999999999) }}",
        "{{ 'a'.ljust(999999999) }}",
        "{{ 'a' | center(999999999) }}",
        "{{ ('a' * 900000).replace('a', 'b' * 900000) }}",
        "{{ ('a' * 900000) | replace('a', 'b' * 900000) }}",
        "{{ ('\t' * 900000).expandtabs(9999) }}",
        "{{ ('\n' * 900000) | indent(9999) }}",
        "{{ ''.join(['a' * 900000] * 9999) }}",
        "{{ ('{0}' * 90000).format('a' * 900000) }}",
        "{{ ('%s' * 9000) | format(*['a' * 90000] * 9000) }}",
        "{{ [1] | batch(999999999, 'a') | list }}",
        "{% for i in range(99999) %}{% set x = ('a' * 900000).split('a') %}{% endfor %}",
    ],
)
def test_endless_work_is_stopped_soon(source: str) -> None:
    start_s = time.monotonic()
    with pytest.raises(PromptError, match="too much work"):
        _ours(source, CONVERSATIONS[0])
    assert time.monotonic() - start_s < 10  # a second or two, on a machine that others use as well


def test_long_conversations_are_not_taken_for_endless_work(string_templates: dict[str, str]) -> None:
    messages = [{"role": role, "content": "word " * 1000} for role in ("user", "assistant")] * 300
    for name, source in string_templates.items():
        assert len(_ours(source, messages)) > 2_900_000, name


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ messages[0].content }}", "string"),
        ("{% for m in messages %}{% for p in m.content %}{% endfor %}{% endfor %}", "openai"),
        ("{% for m in messages %}{% for p in m.get('content') %}{% endfor %}{% endfor %}", "openai"),
        ("{% set c = messages[0]['content'] %}{% set d = c %}{% for p in d %}{% endfor %}", "openai"),
        ("{% set ns = namespace() %}{% set ns.c = messages[0].content %}{% for p in ns.c %}{% endfor %}", "openai"),
        ("{% macro f(x) %}{% for p in x %}{% endfor %}{% endmacro %}{{ f(messages[0].content) }}", "openai"),
        ("{% macro f(x) %}{% for p in x %}{% endfor %}{% endmacro %}{{ f(x=messages[0].content) }}", "openai"),
        ("{{ messages[0].content[0].text }}", "openai"),
        ("{% if messages[0]['content'][0]['type'] == 'image' %}{% endif %}", "openai"),
        ("{% for p in messages[0].content or [] %}{% endfor %}", "openai"),
        ("{% for p in (messages[0].content if true else []) %}{% endfor %}", "openai"),
        ("{% if messages[0].content[0] == ' ' %}{% endif %}", "string"),
        ("{% for line in messages[0].content.split('x') %}{% endfor %}", "string"),
        ("{% for call in messages[0].tool_calls %}{{ call.content }}{% endfor %}", "string"),
        ("{% if messages[0].content is string %}{{ messages[0].content }}{% endif %}", "string"),
        ("{% for content in messages %}{{ content }}{% endfor %}", "string"),
    ],
)
def test_the_content_format_shows_in_the_syntax_tree(source: str, expected: str) -> None:
    assert ChatTemplate(source).content_format == expected
