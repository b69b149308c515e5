"""Which of all mutations are tried.

A sample is drawn by place: first the places in the code, at random, then one mutation of each.
Otherwise `+`, which can become eleven other signs, would outweigh a statement that is left out.
What only a type checker or a linter reads is not mutated: annotations, decorators, `__all__`,
assertions of our own and `strict=True` of `zip`.
"""

import ast
import random
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Protocol, TypeVar

from mutation.operators import Place


class Mutation(Protocol):
    """What there is to know of one; cosmic-ray's `MutationSpec`."""

    @property
    def module_path(self) -> Path: ...

    @property
    def operator_name(self) -> str: ...

    @property
    def occurrence(self) -> int: ...

    @property
    def start_pos(self) -> tuple[int, int]: ...

    @property
    def end_pos(self) -> tuple[int, int]: ...


M = TypeVar("M", bound=Mutation)


def unread(source: str) -> list[Place]:
    """Places of a module that no run of it can tell."""
    nodes: list[ast.AST | None] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.arg():
                nodes += [node.annotation]
            case ast.FunctionDef():
                nodes += [node.returns, *node.decorator_list]
            case ast.ClassDef():
                nodes += node.decorator_list
            case ast.AnnAssign():
                nodes += [node.annotation]
            case ast.Assert():
                nodes += [node]
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                nodes += [node]
            case ast.Call(func=ast.Name(id="zip")):
                nodes += [keyword for keyword in node.keywords if keyword.arg == "strict"]
    return [_place(node) for node in nodes if node is not None]


def _place(node: ast.AST) -> Place:
    begin, end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
    return begin, end


def sample(mutations: Iterable[M], size: int, seed: int) -> list[M]:
    """Some of the mutations: `size` places of the code, one mutation of each."""
    hidden: dict[Path, list[Place]] = {}

    def place(m: Mutation) -> tuple[Path, tuple[int, int], tuple[int, int]]:
        return m.module_path, m.start_pos, m.end_pos

    def is_read(m: Mutation) -> bool:
        if m.module_path not in hidden:
            hidden[m.module_path] = unread(m.module_path.read_text("utf-8"))
        return not any(
            begin <= m.start_pos and m.end_pos <= end for begin, end in hidden[m.module_path]
        )

    kept = sorted(
        filter(is_read, mutations), key=lambda m: (*place(m), m.operator_name, m.occurrence)
    )
    places = [list(found) for _, found in groupby(kept, key=place)]
    draw = random.Random(seed)
    chosen = draw.sample(places, min(size, len(places)))
    return [draw.choice(found) for found in chosen]
