"""Whether a chat template takes a message's content as a string or as a list of parts, read from its syntax tree."""

from typing import Literal

from jinja2 import nodes

ContentFormat = Literal["string", "openai"]

_HANDED_ON_BY = ("selectattr", "rejectattr", "select", "reject", "list", "default", "d", "reverse")


def find_content_format(template: nodes.Template) -> ContentFormat:
    """`openai` for a template that loops over a message's content or takes a part from it, `string` for any other."""
    content = _ContentExpressions(template)
    loops = any(content.holds(loop.iter) for loop in template.find_all(nodes.For))
    # content[0].text, and not content[0] alone: that may be a string's first character
    lookups: list[nodes.Getattr | nodes.Getitem] = [
        *template.find_all(nodes.Getattr),
        *template.find_all(nodes.Getitem),
    ]
    items = [lookup.node for lookup in lookups if _key(lookup) is not None]
    takes = any(isinstance(item, nodes.Getitem) and _is_index(item.arg) and content.holds(item.node) for item in items)
    return "openai" if loops or takes else "string"


def accepts_string(template: nodes.Template) -> bool:
    """Whether a template asks of some content if it is a string, so that it knows what to do with one."""
    content = _ContentExpressions(template)
    return any(test.name == "string" and content.holds(test.node) for test in template.find_all(nodes.Test))


class _ContentExpressions:
    """Which expressions of a template stand for a message's content: `message.content`, and what it is assigned to."""

    def __init__(self, template: nodes.Template) -> None:
        self._names: set[str] = set()
        macros = {macro.name: macro for macro in template.find_all(nodes.Macro)}
        assignments = list(template.find_all(nodes.Assign))
        calls = list(template.find_all(nodes.Call))
        while True:  # until nothing new is found: one name may be assigned to another
            known = len(self._names)
            for assignment in assignments:
                if self.holds(assignment.node):
                    self._add(assignment.target)
            for call in calls:
                if isinstance(call.node, nodes.Name) and call.node.name in macros:
                    parameters = macros[call.node.name].args
                    for parameter, argument in zip(parameters, call.args, strict=False):
                        if self.holds(argument):
                            self._add(parameter)
                    for keyword in call.kwargs:
                        if self.holds(keyword.value):
                            self._names.add(keyword.key)
            if len(self._names) == known:
                return

    def holds(self, node: nodes.Node | None) -> bool:
        """Whether `node` may stand for a message's content."""
        if isinstance(node, nodes.Name):
            return node.name in self._names
        if isinstance(node, nodes.Getattr | nodes.Getitem):
            key = _key(node)
            return key == "content" or (key is not None and f".{key}" in self._names)
        if isinstance(node, nodes.Call):  # message.get('content')
            first = node.args[0] if node.args else None
            is_get = isinstance(node.node, nodes.Getattr) and node.node.attr == "get"
            return is_get and isinstance(first, nodes.Const) and first.value == "content"
        if isinstance(node, nodes.Filter):
            return node.name in _HANDED_ON_BY and self.holds(node.node)
        if isinstance(node, nodes.CondExpr):
            return self.holds(node.expr1) or self.holds(node.expr2)
        if isinstance(node, nodes.Or):
            return self.holds(node.left) or self.holds(node.right)
        return False

    def _add(self, target: nodes.Node) -> None:
        if isinstance(target, nodes.Name):
            self._names.add(target.name)
        elif isinstance(target, nodes.NSRef):
            self._names.add(f".{target.attr}")


def _key(node: nodes.Node) -> str | None:
    """`content` of both x.content and x['content']."""
    if isinstance(node, nodes.Getattr):
        return node.attr
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
        return node.arg.value
    return None


def _is_index(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const) and isinstance(node.value, int)
