"""Places of the settings file where none is named. It is read before anything is imported that takes its time."""

from pathlib import Path

# Read in this order; the first that exists is used.
CONFIG_FILES = (Path("mauntic-jobs.toml"), Path("/etc/mauntic-jobs.toml"))
