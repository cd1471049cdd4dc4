"""Sentences about groups that a rebuild withheld: one for each reason, with the totals of old and new values."""

from collections.abc import Sequence

from mauntic_jobs.job import Row

# The reason of a group of which a recorded value would fall.
SHRINKS = "shrinks"
_ORGANIZATIONS_NAMED = 5


def describe(rows: Sequence[Row], bucket: str, *, longest: int | None, largest: int | None) -> list[str]:
    """Return a sentence for each reason; `rows` are those of the `withheld` statement."""
    reasons = list(dict.fromkeys(row["reason"] for row in rows))
    return [
        _sentence(reason, [row for row in rows if row["reason"] == reason], bucket, longest, largest)
        for reason in reasons
    ]


def _sentence(reason: str, rows: Sequence[Row], bucket: str, longest: int | None, largest: int | None) -> str:
    first = rows[0]
    number = first["groups_in_all"]
    what = f"1 group of {bucket} is" if number == 1 else f"{number:,} groups of {bucket} are"
    where = _organizations(rows)
    match reason:
        case "too long":
            return (
                f"{what} withheld, because the recorded event type would have more than {longest} characters: {where}. "
                "Shorten the type where the events are made."
            )
        case "too large":
            return (
                f"{what} withheld, because a count is larger than the column can hold ({largest:,}): {where}. "
                "Widen the column."
            )
        case _:
            return (
                f"{what} withheld, because recorded values would fall, from {first['old_in_all']:,} to "
                f"{first['new_in_all']:,} events in all: {where}. Events may have been deleted since, or a job that "
                "counted twice wrote the rows. If the lower values are right, add --allow-shrink."
            )


def _organizations(rows: Sequence[Row]) -> str:
    named = [_organization(row) for row in rows[:_ORGANIZATIONS_NAMED]]
    more = rows[0]["organizations"] - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")


def _organization(row: Row) -> str:
    kinds = ", ".join(repr(kind) for kind in row["kinds"])
    more = row["groups"] - len(row["kinds"])
    kinds += f" and {more:,} more" if more else ""
    return f"organization {row['organization_id']} ({kinds}: {row['old_total']:,} to {row['new_total']:,})"
