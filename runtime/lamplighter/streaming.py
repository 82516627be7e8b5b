"""Response streaming for functions::

    from lamplighter import streaming

    def handler(event, context):
        return streaming.HTTPStream(rows(), status=200, headers={"content-type": "text/csv"}, cookies=["seen=1"])

    def rows():
        yield "id,name\\n"
        yield from query()

A handler that is itself a generator, or returns one, streams as well, without status or headers. Instead of an iterable
the body may be a function, which is given ``write``::

    def handler(event, context):
        return streaming.Stream(lambda write: report(event["month"], write), content_type="text/plain")

Pieces are bytes or text. Where responses cannot be streamed (Lamplighter's own host, or ``LAMPLIGHTER_RESPONSE_MODE``
is ``buffered``) they are collected and sent whole, within the limit of a whole result.
"""

from lamplighter.worker.streams import HTTPStream, Stream

__all__ = ["HTTPStream", "Stream"]
