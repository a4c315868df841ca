"""Mistakes of the person at the keyboard, as opposed to ours."""


class UsageError(ValueError):
    """Wrong input: the message names the option or file, its value, what is accepted and what to do next.

    The command line prints the message as one line and exits with 2; from Python it is an ordinary ``ValueError``.
    """
