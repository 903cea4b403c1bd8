"""Faults of documents.

Exception
└── DocumentRejected    the document cannot be ingested; trying again does not help
"""


class DocumentRejected(Exception):  # noqa: N818 - it says what happened to the document
    """The document cannot be ingested; the message is for the person who uploaded it."""
