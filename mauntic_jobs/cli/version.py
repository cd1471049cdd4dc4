"""`version`: the version of the program."""

from mauntic_jobs import __version__
from mauntic_jobs.cli.framework.command import command, root
from mauntic_jobs.cli.framework.output import print_line


@command(root, "version", example="mauntic-jobs version")
def show_version() -> None:
    """Print the version, as --version does."""
    print_line(f"mauntic-jobs {__version__}")
