"""`python -m groundserve`: the command line."""

from groundserve.cli.main import main

main()
