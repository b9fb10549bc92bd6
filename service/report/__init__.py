"""The report of a version, for a manager to read: one HTML page that needs nothing else."""
