"""Errors of the store."""

from bikefit.errors import BikefitError


class TrackingError(BikefitError):
    """The store refuses a call, or has no such sweep, run or model."""


class NotFoundError(TrackingError):
    """The store has no such run or model."""


class StoreUnavailableError(TrackingError):
    """The store cannot be reached or has an internal error; a later call may succeed."""
