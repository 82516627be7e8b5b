"""The variables of a sandbox."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest

from lamplighter.function.config import FunctionConfig
from lamplighter.function.environment import base_environment, log_stream_name

CONFIG = FunctionConfig(name="orders", handler="app.handler", code="/srv/orders", memory_mb=512)

HOST = {
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_PROFILE": "operator",
    "HOME": "/root",
}


def test_a_sandbox_has_the_variables_recorded_on_the_service() -> None:
    assert base_environment(CONFIG, region="eu-west-1", python_version="3.14", host_environment=HOST) == {
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.14",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_FUNCTION_NAME": "orders",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/orders",
        "AWS_REGION": "eu-west-1",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "LD_LIBRARY_PATH": (
            "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
        ),
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "PWD": "/var/task",
        "SHLVL": "0",
        "TZ": ":UTC",
        "_HANDLER": "app.handler",
    }


def test_roots_can_lie_elsewhere_where_the_host_cannot_mount() -> None:
    variables = base_environment(
        CONFIG,
        region="eu-west-1",
        python_version="3.11",
        task_root="/srv/orders",
        layer_roots=("/srv/b", "/srv/a"),
    )
    assert variables["LAMBDA_TASK_ROOT"] == variables["PWD"] == "/srv/orders"
    assert variables["LD_LIBRARY_PATH"].endswith(":/srv/orders:/srv/orders/lib:/srv/b/lib:/srv/a/lib")
    assert variables["PATH"].endswith(":/bin:/srv/b/bin:/srv/a/bin")


def test_log_variables_appear_only_where_configured() -> None:
    config = FunctionConfig(handler="a.b", code="/", log_format="json", log_level="TRACE")
    variables = base_environment(config, region="us-east-1", python_version="3.13")
    assert variables["AWS_LAMBDA_LOG_FORMAT"] == "JSON"
    assert variables["AWS_LAMBDA_LOG_LEVEL"] == "TRACE"


def test_the_functions_own_variables_come_along_and_win_over_the_ones_it_may_set() -> None:
    config = FunctionConfig(handler="a.b", code="/", environment={"TABLE": "orders", "TZ": "Europe/Berlin"})
    variables = base_environment(config, region="us-east-1", python_version="3.13")
    assert (variables["TABLE"], variables["TZ"]) == ("orders", "Europe/Berlin")
    assert "TABLE" not in base_environment(CONFIG, region="us-east-1", python_version="3.13")


def test_the_hosts_credentials_are_handed_on_only_when_asked() -> None:
    config = FunctionConfig(handler="a.b", code="/", pass_credentials=True)
    variables = base_environment(config, region="us-east-1", python_version="3.13", host_environment=HOST)
    assert {key: variables[key] for key in HOST if key in variables} == {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
    }
    assert "AWS_EC2_METADATA_DISABLED" not in variables


def test_long_lived_credentials_come_without_a_session_token() -> None:
    config = FunctionConfig(handler="a.b", code="/", pass_credentials=True)
    host = {**HOST, "AWS_SESSION_TOKEN": ""}
    variables = base_environment(config, region="us-east-1", python_version="3.13", host_environment=host)
    assert "AWS_SESSION_TOKEN" not in variables


def test_the_hosts_variables_are_handed_on_only_when_asked_and_never_the_reserved_ones() -> None:
    host = {
        **HOST,
        "TABLE": "orders",
        "TZ": "Europe/Rome",
        "PYTHONPATH": "/srv",
        "PWD": "/",
        "AWS_REGION": "x",
        "_": "y",
    }
    plain = base_environment(CONFIG, region="eu-west-1", python_version="3.13", host_environment=host)
    assert "TABLE" not in plain
    config = FunctionConfig(handler="a.b", code="/", pass_environment=True, environment={"TZ": "Asia/Tokyo"})
    variables = base_environment(config, region="eu-west-1", python_version="3.13", host_environment=host)
    assert (variables["TABLE"], variables["HOME"], variables["AWS_PROFILE"]) == ("orders", "/root", "operator")
    assert variables["TZ"] == "Asia/Tokyo", "the function's own variables win"
    assert (variables["PWD"], variables["AWS_REGION"]) == ("/var/task", "eu-west-1"), "the platform's win"
    assert not {"PYTHONPATH", "_", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} & variables.keys()


def test_a_client_of_boto3_can_be_made_without_credentials_and_without_asking_the_network() -> None:
    pytest.importorskip("boto3", reason="boto3 is not installed")
    variables = base_environment(CONFIG, region="eu-west-1", python_version="3.13", host_environment={})
    for name in ("LD_LIBRARY_PATH", "PATH"):
        variables[name] = os.environ.get(name, "")  # whatever this interpreter needs
    program = (
        "import socket, sys\n"
        "def refuse(*_): sys.exit('the network was asked')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import boto3\n"
        "print(boto3.client('s3').meta.region_name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("eu-west-1\n", 0), done.stderr


@pytest.mark.parametrize("version", ["3", "3.13.1", "python3.13", "2.7", ""])
def test_a_python_version_of_another_form_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match="allowed: major and minor, such as '3"):
        base_environment(CONFIG, region="us-east-1", python_version=version)


def test_a_log_streams_name_has_the_date_the_version_and_32_hex_digits() -> None:
    unique = "0123456789abcdef0123456789abcdef"
    now = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)
    assert log_stream_name(now, "$LATEST", unique) == f"2026/11/22/[$LATEST]{unique}"


def test_a_log_streams_date_is_utcs() -> None:
    now = datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    assert log_stream_name(now, "7", "a" * 32) == f"2025/12/31/[7]{'a' * 32}"


def test_a_log_stream_needs_a_time_with_a_zone_and_32_hex_digits() -> None:
    with pytest.raises(ValueError, match="allowed: an aware datetime"):
        log_stream_name(datetime(2026, 1, 1), "7", "a" * 32)
    with pytest.raises(ValueError, match="allowed: 32 lower-case hex digits"):
        log_stream_name(datetime(2026, 1, 1, tzinfo=UTC), "7", "A" * 32)
