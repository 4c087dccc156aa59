"""The one exception that means: the user can mend this."""


class UserError(ValueError):
    """A wrong input. The message, which commands print, says what was found, what was expected and what to do."""
