"""The one exception that means: the user can mend this."""


class UserError(ValueError):
    """A wrong input. The message says what was found, what was expected and what to do; `main` prints it and exits with 2."""
