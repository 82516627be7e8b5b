"""Types for the events that AWS's own services send, one module a service, for handlers made with ``typed``.

Each names the fields that AWS documents for it and skips all others, so an event with more in it still decodes. A field
that AWS leaves out at times has a default. Names are Python's: ``messageId`` is ``message_id``, ``Records`` is
``records``. Importing one of these modules imports msgspec; importing this package does not.
"""
