"""The one error the lab raises: a sentence for the person who reads the test log."""


class LabError(RuntimeError):
    """Something the lab needs did not happen; the message says what and shows the evidence."""
