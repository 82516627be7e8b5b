#!/bin/sh
# What a container of this image runs, with the handler as its one argument, as AWS's own images have it.
#
# With AWS_LAMBDA_RUNTIME_API (on Lambda, behind the emulator or a host) it is the runtime interface client. Without, it
# is a host of its own on port 8080 that answers where the emulator does:
#
#   docker run -p 9000:8080 IMAGE
#   curl http://localhost:9000/2015-03-31/functions/function/invocations -d '{}'
#
# The variables of the container are the function's, and those the emulator knows mean the same here. LAMPLIGHTER_OPTIONS
# holds further options of `lamplighter serve`, LAMPLIGHTER_LISTEN another address.
set -eu

if [ $# -ne 1 ]; then
    echo "entrypoint requires the handler name to be the first argument" >&2
    exit 142
fi
export _HANDLER="$1"
if [ -n "${AWS_LAMBDA_RUNTIME_API:-}" ]; then
    exec /var/runtime/bootstrap
fi

set -- "$_HANDLER" \
    --code "$LAMBDA_TASK_ROOT" \
    --layer /opt \
    --function-name function \
    --listen "${LAMPLIGHTER_LISTEN:-0.0.0.0:8080}" \
    --memory "${AWS_LAMBDA_FUNCTION_MEMORY_SIZE:-3008}" \
    --timeout "${AWS_LAMBDA_FUNCTION_TIMEOUT:-300}" \
    --region "${AWS_REGION:-${AWS_DEFAULT_REGION:-us-east-1}}" \
    --pass-environment
if [ -n "${AWS_ACCESS_KEY_ID:-}" ] && [ -n "${AWS_SECRET_ACCESS_KEY:-}" ]; then
    set -- "$@" --pass-credentials
fi
# Unquoted: it is several words.
# shellcheck disable=SC2086
exec lamplighter serve "$@" ${LAMPLIGHTER_OPTIONS:-}
