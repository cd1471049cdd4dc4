"""Dead letters that are about their recipients: addresses that do not exist, or that want no more mail."""

from collections.abc import Iterable
from uuid import UUID

from mauntic_jobs.delivery.sending.outcome import SUPPRESSING
from mauntic_jobs.ops.dead_letters.failed_jobs import find
from mauntic_jobs.ops.dead_letters.grouping import Group
from mauntic_jobs.ops.dead_letters.store import DeadLetters
from mauntic_jobs.sql import statements

_sql = statements("dead_letters")


def about_recipients(box: DeadLetters, groups: Iterable[Group]) -> set[tuple[str, str]]:
    """Return the queue and fingerprint of the kinds of errors for which the ledger has suppressed the recipient.

    The latest letter of a kind stands for the others: they have the same answer of the provider.
    """
    keys: dict[tuple[UUID, str], tuple[str, str]] = {}
    for group in groups:
        if box.queue(group.queue).channel is None:
            continue
        letter = find(box.redis, box.queue(group.queue), group.example.id)
        if letter is not None and letter.delivery_key is not None:
            keys[letter.delivery_key] = (group.queue, group.fingerprint)
    if not keys:
        return set()
    asked = {"organizations": [each for each, _ in keys], "deliveries": [each for _, each in keys]}
    rows = box.session.rows(_sql["reject_reasons"], asked)
    return {keys[row["organization_id"], row["delivery_id"]] for row in rows if row["reject_reason"] in SUPPRESSING}
