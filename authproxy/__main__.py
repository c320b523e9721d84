"""`python -m authproxy`: the same as the `authproxy` command."""

from authproxy.cli import main

if __name__ == "__main__":
    main()
