"""Requests from API Gateway, REST APIs and HTTP APIs.

:class:`RestRequest` is the event of a Lambda proxy integration of a REST API, and of an HTTP API with payload format
1.0 (AWS: "Lambda proxy integrations in API Gateway", API Gateway Developer Guide). :class:`HttpRequest` is that of
payload format 2.0 (AWS: "Create AWS Lambda proxy integrations for HTTP APIs in API Gateway", API Gateway Developer
Guide).
"""

from __future__ import annotations

from typing import Any

import msgspec


class Identity(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Who called a REST API.

    ``source_ip`` is the address of the immediate connection; ``user_arn``, ``caller`` and ``account_id`` name an IAM
    caller; ``api_key`` is the usage plan's key, where the method requires one.
    """

    source_ip: str
    user_agent: str | None = None
    user_arn: str | None = None
    user: str | None = None
    caller: str | None = None
    account_id: str | None = None
    api_key: str | None = None
    cognito_identity_id: str | None = None
    cognito_identity_pool_id: str | None = None


class RestContext(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """``requestContext`` of a REST API. ``authorizer`` is what a custom or Cognito authorizer found, as it came."""

    account_id: str
    api_id: str
    http_method: str
    identity: Identity
    request_id: str
    resource_path: str
    stage: str
    authorizer: dict[str, Any] | None = None
    domain_name: str | None = None
    path: str | None = None
    protocol: str | None = None
    request_time_epoch: int = 0


class RestRequest(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """A request as payload format 1.0 has it.

    ``resource`` is the route's template, ``path`` the path that was asked for. A header or query parameter that came
    several times is whole in ``multi_value_headers`` or ``multi_value_query_string_parameters``; the maps beside them
    hold its last value. What is empty comes as ``null``. ``body`` is base64 where ``is_base64_encoded`` says so.
    """

    resource: str
    path: str
    http_method: str
    request_context: RestContext
    headers: dict[str, str] | None = None
    multi_value_headers: dict[str, list[str]] | None = None
    query_string_parameters: dict[str, str] | None = None
    multi_value_query_string_parameters: dict[str, list[str]] | None = None
    path_parameters: dict[str, str] | None = None
    stage_variables: dict[str, str] | None = None
    body: str | None = None
    is_base64_encoded: bool = False


class Http(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """The request line and where it came from."""

    method: str
    path: str
    protocol: str
    source_ip: str
    user_agent: str = ""


class HttpContext(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """``requestContext`` of an HTTP API. ``authorizer`` holds ``jwt``, ``lambda`` or ``iam``, as it came."""

    account_id: str
    api_id: str
    domain_name: str
    domain_prefix: str
    http: Http
    request_id: str
    stage: str
    time_epoch: int
    route_key: str = ""
    time: str = ""
    authorizer: dict[str, Any] | None = None


class HttpRequest(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """A request as payload format 2.0 has it.

    ``raw_path`` and ``raw_query_string`` are as they were sent. Header names are in lower case; values of a header or
    query parameter that came several times are joined by commas; cookies stand apart. What is empty is left out.
    ``body`` is base64 where ``is_base64_encoded`` says so.
    """

    version: str
    route_key: str
    raw_path: str
    raw_query_string: str
    headers: dict[str, str]
    request_context: HttpContext
    cookies: list[str] = []
    query_string_parameters: dict[str, str] = {}
    path_parameters: dict[str, str] = {}
    stage_variables: dict[str, str] = {}
    body: str | None = None
    is_base64_encoded: bool = False
