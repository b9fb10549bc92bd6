"""One job from its files to a version that is live; `python -m training.job` runs it.

`pipeline.py` is the job, top to bottom; every other file is one step of it, or what it works with.
"""
