"""Clock, windows and cron lines, in UTC."""
