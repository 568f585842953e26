"""All recorded cases of the reference through the real server, as in tests/parity."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from groundserve import Client, InvalidRequestError
from groundserve.serving import TritonServer
from tests.support.exact import exact
from tests.support.reference import CHECKPOINTS, ReferenceCase


def cases_of(checkpoint) -> list[list[ReferenceCase]]:
    """Cases that one request can carry: same video and options, different questions."""
    from tests.support.reference import ALL_CASES

    def key(case):
        return (case.video, case.options.to_json())

    cases = sorted((case for case in ALL_CASES if case.checkpoint == checkpoint), key=key)
    return [list(group) for _, group in groupby(cases, key)]


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda path: path.name)
def test_logits_are_float64s(checkpoint, engines_of, clips, tmp_path):
    server = TritonServer(
        engines_of(checkpoint, "cpu"),
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        log_file=tmp_path / "tritonserver.log",
    )
    compared = refused = 0
    with server, Client(f"grpc://{server.grpc_address}") as client:
        for cases in cases_of(checkpoint):
            video, options = clips[cases[0].video], cases[0].options
            # The reference cuts a question that does not fit; the server refuses it.
            queries = [case for case in cases if fits(case, cases)]
            result = client.score(video, [case.query for case in queries], options)
            assert result.frame_indices.tolist() == cases[0].frame_indices
            for case, answer in zip(queries, result.queries, strict=True):
                expected = exact(case, video)
                np.testing.assert_allclose(
                    answer.frame_logits,
                    expected.logits,
                    atol=expected.bound,
                    rtol=0,
                    err_msg=case.query,
                )
                compared += 1
            for case in cases:
                if case not in queries:
                    with pytest.raises(InvalidRequestError, match="together more than 700"):
                        client.score(video, case.query, options)
                    refused += 1
    assert (compared, refused) == {"videoitg-tiny": (24, 0), "videoitg-pad-bang": (28, 0)}.get(
        checkpoint.name, (52, 4)
    )


def fits(case: ReferenceCase, cases: list[ReferenceCase]) -> bool:
    """Tell whether the text fits beside the visual tokens: 700 together in set 2."""
    if case.kept_ids is None or case.grid is None:
        return True
    return len(cases[0].frame_indices) * case.grid**2 + len(case.kept_ids) - 1 <= 700
