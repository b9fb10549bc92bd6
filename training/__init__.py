"""The trainer: turns a unit's own data into a proven adapter version.

Imports `adapters/` and never `service/`; it reaches the service over HTTP like any client.
"""
