"""The Jinja that chat templates run in: no way out to Python, and no end of time or memory.

Jinja's sandbox guards attributes and calls. Here loops, calls, filters and strings draw on a Budget as well, so that
a template that would run forever, or fill the memory, ends with BudgetExceededError.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from jinja2 import Template, nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from aphrodite.domain.prompting.template_budget import Budget, BudgetExceededError, shallow_size

# Filters that hand items on and do not look into them.
_SHALLOW_FILTERS = frozenset(
    ("attr", "count", "d", "default", "first", "int", "items", "last", "length", "list", "map", "reject", "rejectattr",
     "reverse", "select", "selectattr")
)  # fmt: skip
# Filters for web pages, whose work grows faster than their text.
_LEFT_OUT_FILTERS = frozenset(("pprint", "striptags", "urlize", "wordwrap", "xmlattr"))
# Filters that the compiler puts in; with a space in its name no template can write one.
_PAID_LOOP, _PAID_CONCATENATION, _PAID_COMPARISON = "paid loop", "paid concatenation", "paid comparison"
_MAX_NUMBER_BITS = 4096
_MAX_EXPONENT = 64
_LITERAL_CHARS_PER_UNIT = 64


class RaisedByTemplateError(TemplateError):
    """What a template's own `raise_exception` raises; the message is its author's, for the user."""


class BudgetContext(Context):
    """The variables of one rendering, and its budget."""

    budget: Budget

    def derived(self, locals: dict[str, Any] | None = None) -> Context:
        context = super().derived(locals)
        if isinstance(context, BudgetContext):
            context.budget = self.budget
        return context


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Compiles chat templates with transformers' options and helpers. Render with `generate`."""

    context_class = BudgetContext
    intercepted_binops = frozenset(["+", "*", "%", "**", "//"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols], finalize=_pay_for_output
        )
        self.code_generator_class = _PayingCodeGenerator
        self.filters["tojson"] = _to_json
        self.filters = {name: _paying(name, function) for name, function in self.filters.items()
                        if name not in _LEFT_OUT_FILTERS}  # fmt: skip
        self.tests = {name: _paying_test(cast(Callable[..., Any], function)) for name, function in self.tests.items()}
        self.filters[_PAID_LOOP] = _paid_loop
        self.filters[_PAID_CONCATENATION] = _paid_concatenation
        self.filters[_PAID_COMPARISON] = _paid_comparison
        self.globals = {
            "range": self.globals["range"],  # the sandbox's: 100,000 items at most
            "cycler": self.globals["cycler"],
            "joiner": self.globals["joiner"],
            "dict": _dictionary,
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
        }

    def generate_text(self, template: Template, variables: Mapping[str, Any], budget: Budget) -> Iterator[str]:
        """The rendered text in pieces. Raises BudgetExceededError, and what the template itself raises."""
        context = template.new_context(dict(variables))
        assert isinstance(context, BudgetContext)
        context.budget = budget
        return template.root_render_func(context)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Every call that a template makes."""
        budget = _budget(context)
        budget.spend(1)
        # A string's `format` comes wrapped by the sandbox.
        owner = getattr(getattr(obj, "__wrapped__", obj), "__self__", None)
        if isinstance(owner, str):
            budget.pay_for_text_operation(obj.__name__, owner, _all_arguments(args, kwargs))
        elif not isinstance(obj, Macro):  # it may compare its arguments, and with what it belongs to
            owned = [owner] if isinstance(owner, list | tuple) else []
            budget.pay_for(budget.measured(*owned, *_all_arguments(args, kwargs)))
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Every use of an operator that can make something large of something small."""
        budget = _budget(context)
        if any(isinstance(value, int) and value.bit_length() > _MAX_NUMBER_BITS for value in (left, right)):
            raise BudgetExceededError
        if operator == "**" and isinstance(right, int) and right > _MAX_EXPONENT:
            raise BudgetExceededError
        if operator == "%" and isinstance(left, str):
            budget.pay_for_text_operation("%", left, right if isinstance(right, tuple) else (right,))
        elif operator == "*":
            sizes = [v if isinstance(v, int) and not isinstance(w, int | float) else shallow_size(v)
                     for v, w in ((left, right), (right, left))]  # fmt: skip
            budget.pay_for(max(sizes[0] * sizes[1], 0))
        else:
            budget.pay_for((shallow_size(left) + shallow_size(right)) * (_MAX_EXPONENT if operator == "**" else 1))
        return super().call_binop(context, operator, left, right)


class _GenerationBlock(Extension):
    """`{% generation %}...{% endgeneration %}`, around what an assistant said: training's business, plain text here."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's way to declare it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_contents"), [], [], body).set_lineno(line)

    def _contents(self, caller: Macro) -> str:
        return str(caller())


class _PayingCodeGenerator(CodeGenerator):
    """Compiles a template whose loops and concatenations pay."""

    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:  # noqa: N802
        node = _Payments().visit(node)
        node.set_environment(self.environment)
        super().visit_Template(node, frame)


class _Payments(NodeTransformer):
    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        # Text that a loop repeats is paid for with the step.
        literal = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        units = nodes.Const(1 + literal // _LITERAL_CHARS_PER_UNIT)
        node.iter = nodes.Filter(node.iter, _PAID_LOOP, [units], [], None, None).set_lineno(node.lineno)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _paid(node.expr)
        for operand in node.ops:
            operand.expr = _paid(operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            node.arg = _paid(node.arg)  # a key is hashed and compared
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.key = _paid(node.key)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        parts = nodes.List(node.nodes).set_lineno(node.lineno)
        return nodes.Filter(parts, _PAID_CONCATENATION, [], [], None, None).set_lineno(node.lineno)


def _paid(node: nodes.Expr) -> nodes.Expr:
    """Has the expression's value paid for, as deep as comparing or hashing it goes."""
    if isinstance(node, nodes.Const):
        return node
    paid = nodes.Filter(node, _PAID_COMPARISON, [], [], None, None)
    paid.set_lineno(node.lineno)
    return paid


class _Namespace(Namespace):
    """Jinja's `namespace`, without underscored names: those lead into Python."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # so that an attribute may be called self
        self, *initial = args
        values = dict(*initial, **kwargs)
        for name in values:
            _check_public(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_public(name)
        super().__setitem__(name, value)


def _check_public(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError("A namespace takes no attribute whose name begins with an underscore.")


def _budget(context: Context) -> Budget:
    assert isinstance(context, BudgetContext)
    return context.budget


def _all_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    return [*args, *kwargs.values()]


def _paying(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter `function`, paid for."""
    wanted = getattr(getattr(function, "jinja_pass_arg", None), "name", None)

    @pass_context
    def paying(context: Context, value: Any = None, *args: Any, **kwargs: Any) -> Any:
        budget = _budget(context)
        if isinstance(value, Iterator):
            value = list(budget.paid_loop(value, 1))
        if name in _SHALLOW_FILTERS:
            budget.pay_for(shallow_size(value))
        elif isinstance(value, str):
            budget.pay_for_text_operation("%" if name == "format" else name, value, _all_arguments(args, kwargs))
        else:
            separators = sum(map(shallow_size, args)) * shallow_size(value)
            budget.pay_for_text_operation(name, "", [*_all_arguments(args, kwargs)])
            budget.pay_for(budget.measured(value) + separators)
        passed = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        first = [] if wanted is None else [passed[wanted]]
        return function(*first, value, *args, **kwargs)

    return paying


def _paying_test(function: Callable[..., Any]) -> Callable[..., Any]:
    """The test `function`, paid for: it may compare."""
    wanted = getattr(getattr(function, "jinja_pass_arg", None), "name", None)

    @pass_context
    def paying(context: Context, *args: Any, **kwargs: Any) -> Any:
        budget = _budget(context)
        budget.pay_for(budget.measured(*_all_arguments(args, kwargs)))
        passed = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        first = [] if wanted is None else [passed[wanted]]
        return function(*first, *args, **kwargs)

    return paying


@pass_context
def _paid_comparison(context: Context, value: Any) -> Any:
    budget = _budget(context)
    if not isinstance(value, Undefined):
        budget.pay_for(budget.measured(value))
    return value


@pass_context
def _pay_for_output(context: Context, value: Any) -> Any:
    budget = _budget(context)
    budget.pay_for(len(value) if isinstance(value, str) else budget.measured(value))
    return value


@pass_context
def _paid_loop(context: Context, iterable: Any, units: int) -> Any:
    budget = _budget(context)
    if isinstance(iterable, Undefined | str | list | tuple | range | Mapping):
        budget.spend(len(iterable) * units)
        return iterable
    return budget.paid_loop(iter(iterable), units)


@pass_context
def _paid_concatenation(context: Context, parts: list[Any]) -> str:
    budget = _budget(context)
    budget.pay_for(budget.measured(*parts))
    return "".join(map(str, parts))


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """As transformers has it; Jinja's own escapes characters of HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _dictionary(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def _raise_exception(message: Any) -> None:
    raise RaisedByTemplateError(str(message))
