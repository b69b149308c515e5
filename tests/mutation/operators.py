"""Mutations that cosmic-ray lacks: a statement, an element or an operand is left out.

What a reader of a diff overlooks most easily is a line that is not there. Cosmic-ray alters
operators, comparisons, numbers and loops, but it takes nothing away.
"""

from collections.abc import Iterator

import parso
from parso.python.tree import Keyword, Operator
from parso.tree import BaseNode, NodeOrLeaf

Place = tuple[tuple[int, int], tuple[int, int]]
"""Where something begins and ends: line and column."""

OPERATIONS = {
    *("arith_expr", "term", "power", "shift_expr"),
    *("expr", "and_expr", "xor_expr", "and_test", "or_test"),
}
"""What parso calls `a + b - c`, `a * b`, `a ** b`, `a << b`, `a | b`, `a & b`, `a ^ b`, `a and b`
and `a or b`."""

SEQUENCES = {"arglist", "testlist_comp", "testlist_star_expr", "dictorsetmaker"}
"""What parso calls arguments of a call, and the inside of a tuple, a list, a set or a dict."""


class _Mutation:
    """What cosmic-ray asks of an operator besides its mutations."""

    @classmethod
    def arguments(cls) -> tuple[()]:
        """It has no settings."""
        return ()


class LeaveOutStatement(_Mutation):
    """A statement does nothing: no error is raised, nothing is called, counted or stored.

    First assignments of a name stay: what is left out there is a NameError, which any test finds.
    """

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[Place]:
        """The statement, if `node` is one that may go."""
        if isinstance(node, BaseNode) and node.type == "simple_stmt":
            statement = node.children[0]
            if _may_go(statement):
                yield statement.start_pos, statement.end_pos

    def mutate(self, node: BaseNode, index: int) -> BaseNode:
        """`pass` in its place."""
        first = node.children[0]
        node.children[0] = Keyword("pass", first.start_pos, first.get_first_leaf().prefix)
        return node


def _may_go(statement: NodeOrLeaf) -> bool:
    if isinstance(statement, Keyword):
        return statement.value in {"continue", "break", "raise"}
    if isinstance(statement, BaseNode) and statement.type == "expr_stmt":
        target, sign = statement.children[:2]
        augmented = isinstance(sign, Operator) and sign.value != "="
        return augmented or (target.type == "atom_expr" and sign.type != "annassign")
    return statement.type in {"raise_stmt", "del_stmt", "yield_expr", "atom_expr"}


class LeaveOutElement(_Mutation):
    """A tuple, list, set or dict has one element less, or a call one argument."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[Place]:
        """Each element."""
        if isinstance(node, BaseNode) and _has_elements(node):
            yield from ((e[0].start_pos, e[-1].end_pos) for e in _elements(node))

    def mutate(self, node: BaseNode, index: int) -> BaseNode:
        """A comma stands after each that is left, so that a tuple of one is a tuple."""
        kept = [element for i, element in enumerate(_elements(node)) if i != index]
        commas = [Operator(",", element[-1].end_pos) for element in kept]
        node.children = [
            child
            for element, comma in zip(kept, commas, strict=True)
            for child in (*element, comma)
        ]
        return node


def _has_elements(node: BaseNode) -> bool:
    """Whether it is a row of elements with commas, and not the names that something goes to."""
    if node.type not in SEQUENCES or any("comp_for" in child.type for child in node.children):
        return False
    if not any(_is_comma(child) for child in node.children):
        return False
    statement = node.parent
    while statement is not None and statement.type in {"atom", "testlist_star_expr"}:
        statement = statement.parent
    is_target = (
        statement is not None and statement.type == "expr_stmt" and _is_left(node, statement)
    )
    return not is_target


def _is_left(node: BaseNode, statement: BaseNode) -> bool:
    """Whether a node is to the left of a statement's last `=`."""
    return bool(node.end_pos <= statement.children[-2].start_pos)


def _elements(node: BaseNode) -> list[list[NodeOrLeaf]]:
    found: list[list[NodeOrLeaf]] = [[]]
    for child in node.children:
        if _is_comma(child):
            found.append([])
        else:
            found[-1].append(child)
    return [element for element in found if element]


def _is_comma(node: NodeOrLeaf) -> bool:
    return isinstance(node, Operator) and node.value == ","


class LeaveOutOperand(_Mutation):
    """`a * b` is `b`, or `a`."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[Place]:
        """Each operand."""
        if isinstance(node, BaseNode) and node.type in OPERATIONS:
            yield from ((child.start_pos, child.end_pos) for child in node.children[::2])

    def mutate(self, node: BaseNode, index: int) -> NodeOrLeaf:
        """With the sign before it; the first with the one after it."""
        at = 2 * index
        del node.children[slice(0, 2) if at == 0 else slice(at - 1, at + 1)]
        if len(node.children) > 1:
            return node
        (left,) = node.children
        alone: NodeOrLeaf = parso.parse(f"({left.get_code().strip()})").children[0]
        alone.get_first_leaf().prefix = " "  # `return a + b`, without a, is `return b`
        return alone


OPERATORS = {
    operator.__name__: operator
    for operator in (LeaveOutStatement, LeaveOutElement, LeaveOutOperand)
}
"""A provider of operators, as cosmic-ray has it: names, and what each names."""
