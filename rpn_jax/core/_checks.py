"""Checks of static facts, with an error that says who needs what."""


def require(condition: bool, message: str) -> None:
    """Raises a `ValueError` with `message` unless `condition` holds."""
    if not condition:
        raise ValueError(message)
