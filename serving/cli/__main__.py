"""`python -m serving.cli` is `millstream`."""

from serving.cli.main import main

main()
