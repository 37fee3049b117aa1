"""Unconnected: why there is no connection."""


class Unconnected(OSError):
    """There is no connection, so that nothing can have been asked."""
