"""Consumers of BullMQ queues."""
