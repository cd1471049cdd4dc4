"""Runs the command line as `python -m mauntic_jobs`."""

from mauntic_jobs.cli.main import main

main()
