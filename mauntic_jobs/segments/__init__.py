"""Segments of contacts: what their criteria may say, and the SQL that finds their members."""
