"""The one exception a user is meant to read: a setting that cannot work, and what to use instead."""


class SettingError(ValueError):
    """Bad input found at the boundary.

    The message is one line in plain words that names the setting to change and, where possible, the values that
    are accepted. Entry points print it without a traceback and exit with status 2.
    """


def one_line(error: BaseException) -> str:
    """What an error says, in one line; the name of its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
