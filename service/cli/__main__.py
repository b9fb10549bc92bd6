"""`python -m service.cli`: the same as `wardrobe`, where the console command is not on the path."""

from service.cli import main

main()
