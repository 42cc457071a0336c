"""Templates of strangers: small, and work without end."""

from datetime import datetime

import pytest

from aphrodite.domain.errors import ConfigError, PromptError
from aphrodite.domain.prompting.chat_template import ChatTemplate

NOW = datetime(2025, 1, 1)
# Two equal values, each of them twice in the next: written out they would have 2^60 items.
SAME = (
    "{% set ns = namespace(a=START, b=START) %}"
    "{% for i in range(60) %}{% set ns.a = PAIR_A %}{% set ns.b = PAIR_B %}{% endfor %}"
)
LISTS = SAME.replace("START", "[1]").replace("PAIR_A", "[ns.a, ns.a]").replace("PAIR_B", "[ns.b, ns.b]")
TUPLES = SAME.replace("START", "(1,)").replace("PAIR_A", "(ns.a, ns.a)").replace("PAIR_B", "(ns.b, ns.b)")


def render(source: str, content: str = "Hi") -> str:
    return ChatTemplate(source).render([{"role": "user", "content": content}], now=NOW)


@pytest.mark.parametrize(
    "source",
    [
        LISTS + "{{ ns.a == ns.b }}",
        LISTS + "{{ ns.a < ns.b }}",
        LISTS + "{{ ns.a in [ns.b] }}",
        LISTS + "{{ [ns.b].count(ns.a) }}",
        LISTS + "{{ [ns.b].index(ns.a) }}",
        LISTS + "{{ ns.a is eq(ns.b) }}",
        LISTS + "{{ ns.a is in([ns.b]) }}",
        LISTS + "{{ [ns.a] | select('equalto', ns.b) | list }}",
        LISTS + "{{ [ns.a, ns.b] | sort }}",
        LISTS + "{{ [ns.a, ns.b] | max }}",
        LISTS + "{% for x in [ns.a, ns.b] %}{{ loop.changed(x) }}{% endfor %}",
        TUPLES + "{{ [ns.a, ns.b] | unique | list }}",
        TUPLES + "{{ [{'k': ns.a}, {'k': ns.b}] | groupby('k') }}",
        TUPLES + "{{ {ns.a: 1} }}",
        TUPLES + "{{ {}[ns.a] }}",
        TUPLES + "{{ {}.get(ns.a) }}",
        TUPLES + "{{ dict([(ns.a, 1)]) }}",
        "{{ '{:{w}}'.format(w=999999999) }}",
        "{{ '{:{w}}'.format(w='999999999') }}",
        "{{ '{:{w[0]}}'.format(w=[999999999]) }}",
        "{{ '{:{w}}'.format_map({'w': 999999999}) }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ ('a' * 500000).rfind('b' ~ 'a' * 250000) }}",
        "{{ ('a' * 500000).strip('bcdefgh' * 30000) }}",
        "{% set ns = namespace(n=3) %}{% for i in range(60) %}{% set ns.n = ns.n ** 4 %}{% endfor %}",
    ],
)
def test_work_without_end_is_ended(source: str) -> None:
    with pytest.raises(PromptError, match="too much work"):
        render(source)


@pytest.mark.parametrize("name", ["wordwrap", "urlize", "striptags"])
def test_filters_of_web_pages_are_left_out(name: str) -> None:
    with pytest.raises(ConfigError, match="not valid Jinja"):
        render("{{ messages[0].content | " + name + " }}")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ messages[0].content == 'Hi' }}", "True"),
        ("{{ 'H' in messages[0].content and messages[0]['role'] in ['user', 'system'] }}", "True"),
        ("{{ [3, 1, 3] | unique | sort | join(',') }}", "1,3"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
        ("{{ [1, 2, 1].count(1) }} {{ 'a.b.c'.rsplit('.', 1) }} {{ '..x..'.strip('.') }}", "2 ['a.b', 'c'] x"),
        ("{{ '{{{:>4}}} {}'.format(1, 2) }} {{ '%5.1f' % 2.5 }} {{ 7 // 2 }}", "{   1} 2   2.5 3"),
        ("{% set names = {'user': 'U'} %}{{ names[messages[0].role] }} {{ {}.get('x', 1) }}", "U 1"),
        ("{% if tools is none and x is not defined %}y{% endif %}", "y"),
    ],
)
def test_what_templates_do_is_as_it_was(source: str, text: str) -> None:
    assert render(source) == text


def test_a_long_text_may_be_looked_at_often() -> None:
    source = "{% for i in range(100) %}{% if 'x' in messages[0].content %}{{ i }}{% endif %}{% endfor %}"
    assert render(source, "a" * 1_000_000) == ""
