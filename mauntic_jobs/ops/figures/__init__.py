"""Figures of the platform as the jobs recorded them: rollups, campaigns, usage and journeys, and who wrote each."""
