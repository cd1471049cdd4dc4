"""Cron lines in words."""


def in_words(cron: str) -> str:
    """Return what a cron line means, in English: `At 02:00, only on Monday`."""
    from cron_descriptor import Options, get_description

    options = Options()
    options.use_24hour_time_format = True
    options.locale_code = "en_US"
    return str(get_description(cron, options))
