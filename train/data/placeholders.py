"""Where a conversation may name its image or video."""

from __future__ import annotations

from collections.abc import Sequence

from groundserve.data_record import IMAGE_PLACEHOLDER, Message
from groundserve.errors import InvalidRequestError


def check_placeholders(messages: Sequence[Message], *, has_media: bool) -> None:
    """Refuse a conversation whose `<image>` do not all stand for its one image or video.

    Several in the first message are one, which goes to its front, as in the reference. One in a
    later message would be a second image; there the reference ends with an IndexError.

    Args:
        messages: At least one.
        has_media: Whether the record has an image or a video.

    Raises:
        InvalidRequestError: There is one elsewhere, or there is no image or video.
    """
    others = messages[1:] if has_media else messages
    found = sum(message.text.count(IMAGE_PLACEHOLDER) for message in others)
    if found:
        rule = "in the first message only" if has_media else "only with an image or a video"
        raise InvalidRequestError(
            f"conversations may have the placeholder {IMAGE_PLACEHOLDER} {rule}, got {found}"
            + (" elsewhere" if has_media else "")
        )
