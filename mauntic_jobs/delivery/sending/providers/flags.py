"""Values of provider keys that are true or false."""

_FLAGS = {"": False, "false": False, "0": False, "true": True, "1": True}


def flag(value: object) -> bool | None:
    """Return a value as true or false, absent as false; None if it is neither."""
    return _FLAGS.get("" if value is None else str(value).strip().lower())
