"""Settles a batch of payments from an SQS queue, and hands back only the messages that failed.

Set ``ReportBatchItemFailures`` on the event source mapping: Lambda then deletes the messages that are not named in the
answer, and the named ones become visible again (and end in the dead-letter queue after their last attempt).
"""

import json
import logging
from decimal import Decimal
from typing import Any

logger = logging.getLogger()
logger.setLevel(logging.INFO)

CURRENCIES = {"EUR", "GBP", "USD"}


class PoisonMessage(Exception):
    """The message can never be settled, however often it is tried."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    failures = []
    settled: dict[str, Decimal] = {}
    for record in event["Records"]:
        try:
            currency, amount = payment(record["body"])
        except PoisonMessage as poison:
            attempt = record["attributes"]["ApproximateReceiveCount"]
            logger.warning("message %s failed on attempt %s: %s", record["messageId"], attempt, poison)
            failures.append({"itemIdentifier": record["messageId"]})
        else:
            settled[currency] = settled.get(currency, Decimal(0)) + amount
    for currency, total in sorted(settled.items()):
        logger.info("settled %s %s", total, currency)
    print(f"{len(event['Records']) - len(failures)} of {len(event['Records'])} messages settled")
    return {"batchItemFailures": failures}


def payment(body: str) -> tuple[str, Decimal]:
    try:
        # Money in binary floating point would not add up.
        message = json.loads(body, parse_float=Decimal, parse_int=Decimal)
        currency, amount = message["currency"], message["amount"]
    except ValueError as error:
        raise PoisonMessage(f"the body is not JSON ({error})") from None
    except (KeyError, TypeError):
        raise PoisonMessage("the body needs 'currency' and 'amount'") from None
    if not isinstance(currency, str) or currency not in CURRENCIES:
        raise PoisonMessage(f"currency is {currency!r}; allowed are {', '.join(sorted(CURRENCIES))}")
    if not isinstance(amount, Decimal) or amount <= 0:
        raise PoisonMessage(f"amount is {amount}; it must be a number above 0")
    return currency, amount
