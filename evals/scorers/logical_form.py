"""One way of writing a query, whichever way it was written; by `sqlglot`. Needs the extra `text`.

What is made alike: case and quoting of names; case, quoting and decimals of values; needless brackets and comments;
aliases of tables and, where nothing outside can refer to them, of output columns; the order of what AND, OR and IN
hold; the sides of a comparison. What changes the result (columns, their order, DISTINCT, LIMIT, ...) stays.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import Scope, traverse_scope

# What it warns of is told in our reasons; without a handler, Python would write it to stderr.
logging.getLogger("sqlglot").addHandler(logging.NullHandler())

_LONGEST = 10_000
"""Characters of the longest query that is read."""

_BEGINNING = re.compile(r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*(?:select|with)\b", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,30})(?:\.\d{1,30})?")

_MIRRORED: dict[type[exp.Expr], type[exp.Binary]] = {
    exp.EQ: exp.EQ,
    exp.NEQ: exp.NEQ,
    exp.GT: exp.LT,
    exp.GTE: exp.LTE,
    exp.LT: exp.GT,
    exp.LTE: exp.GTE,
}


def logical_form(query: str, dialect: str | None, case_sensitive: bool) -> str:
    """The query's tree in its one way, as text to compare by. Raises ValueError with the reason for no single query."""
    tree = _parsed(query, dialect)
    try:
        _make_names_alike(tree, lenient=dialect is None)
        _make_values_alike(tree, case_sensitive)
        _drop_what_is_understood(tree)
        for scope in traverse_scope(tree):
            _drop_output_names(scope)
        renamed: set[int] = set()
        for scope in traverse_scope(tree):
            _rename_tables(scope, renamed)
        _sort_operands(tree)
        return _text(tree)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (SqlglotError, AttributeError):  # the parser lets some nonsense through, whose tree lacks parts
        raise ValueError("it cannot be made sense of") from None


def _parsed(query: str, dialect: str | None) -> exp.Query:
    if len(query) > _LONGEST:
        raise ValueError(f"longer than {_LONGEST} characters")
    if not _BEGINNING.match(query):
        raise ValueError("it does not begin with SELECT or WITH")
    try:
        statements = [statement for statement in sqlglot.parse(query, read=dialect) if statement is not None]
    except SqlglotError as problem:
        raise ValueError(_in_one_line(problem)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if len(statements) != 1:
        raise ValueError(f"{len(statements)} statements")
    (tree,) = statements
    while isinstance(tree, exp.Subquery) and not tree.alias:
        tree = tree.this
    if not isinstance(tree, exp.Select | exp.SetOperation) or not _selects(tree):
        raise ValueError("it selects nothing")
    return tree


def _selects(tree: exp.Query) -> bool:
    return all(select.expressions for select in tree.find_all(exp.Select))


def _in_one_line(problem: SqlglotError) -> str:
    """The library's message without its picture of the place, which is made for terminals."""
    return str(problem).partition("\n")[0].rstrip(".")


def _make_names_alike(tree: exp.Query, lenient: bool) -> None:
    for name in list(tree.find_all(exp.Identifier)):
        column = name.parent
        if lenient and name.quoted and isinstance(column, exp.Column) and _is_compared_with(column):
            column.replace(exp.Literal.string(name.this))
        else:
            name.set("this", name.this.casefold())
            name.set("quoted", True)


def _is_compared_with(column: exp.Column) -> bool:
    """Whether it stands where SQLite and MySQL take a text in double quotes for a value: compared with a column."""
    comparison = column.parent
    if comparison is None or column.table or column.arg_key not in {"expression", "expressions"}:
        return False
    return isinstance(comparison, (exp.Like, exp.In, *_MIRRORED)) and isinstance(comparison.this, exp.Column)


def _make_values_alike(tree: exp.Query, case_sensitive: bool) -> None:
    for value in list(tree.find_all(exp.Literal)):
        text = str(value.this)
        negative = isinstance(value.parent, exp.Neg)
        if _NUMBER.fullmatch(text):
            number = Decimal(f"-{text}" if negative else text)
            place = value.parent if negative and value.parent is not None else value
            place.replace(exp.Literal.number(f"{number.normalize():f}"))
        elif value.is_string and not case_sensitive:
            value.set("this", text.casefold())


def _drop_what_is_understood(tree: exp.Query) -> None:
    """Brackets (the tree has its own), INNER of a join and ASC of an order."""
    for bracket in list(tree.find_all(exp.Paren)):
        bracket.replace(bracket.this)
    for join in tree.find_all(exp.Join):
        if join.args.get("kind") == "INNER":
            join.set("kind", None)
    for ordered in tree.find_all(exp.Ordered):
        ordered.set("desc", bool(ordered.args.get("desc")))


def _drop_output_names(scope: Scope) -> None:
    """Take names off output columns, and write out what they stand for, unless an outer query may use them."""
    select = scope.expression
    if not isinstance(select, exp.Select) or not (scope.is_root or scope.is_subquery):
        return
    meant = {column.alias: column.this for column in select.expressions if isinstance(column, exp.Alias)}
    for part in ("group", "having", "order"):
        clause = select.args.get(part)
        for column in list(clause.find_all(exp.Column)) if clause is not None else ():
            if not column.table and column.name in meant:
                column.replace(meant[column.name].copy())
    select.set("expressions", [column.unalias() for column in select.expressions])


def _rename_tables(scope: Scope, renamed: set[int]) -> None:
    """Call tables by their own names, numbered where one is used twice; a single table needs no mention.

    Scopes come innermost first, so that a column belongs to the nearest table of its name; `renamed` remembers them.
    """
    sources = list(scope.references)
    names = dict(zip([alias for alias, _ in sources], _own_names([node for _, node in sources]), strict=True))
    for column in list(scope.expression.find_all(exp.Column)):
        if column.table in names and id(column) not in renamed:
            renamed.add(id(column))
            alone = len(sources) == 1 and column.parent_select is scope.expression
            column.set("table", None if alone else exp.to_identifier(names[column.table], quoted=True))
    for alias, node in sources:
        holder = node if isinstance(node, exp.Table | exp.Subquery) else node.parent
        if holder is not None and (holder.alias or names[alias] != alias):
            named = names[alias] != holder.name and len(sources) > 1
            identifier = exp.to_identifier(names[alias], quoted=True)
            holder.set("alias", exp.TableAlias(this=identifier) if named else None)


def _own_names(nodes: Iterable[object]) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for node in nodes:
        name = node.name if isinstance(node, exp.Table) else "subquery"
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name} {seen[name]}"


def _sort_operands(tree: exp.Query) -> None:
    """Order what has no order, the innermost first."""
    for node in reversed(list(tree.walk())):
        if isinstance(node, exp.And | exp.Or):
            _sort_connected(node)
        elif type(node) in _MIRRORED:
            _sort_sides(node)
        elif isinstance(node, exp.In):
            node.set("expressions", sorted(node.expressions, key=_text))


def _sort_connected(node: exp.Connector) -> None:
    if type(node.parent) is type(node):
        return  # its topmost node sorts the whole chain
    operands = {_text(operand): operand.copy() for operand in node.flatten()}
    ordered = [operands[text] for text in sorted(operands)]
    join: Callable[..., exp.Condition] = exp.and_ if isinstance(node, exp.And) else exp.or_
    node.replace(join(*ordered, copy=False, wrap=False))


def _sort_sides(node: exp.Expr) -> None:
    """A column before a value; otherwise by text."""
    left, right = node.this, node.expression
    if (isinstance(left, exp.Literal), _text(left)) > (isinstance(right, exp.Literal), _text(right)):
        node.replace(_MIRRORED[type(node)](this=right.copy(), expression=left.copy()))


def _text(node: Any) -> str:
    """The tree as text. Not SQL, which says by brackets what a tree says by its shape."""
    if isinstance(node, list):
        return f"[{', '.join(map(_text, node))}]"
    if not isinstance(node, exp.Expr):
        return repr(node)
    parts = [f"{key}={_text(value)}" for key, value in sorted(node.args.items()) if value not in (None, False, [])]
    return f"{type(node).__name__}({', '.join(parts)})"
