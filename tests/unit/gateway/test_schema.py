"""What the OpenAPI allows, and what it does not, has an answer that it describes."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from groundserve.gateway.keys import add_key
from tests.support.scripted_server import ScriptedServer
from tests.unit.gateway.conftest import gateway

# Not that all which the schema allows is accepted: it does not know which options go together.
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    key = add_key(folder / "keys", "anna", requests_per_minute=10**6, max_jobs=10**6)
    with (
        ScriptedServer(families=("videoitg", "vtimellm")) as server,
        gateway(folder, server, keys_file=folder / "keys", key=key) as running,
    ):
        running.key = key
        yield running


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_one_that_the_schema_describes(client, mode):
    # Not by schemathesis's plugin, which pytest 9.2 is too new for.
    schema = schemathesis.openapi.from_url(f"{client.server.url}/openapi.json")
    operations = [one.ok() for one in schema.get_all_operations()]
    assert len(operations) >= 11
    for operation in operations:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=15,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def validate(case):
            headers = {"Authorization": f"Bearer {client.key}"}
            case.call_and_validate(checks=CHECKS, headers=headers)

        validate()
