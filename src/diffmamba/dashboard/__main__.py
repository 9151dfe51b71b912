"""`python -m diffmamba.dashboard`."""

from diffmamba.dashboard.command import main

main()
