"""`python -m diffmamba.runs`, the same as `diffmamba runs`."""

from diffmamba.browse.command import main

if __name__ == "__main__":
    main()
