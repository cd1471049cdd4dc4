"""BullMQ queues, through its official Lua scripts."""
