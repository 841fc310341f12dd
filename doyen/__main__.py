"""`python -m doyen`: the command line, as `torchrun -m doyen` starts it."""

from doyen.cli import main

if __name__ == "__main__":
    main()
