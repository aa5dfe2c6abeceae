"""`python -m otf_serve`: the server, from this very Python."""

from .cli import main

main()
