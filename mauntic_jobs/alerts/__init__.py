"""What wakes somebody: alerts, told once to whoever is on call, and once more when they are over."""
