"""The embedded base model: a tiny Llama that the project builds itself, once, from a fixed recipe.

`python -m training.base` prints the directory; `recipe.py` says what is built, `build.py` keeps it
in a cache named by the recipe's digest, `pretrain.py` trains it on what `corpus.py` generates.
"""
