"""What measures speed and quality, side by side; every module here runs alone (see README.md)."""
