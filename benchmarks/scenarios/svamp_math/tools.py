"""A calculator: arithmetic on plain numbers, read with `ast` and never evaluated as code."""

import ast
import operator
from collections.abc import Callable
from fractions import Fraction

_LONGEST = 200
"""Characters of an expression."""
_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def calculate(expression: str) -> str:
    """Work out an arithmetic expression of numbers, + - * / and brackets, and give the result as a number.

    Args:
        expression: The expression, for example "(12 + 3) * 4".
    """
    if len(expression) > _LONGEST:
        raise ValueError(f"the expression has more than {_LONGEST} characters")
    plain = expression.replace(",", "").replace("$", "").replace("×", "*").replace("÷", "/")
    try:
        result = _value(ast.parse(plain.strip(), mode="eval").body)
    except SyntaxError:
        raise ValueError(f"{expression!r} is no arithmetic expression") from None
    except ZeroDivisionError:
        raise ValueError("the expression divides by zero") from None
    return str(result.numerator) if result.denominator == 1 else f"{float(result):.6g}"


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return Fraction(str(number))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=how, right=right) if type(how) in _OPERATORS:
            return _OPERATORS[type(how)](_value(left), _value(right))
    raise ValueError(f"{ast.unparse(node)!r} is not arithmetic; use numbers, + - * / and brackets")
