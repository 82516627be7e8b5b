"""Requests to a function URL.

AWS: "Invoking Lambda function URLs", Lambda Developer Guide: the event has API Gateway's payload format 2.0, but what
belongs to an API rather than to a function is fixed or absent.
"""

from __future__ import annotations

from typing import Any

import msgspec

from lamplighter.events.sources.api_gateway import Http


class Context(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """``requestContext``.

    ``account_id`` is ``anonymous`` where the URL asks for no authentication; ``api_id`` is the
    URL's own id; ``authorizer`` holds ``iam`` where it asks for AWS_IAM.
    """

    account_id: str
    api_id: str
    domain_name: str
    domain_prefix: str
    http: Http
    request_id: str
    time_epoch: int
    time: str = ""
    authorizer: dict[str, Any] | None = None


class Request(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """One request. Header names are in lower case; ``body`` is base64 where ``is_base64_encoded`` says so."""

    version: str
    raw_path: str
    raw_query_string: str
    headers: dict[str, str]
    request_context: Context
    cookies: list[str] = []
    query_string_parameters: dict[str, str] = {}
    body: str | None = None
    is_base64_encoded: bool = False
