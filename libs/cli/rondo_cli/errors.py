"""What the command line says when it can't do what was asked."""


class Failure(Exception):
    """Shown to the person as it is, without a trace. `code` is the exit code: 1 it went wrong, 2 it was
    asked wrongly."""

    def __init__(self, text: str, code: int = 1):
        super().__init__(text)
        self.code = code
