"""`dlq`: the dead letters of all queues and of the ledger of runs."""

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from mauntic_jobs.cli.dlq import actions as dlq_actions
from mauntic_jobs.cli.dlq.options import Org, Queue, Reveal, Since, Where, opened, selection
from mauntic_jobs.cli.dlq.output import group_json, group_lines, letter_lines, print_detail, print_lines
from mauntic_jobs.cli.documents.dead_letters import LetterDetailJson, LetterGroupJson, LetterJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, new_app
from mauntic_jobs.cli.framework.options import Limit
from mauntic_jobs.cli.framework.output import log, print_json
from mauntic_jobs.errors import UsageError
from mauntic_jobs.ops.dead_letters.export import export, whole_file
from mauntic_jobs.ops.dead_letters.grouping import grouped
from mauntic_jobs.ops.dead_letters.show import show, summary
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.wording import plural

app = new_app("Dead letters: failed jobs of the queues and failed runs, as one list.")
dlq_actions.register_actions(app)


@command(
    app,
    "list",
    example="mauntic-jobs dlq list --where \"error~'421'\" --since 2h",
    prints=list[LetterGroupJson] | list[LetterJson],
)
def list_letters(
    settings: Settings,
    *,
    queue: Queue = None,
    since: Since = None,
    org: Org = None,
    where: Where = None,
    jobs: Annotated[bool, typer.Option("--jobs", help="One by one, those that failed last first.")] = False,
    limit: Limit = 20,
    reveal: Reveal = False,
    json: JsonOutput = False,
) -> None:
    """List dead letters by the kind of their error, most frequent first, or one by one."""
    now = clock.now()
    chosen = selection(queue, since, org, where, now)
    with opened(settings, now) as box:
        if jobs:
            letters = list(islice(box.letters(chosen, payloads=json, newest_first=True), limit))
            if json:
                print_json([summary(letter, reveal=reveal) for letter in letters])
            else:
                print_lines([letter_lines(letter, now, reveal=reveal) for letter in letters])
            return
        groups = grouped(box.letters(chosen))
    if json:
        print_json([group_json(group, reveal=reveal) for group in groups[:limit]])
        return
    print_lines([group_lines(group, now, reveal=reveal) for group in groups[:limit]])
    total = sum(group.count for group in groups)
    more = f", {plural(len(groups) - limit, 'kind')} of error not shown: --limit" if len(groups) > limit else ""
    log(f"{plural(total, 'dead letter')}{more}")


@command(app, "show", example="mauntic-jobs dlq show delivery:send-email/7f3c2f9e --json", prints=LetterDetailJson)
def show_letter(
    settings: Settings,
    letter: Annotated[
        str, typer.Argument(metavar="ID", help="Such as delivery:send-email/7f3c2f9e or run/42, from `dlq list`.")
    ],
    *,
    reveal: Reveal = False,
    json: JsonOutput = False,
) -> None:
    """Show everything that is known of one dead letter: its payload, every attempt, what the ledgers hold of it."""
    with opened(settings, clock.now()) as box:
        found = show(box, box.find(letter), reveal=reveal)
    if json:
        print_json(found)
    else:
        print_detail(found)


@command(app, "export", example="mauntic-jobs dlq export dead.jsonl --queue delivery:send-email", prints=LetterJson)
def export_letters(
    settings: Settings,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to; - is stdout.", dir_okay=False, allow_dash=True)
    ],
    *,
    queue: Queue = None,
    since: Since = None,
    org: Org = None,
    where: Where = None,
    reveal: Reveal = False,
) -> None:
    """Write dead letters with their payloads, one JSON object a line. The file is whole, or it is not there."""
    now = clock.now()
    chosen = selection(queue, since, org, where, now)
    with opened(settings, now) as box:
        letters = box.letters(chosen, payloads=True)
        if str(file) == "-":
            count = export(letters, sys.stdout, reveal=reveal)
        else:
            with whole_file(file) as target:
                count = export(letters, target, reveal=reveal)
    log(f"{plural(count, 'dead letter')} exported")


# Lines of crontabs and units that were written for an earlier version name it, with any options.
_ANY_OPTIONS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@command(app, "watch", example="mauntic-jobs monitor run --once", hidden=True, context_settings=_ANY_OPTIONS)
def watch_letters() -> None:
    """Say what has taken the place of this command."""
    raise UsageError(
        "`dlq watch` is a part of `monitor run`, which the clock calls each minute. Remove this call, or call "
        "`mauntic-jobs monitor run` instead. Other thresholds than the usual ones, and conditions, are the setting "
        """dead_letters, such as MAUNTIC_DEAD_LETTERS='[{"depth": 500}, {"where": "queue=run", "age": "1h"}]'."""
    )
