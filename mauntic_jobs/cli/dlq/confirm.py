"""Confirmation and progress of commands that change dead letters."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import typer

from mauntic_jobs.cli.dlq.output import group_json, group_lines, print_lines
from mauntic_jobs.cli.documents.dead_letters import KeptLetterJson, LettersMeantJson
from mauntic_jobs.cli.framework.output import log, print_json, print_line
from mauntic_jobs.cli.job.output import progress
from mauntic_jobs.errors import ExitCode, UsageError
from mauntic_jobs.ops.dead_letters.batch_action import Action, ActionOutcome, Fate, act
from mauntic_jobs.ops.dead_letters.grouping import Group, grouped
from mauntic_jobs.ops.dead_letters.store import DeadLetters, Selection
from mauntic_jobs.ops.rate_limit import Pace, parse_rate
from mauntic_jobs.wording import plural

_SHOWN_GROUPS = 10
# Letters whose reasons are told one by one; what comes after is only counted.
_TOLD = 20


@dataclass(frozen=True)
class Asked:
    """What a command was asked to do: `verb` is its name, `past` what is said of a letter afterwards."""

    verb: str
    past: str
    ids: Sequence[str]
    selection: Selection
    rate: str
    limit: int | None
    dry_run: bool
    yes: bool
    json: bool

    def check(self) -> None:
        """Raise UsageError unless it is said, one way or the other, which dead letters are meant."""
        conditions = self.selection != Selection()
        if bool(self.ids) == conditions:
            raise UsageError(
                f"Say which dead letters to {self.verb}: their IDs, or conditions such as --where and --queue."
            )


def carry_out(box: DeadLetters, asked: Asked, action: Action) -> None:
    """Do what was asked, once it is clear that it is meant, and print what became of it."""
    asked.check()
    pace = Pace(parse_rate(asked.rate))
    named = list({letter.address: letter for letter in map(box.find, asked.ids)}.values())
    groups = grouped(islice(named or box.letters(asked.selection), asked.limit))
    total = sum(group.count for group in groups)
    if asked.dry_run:
        _print_dry_run(box, asked, groups, total)
        return
    if total and not _is_meant(box, asked, groups, total):
        log("Nothing was changed.")
        return
    outcomes = _Outcomes(asked)
    try:
        with progress(total, asked.verb, quiet=total == 0) as advance:
            letters = named or box.letters(asked.selection, payloads=True)
            for outcome in act(letters, action, pace, asked.limit):
                outcomes.add(outcome)
                advance()
    finally:
        outcomes.show()
    raise typer.Exit(outcomes.exit_code)


def _print_dry_run(box: DeadLetters, asked: Asked, groups: Sequence[Group], total: int) -> None:
    if asked.json:
        meant: LettersMeantJson = {
            "dry_run": True,
            "matched": total,
            "groups": [group_json(group) for group in groups],
        }
        print_json(meant)
        return
    print_lines([group_lines(group, box.now) for group in groups])
    log(f"{plural(total, 'dead letter')} would be {asked.past}")


def _is_meant(box: DeadLetters, asked: Asked, groups: Sequence[Group], total: int) -> bool:
    """Ask whether all of them are meant, unless that was said, or one was named. Raises UsageError off a terminal."""
    if asked.yes or len(asked.ids) == 1:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"{plural(total, 'dead letter')} would be {asked.past}: add --yes if that is meant, or look with --dry-run."
        )
    for group in groups[:_SHOWN_GROUPS]:
        for line in group_lines(group, box.now):
            log(line)
    if len(groups) > _SHOWN_GROUPS:
        log(f"and {plural(len(groups) - _SHOWN_GROUPS, 'more kind')} of error")
    return typer.confirm(f"{asked.verb.capitalize()} {plural(total, 'dead letter')}?", err=True)


class _Outcomes:
    """Counts what became of the letters, and tells why some are still there."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._counts: Counter[Fate] = Counter()
        self._kept: list[ActionOutcome] = []

    @property
    def exit_code(self) -> ExitCode:
        """The exit code: failed if a run failed again, refused if nothing else came of it, else partial."""
        if self._counts[Fate.FAILED]:
            return ExitCode.FAILED
        if not self._counts[Fate.REFUSED]:
            return ExitCode.DONE
        return ExitCode.PARTIAL if self._counts[Fate.DONE] else ExitCode.REFUSED

    def add(self, outcome: ActionOutcome) -> None:
        """Count an outcome, and log one that needs an operator."""
        self._counts[outcome.fate] += 1
        if outcome.fate is Fate.DONE or len(self._kept) == _TOLD:
            return
        self._kept.append(outcome)
        log(f"{outcome.letter.address}: {outcome.reason}")

    def show(self) -> None:
        """Print the counts."""
        counts = {fate.value: self._counts[fate] for fate in Fate}
        if self._asked.json:
            kept: list[KeptLetterJson] = [
                {"id": each.letter.address, "fate": each.fate, "reason": each.reason} for each in self._kept
            ]
            print_json({**counts, "kept": kept})
            return
        names = {Fate.DONE: self._asked.past, Fate.GONE: "gone meanwhile", Fate.FAILED: "failed again"}
        parts = [f"{count:,} {names.get(fate, fate.value)}" for fate, count in self._counts.items() if count]
        print_line(", ".join(parts) or f"0 {self._asked.past}")
