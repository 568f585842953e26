"""Merge the encode requests of one dynamic batch into as few encoder calls as possible."""

from __future__ import annotations

from collections.abc import Sequence

from groundserve.families.vision_inputs import VisionInputs
from python_backend.arrays import Array, concatenate
from python_backend.encode import EncodeFunction
from python_backend.triton._tensors import Tensors


def encode_merged(
    requests: Sequence[Tensors], encode: EncodeFunction, inputs: VisionInputs
) -> list[Array]:
    """Encode in one call what has equal shared inputs, and units of one shape.

    A request has the tensors of one video by name, each with u units in front: streams, uint8
    (u, S, S, 3), (u, F, S, S, 3) or, as decoded, (u, H, W, 3), and plan inputs, float32, of which
    those that all units share say the same of each. Return one (u, P, D) a request.
    """
    shared_names = {one.name for one in inputs.plan_inputs if not one.of_units}
    # By content: shapes differ between videos of different length, and arrays of different shape or
    # values cannot be one call.
    equal: dict[tuple[object, ...], list[int]] = {}
    for i, request in enumerate(requests):
        shared = (request[name][0].tobytes() for name in sorted(shared_names))
        shapes = (tuple(request[name].shape[1:]) for name in inputs.names)
        equal.setdefault((*shapes, *shared), []).append(i)
    features: dict[int, Array] = {}
    for members in equal.values():
        together = [requests[i] for i in members]
        encoded = encode(
            *(
                together[0][name][:1]
                if name in shared_names
                else concatenate([request[name] for request in together])
                for name in inputs.names
            )
        )
        start = 0
        for i in members:
            end = start + len(requests[i][inputs.names[0]])
            features[i] = encoded[start:end]  # a view: copied when the tensor is handed over
            start = end
    return [features[i] for i in range(len(requests))]
