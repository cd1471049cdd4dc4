"""Files that have other clocks launch the jobs."""
