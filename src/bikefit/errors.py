"""The base class of errors that a user can put right."""


class BikefitError(Exception):
    """An error whose message tells the user what was wrong, what is allowed and what to do.

    Commands print the message without a traceback. Every other exception, except a failure of the
    operating system (:class:`OSError`), is a bug and keeps its traceback.
    """
