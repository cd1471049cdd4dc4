"""The services that carry messages, one file for each kind."""
