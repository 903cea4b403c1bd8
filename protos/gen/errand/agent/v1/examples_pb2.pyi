import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SetConsentRequest(_message.Message):
    __slots__ = ("training",)
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    training: bool
    def __init__(self, training: _Optional[bool] = ...) -> None: ...

class SetConsentResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetConsentRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetConsentResponse(_message.Message):
    __slots__ = ("training",)
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    training: bool
    def __init__(self, training: _Optional[bool] = ...) -> None: ...

class ExportExamplesRequest(_message.Message):
    __slots__ = ("agent", "since", "until", "approved_only", "with_calls_only", "limit")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    APPROVED_ONLY_FIELD_NUMBER: _ClassVar[int]
    WITH_CALLS_ONLY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    agent: str
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    approved_only: bool
    with_calls_only: bool
    limit: int
    def __init__(self, agent: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., approved_only: _Optional[bool] = ..., with_calls_only: _Optional[bool] = ..., limit: _Optional[int] = ...) -> None: ...

class ExportExamplesResponse(_message.Message):
    __slots__ = ("line",)
    LINE_FIELD_NUMBER: _ClassVar[int]
    line: str
    def __init__(self, line: _Optional[str] = ...) -> None: ...
