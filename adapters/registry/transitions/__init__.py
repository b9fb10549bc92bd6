"""What the registry's commands do, as pure functions of domain values.

The SQL reads values, asks here what becomes of them, and writes the answer.
"""
