import pytest

from mauntic_jobs.wording import counted, plural


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (plural(1, "row"), "1 row"),
        (plural(0, "row"), "0 rows"),
        (plural(1234, "row"), "1,234 rows"),
        (plural(2, "try", "tries"), "2 tries"),
        (counted(1, "days"), "1 day"),
        (counted(12, "unchanged"), "12 unchanged"),
    ],
)
def test_numbers_agree_with_their_nouns(text: str, words: str) -> None:
    assert text == words
