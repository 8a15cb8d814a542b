"""What can go wrong by the user's hand, and what can go wrong in a run."""


class BadInput(ValueError):
    """A mistake in what the user gave: one sentence that names the culprit and the cure.

    Command lines print the sentence alone and end with exit code 2.
    """


class NonFinite(ArithmeticError):
    """A run's loss or metric became NaN or infinite; the sentence says at which step, in what."""


class BadCheckpoint(RuntimeError):
    """A checkpoint that is damaged, or belongs to another run; the sentence says which."""
