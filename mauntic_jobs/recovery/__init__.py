"""Loss of Redis' data: noticing it, and knowing of it until it is recovered from."""
