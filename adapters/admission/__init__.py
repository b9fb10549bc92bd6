"""Checks adapter directories before the engine may load them, and seals what passes."""
