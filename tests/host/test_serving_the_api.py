"""The Invoke API before real workers: names, qualifiers, types of invocation, the context object, the environment."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.host.serving import RUNS, Serving, needs_root, serving, serving_many

from lamplighter.function.limits import ENFORCED

ARN = "arn:aws:lambda:eu-west-3:210987654321:function:probe"
CONTEXT = """
result = {name: getattr(context, name) for name in (
    "aws_request_id", "invoked_function_arn", "function_name", "function_version", "memory_limit_in_mb",
    "log_group_name", "log_stream_name", "tenant_id",
)}
result["remaining"] = context.get_remaining_time_in_millis()
result["identity"] = [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id]
client = context.client_context
result["client"] = client and [client.custom, client.env, client.client and vars_of(client.client)]
""".replace(
    "vars_of(client.client)", "{name: getattr(client.client, name) for name in ('app_title', 'installation_id')}"
)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    options = ("--timeout", "7", "--memory", "200", "--env", "TABLE=orders", "--env", "LANG=fr_FR.UTF-8")
    place = ("--region", "eu-west-3", "--account", "210987654321")
    secret = {"LAMPLIGHTER_TEST_SECRET": "of the host", "AWS_SECRET_ACCESS_KEY": "of the host as well"}
    with serving(tmp_path_factory.mktemp("api"), RUNS, *options, *place, variables=secret) as host:
        host.settle()
        yield host


@pytest.mark.parametrize(
    ("name", "qualifier", "told"),
    [
        ("probe", "", ARN),
        ("probe", "$LATEST", f"{ARN}:$LATEST"),
        ("probe:$LATEST", "", f"{ARN}:$LATEST"),
        ("function", "", ARN),
        ("function:probe", "", ARN),
        ("210987654321:function:probe", "", ARN),
        ("210987654321:probe", "", ARN),
        (ARN, "", ARN),
        (f"{ARN}:$LATEST", "", f"{ARN}:$LATEST"),
    ],
)
def test_the_function_is_known_by_every_form_of_its_name_and_told_how_it_was_called(
    host: Serving, name: str, qualifier: str, told: str
) -> None:
    answer = host.invoke({"run": CONTEXT}, function=name, qualifier=qualifier)
    assert answer.value["invoked_function_arn"] == told
    assert answer.headers["x-amz-executed-version"] == "$LATEST"


@pytest.mark.parametrize(
    ("name", "qualifier", "arn"),
    [
        ("absent", "", "arn:aws:lambda:eu-west-3:210987654321:function:absent:$LATEST"),
        ("probe", "1", f"{ARN}:1"),
        ("probe", "live", f"{ARN}:live"),
        ("probe:live", "", f"{ARN}:live"),
    ],
)
def test_an_unknown_function_version_or_alias_is_a_404_that_names_it(
    host: Serving, name: str, qualifier: str, arn: str
) -> None:
    answer = host.invoke({}, function=name, qualifier=qualifier)
    assert answer.status == 404
    assert answer.headers["x-amzn-errortype"] == "ResourceNotFoundException"
    assert json.loads(answer.body) == {"Type": "User", "Message": f"Function not found: {arn}"}


def test_an_arn_of_another_region_is_refused_in_the_services_words(host: Serving) -> None:
    answer = host.invoke({}, function=ARN.replace("eu-west-3", "us-east-1"))
    assert answer.status == 404
    message = "Functions from 'us-east-1' are not reachable in this region ('eu-west-3')"
    assert json.loads(answer.body)["Message"] == message


def test_the_emulators_name_is_an_alias_only_where_there_is_one_function(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    functions = {"one": {"source": RUNS, "parked": 0}, "two": {"source": RUNS, "parked": 0}}
    with serving_many(tmp_path_factory.mktemp("many"), functions) as host:
        assert host.invoke({}, function="function").status == 404
        assert [host.run("result = context.function_name", function=name).value for name in ("one", "two")] == [
            "one",
            "two",
        ]


def test_a_dry_run_is_answered_204_and_runs_nothing(host: Serving) -> None:
    answer = host.invoke({"run": "kept['ran'] = 1"}, {"X-Amz-Invocation-Type": "DryRun"})
    assert (answer.status, answer.body) == (204, b"")
    assert "x-amz-executed-version" not in answer.headers
    assert host.run("result = kept.get('ran')").value is None
    assert host.invoke({}, {"X-Amz-Invocation-Type": "DryRun"}, function="absent").status == 404


def test_an_asynchronous_invocation_is_refused_with_the_reason(host: Serving) -> None:
    answer = host.invoke({"run": "kept['ran'] = 1"}, {"X-Amz-Invocation-Type": "Event"})
    assert answer.status == 400
    assert answer.headers["x-amzn-errortype"] == "InvalidParameterValueException"
    assert "Event" in json.loads(answer.body)["message"]
    assert host.run("result = kept.get('ran')").value is None


def test_without_log_type_tail_there_is_no_log_in_the_answer(host: Serving) -> None:
    assert "x-amz-log-result" not in host.invoke({"run": ""}, {"X-Amz-Log-Type": "None"}).headers


def test_the_context_has_lambdas_members(host: Serving) -> None:
    answer = host.run(CONTEXT)
    found = answer.value
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", found.pop("log_stream_name"))
    assert 0 < found.pop("remaining") <= 7000
    assert found == {
        "aws_request_id": answer.request_id,
        "invoked_function_arn": ARN,
        "function_name": "probe",
        "function_version": "$LATEST",
        "memory_limit_in_mb": "200",
        "log_group_name": "/aws/lambda/probe",
        "tenant_id": None,
        "identity": [None, None],
        "client": None,
    }


def test_client_context_tenant_and_trace_reach_the_handler(host: Serving) -> None:
    sent = {"custom": {"k": "é"}, "env": {"locale": "x"}, "client": {"app_title": "shop"}}
    headers = {
        "X-Amz-Client-Context": base64.b64encode(json.dumps(sent).encode()).decode(),
        "X-Amz-Tenant-Id": "blue",
        "X-Amzn-Trace-Id": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1",
    }
    answer = host.invoke({"run": f"{CONTEXT}\nimport os; result['trace'] = os.environ['_X_AMZN_TRACE_ID']"}, headers)
    assert answer.value["client"] == [{"k": "é"}, {"locale": "x"}, {"app_title": "shop", "installation_id": None}]
    assert answer.value["tenant_id"] == "blue"
    assert answer.value["trace"].startswith("Root=1-5759e988-bd862e3fe1be46a994272793")
    following = host.run(CONTEXT).value
    assert (following["client"], following["tenant_id"]) == (None, None)


def test_the_environment_variables_are_lambdas_and_the_functions_own(host: Serving) -> None:
    found = host.run("import os; result = dict(os.environ)").value
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    expected = {
        "AWS_DEFAULT_REGION": "eu-west-3",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{version}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "200",
        "AWS_LAMBDA_FUNCTION_NAME": "probe",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/probe",
        "AWS_REGION": "eu-west-3",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LANG": "fr_FR.UTF-8",
        "TABLE": "orders",
        "TZ": ":UTC",
        "_HANDLER": "app.handler",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", found["AWS_LAMBDA_LOG_STREAM_NAME"])
    assert not any(name.startswith(("PYTHON", "LAMPLIGHTER")) for name in found)


def test_no_variable_of_the_host_reaches_the_function(host: Serving) -> None:
    found = host.run("import os; result = [dict(os.environ), open('/proc/self/environ').read()]").value
    assert "of the host" not in json.dumps(found)


def test_the_log_stream_is_one_name_for_an_environment_and_another_for_the_next(host: Serving) -> None:
    stream = "import os; result = [context.log_stream_name, os.environ['AWS_LAMBDA_LOG_STREAM_NAME']]"
    first, again = host.run(stream).value, host.run(stream).value
    assert first == again
    assert first[0] == first[1]
    host.run("import os; os._exit(0)")
    assert host.run(stream).value[0] != first[0]


@needs_root
def test_the_function_is_found_where_lambda_has_it(host: Serving) -> None:
    found = host.run("import os, app; result = [os.getcwd(), app.__file__, os.environ['LAMBDA_TASK_ROOT']]").value
    assert found == ["/var/task", "/var/task/app.py", "/var/task"]


# --- boto3 -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(host: Serving) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "lambda",
        endpoint_url=f"http://127.0.0.1:{host.port}",
        region_name="eu-west-3",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"max_attempts": 0}),
    )


def test_boto3_gets_payload_log_and_version(client: Any) -> None:
    context = base64.b64encode(b'{"custom": {"k": 1}}').decode()
    code = "print('hello'); result = context.client_context.custom"
    answer = client.invoke(
        FunctionName="probe", LogType="Tail", ClientContext=context, Payload=json.dumps({"run": code}).encode()
    )
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert "FunctionError" not in answer
    assert json.loads(answer["Payload"].read()) == {"k": 1}
    assert "\nhello\nEND RequestId: " in base64.b64decode(answer["LogResult"]).decode()


def test_boto3_gets_a_functions_error(client: Any) -> None:
    answer = client.invoke(FunctionName=ARN, Payload=b'{"run": "1 / 0"}')
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] == "ZeroDivisionError"


def test_boto3_raises_its_own_exceptions_for_the_hosts_errors(client: Any) -> None:
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="Function not found"):
        client.invoke(FunctionName="absent")
    with pytest.raises(client.exceptions.InvalidRequestContentException, match="Could not parse"):
        client.invoke(FunctionName="probe", Payload=b"{")
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="Event"):
        client.invoke(FunctionName="probe", InvocationType="Event", Payload=b"{}")


def test_health_and_readiness_tell_what_is_held_and_where_the_function_is(host: Serving) -> None:
    health = host.request("GET", "/healthz")
    assert (health.status, json.loads(health.body)) == (200, {"status": "ok"})
    until = time.monotonic() + 10
    while (ready := host.request("GET", "/readyz")).status != 200:
        assert time.monotonic() < until
    body = json.loads(ready.body)
    assert body["functions"]["probe"]["template"] == "ready"
    assert tuple(body["enforcement"]) == ENFORCED
    if os.geteuid() == 0:
        assert body["enforcement"]["mount"] == "namespace"
