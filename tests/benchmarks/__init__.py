"""Tests of what measures: a benchmark that is wrong is worse than none."""
