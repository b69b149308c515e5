"""The mutations that advcomp adds to cosmic-ray's."""

import ast

import parso
import pytest
from mutation.operators import OPERATORS
from parso.tree import BaseNode, NodeOrLeaf


def nodes(node: NodeOrLeaf) -> list[NodeOrLeaf]:
    children = node.children if isinstance(node, BaseNode) else []
    return [node, *(below for child in children for below in nodes(child))]


def mutants(name: str, code: str) -> list[str]:
    """Each mutant of some code; its tree is parsed anew for each, since mutating alters it."""
    operator, found = OPERATORS[name](), []
    places = [
        (i, j)
        for i, node in enumerate(nodes(parso.parse(code)))
        for j, _ in enumerate(operator.mutation_positions(node))
    ]
    for i, j in places:
        tree = parso.parse(code)
        node = nodes(tree)[i]
        changed = operator.mutate(node, j)  # type: ignore[arg-type]
        if changed is not node:
            assert node.parent is not None
            siblings = node.parent.children
            siblings[siblings.index(node)] = changed
        ast.parse(tree.get_code())
        found.append(ast.unparse(ast.parse(tree.get_code())))
    return found


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("LeaveOutOperand", "x = a * b", ["x = b", "x = a"]),
        ("LeaveOutOperand", "x = 1 - a - b", ["x = a - b", "x = 1 - b", "x = 1 - a"]),
        (
            "LeaveOutOperand",
            "def f():\n    return a and b",
            ["def f():\n    return b", "def f():\n    return a"],
        ),
        ("LeaveOutElement", "x = (a, b)", ["x = (b,)", "x = (a,)"]),
        ("LeaveOutElement", "x = [a, b]\n", ["x = [b]", "x = [a]"]),
        ("LeaveOutElement", "f(a, *b, c=1)", ["f(*b, c=1)", "f(a, c=1)", "f(a, *b)"]),
        ("LeaveOutElement", "x = {a: b, c: d}", ["x = {c: d}", "x = {a: b}"]),
        ("LeaveOutElement", "x, y = a", []),
        ("LeaveOutElement", "x = [a for a in b]\nf(a for a in b)\nf(a)\nx[a, b]", []),
        ("LeaveOutStatement", "x = 1\nx: int\nx: int = 1\nimport a\n", []),
        ("LeaveOutStatement", "x.a = 1\n", ["pass"]),
        ("LeaveOutStatement", "x += 1\n", ["pass"]),
        ("LeaveOutStatement", "f(x)\n", ["pass"]),
        ("LeaveOutStatement", "if a:\n    raise B(c)\n", ["if a:\n    pass"]),
        ("LeaveOutStatement", "for a in b:\n    continue\n", ["for a in b:\n    pass"]),
        ("LeaveOutStatement", "'what it is'\n", []),
    ],
)
def test_each_thing_that_may_go_is_left_out_once(
    name: str, code: str, expected: list[str]
) -> None:
    assert mutants(name, code) == expected
