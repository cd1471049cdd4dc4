"""Why a contact is in a journey or not: its segment, the entry rules, the next run, and its executions."""
