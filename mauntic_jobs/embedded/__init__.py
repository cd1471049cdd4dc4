"""Postgres and Valkey from wheels, started as throwaway or kept servers for tests, the demo and development."""
