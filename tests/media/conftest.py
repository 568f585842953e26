from tests.unit.media.conftest import deadline, decode_asset, limits, make_asset, workers

__all__ = ["deadline", "decode_asset", "limits", "make_asset", "workers"]
