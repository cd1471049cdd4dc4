"""Criteria as a SQL condition that finds the members which the platform's own count shows.

Its reading differs from the documented one. A key of `custom_fields` is a text and nothing else, and is compared with
regard to case. Texts are ordered as the database orders them. An absent value is never a member, except for
`is_not_set`.
"""

from decimal import Decimal
from typing import Any

from psycopg.sql import SQL, Composable

from mauntic_jobs.segments.compiler import ORDERING, Compiler, Field
from mauntic_jobs.segments.criteria import Operator

# JavaScript writes larger and smaller numbers with an exponent.
_LEAST_PLAIN, _LEAST_WITH_EXPONENT = Decimal("1e-6"), Decimal("1e21")


class PlatformCompiler(Compiler):
    """Turns criteria into a condition as the platform reads them."""

    def _holds(self, field: Field, operator: Operator, value: object) -> Composable:
        if operator in (Operator.NEQ, Operator.NOT_IN):
            test = SQL("({} IS NOT NULL AND NOT coalesce({}, false))")
            return test.format(field.text, self._test(field, operator, value))
        if operator in ORDERING and field.is_text:
            test = SQL("coalesce({} {} {}, false)")
            return test.format(field.text, ORDERING[operator], self._text(written(value)))
        return super()._holds(field, operator, value)

    def _compared(self, field: Field, operator: Operator, value: object) -> Composable:
        if operator in ORDERING and field.is_text:
            return SQL("{} IS NOT NULL").format(field.text)
        return super()._compared(field, operator, value)

    def _equals(self, field: Field, values: Any) -> Composable:
        if not field.is_custom:
            return super()._equals(field, values)
        return SQL("{} = ANY ({}::text[])").format(field.text, self.bind([written(value) for value in values]))


def written(value: object) -> str:
    """Return a value as JavaScript writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, int | float):
        return str(value)
    number = Decimal(repr(float(value)))
    if not number:
        return "0"
    if _LEAST_PLAIN <= abs(number) < _LEAST_WITH_EXPONENT:
        text = format(number, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    sign, digits, exponent = number.normalize().as_tuple()
    first, *rest = map(str, digits)
    power = int(exponent) + len(rest)
    return f"{'-' if sign else ''}{first}{'.' if rest else ''}{''.join(rest)}e{'+' if power > 0 else ''}{power}"
