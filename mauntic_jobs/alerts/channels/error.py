"""Why a channel did not take a notice."""


class ChannelError(Exception):
    """A sentence without secrets, to stand after the channel's name."""
