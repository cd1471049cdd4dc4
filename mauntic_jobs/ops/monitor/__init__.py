"""What somebody has to be told without asking: one condition a file."""
