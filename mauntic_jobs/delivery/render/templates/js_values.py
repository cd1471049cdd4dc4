"""Values as JavaScript writes them, in which the platform's own engine renders."""

from decimal import Decimal

_GREATEST_EXACT_INTEGER = 2**53  # of a JavaScript number


def as_text(value: object) -> str:
    """Write a JSON value other than a list as JavaScript's String() does, but null as nothing."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() if abs(value) <= _GREATEST_EXACT_INTEGER:
            return str(value)
        case int() | float():
            return _number(value)
        case str():
            return value
        case dict():
            return "[object Object]"
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _number(value: float) -> str:
    try:
        text = repr(float(value))
    except OverflowError:
        text = "inf" if value > 0 else "-inf"
    if "n" in text:
        return text.replace("inf", "Infinity").replace("nan", "NaN")
    if "e" not in text:
        return "0" if text == "-0.0" else text.removesuffix(".0")
    # The digits are the same in both languages, but JavaScript turns to exponents later.
    if 1e-6 <= abs(value) < 1e21:  # noqa: PLR2004 - by ECMA-262, Number::toString
        return format(Decimal(text), "f")
    return text.replace("e-0", "e-")
