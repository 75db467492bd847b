"""`python -m llmrec`: the same as the command `llmrec`."""

from llmrec.apps.cli import main

main()
