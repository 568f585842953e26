"""The former name of `groundserve.parent_watch`; goes when nothing imports it."""

from groundserve.parent_watch import end_with_parent as start_heartbeat

__all__ = ["start_heartbeat"]
