"""Metadata of documents and filters over them, as bodies carry them."""

from typing import Annotated, Any, Final, Self

from errand_common.errors import InvalidArgument
from pydantic import ConfigDict, Field, StrictBool, TypeAdapter, ValidationError, model_validator

from errand_gateway.domain.documents import (
    Condition,
    DocumentFilter,
    FilterGroup,
    FilterOperator,
    GroupKind,
    MetadataType,
    MetadataValue,
    NewDocument,
)
from errand_gateway.transport.fields import Body, Text

# What the rag service takes.
_MAX_DEPTH: Final = 6
_MAX_CONDITIONS: Final = 64
_NAME: Final = r"^[a-z][a-z0-9_]{0,62}$"

FieldName = Annotated[str, Field(pattern=_NAME)]
RoleName = Annotated[Text, Field(min_length=1, max_length=64)]
Roles = Annotated[list[RoleName], Field(max_length=16)]
Value = (
    StrictBool
    | Annotated[float, Field(strict=True, allow_inf_nan=False)]
    | Annotated[Text, Field(strict=True, max_length=1024)]
)
Metadata = Annotated[dict[FieldName, Value], Field(max_length=32)]
MetadataSchema = Annotated[
    dict[FieldName, MetadataType],
    Field(max_length=32, description="Fields that documents may carry, with their types; none allows any."),
]
_UPLOAD: Final = TypeAdapter(Metadata)


class FilterBody(Body):
    """One comparison (`field`, `operator`, `value`), or filters under one of `all_of`, `any_of`, `none_of`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "all_of": [
                        {"field": "year", "operator": "greater_or_equal", "value": 2024},
                        {"none_of": [{"field": "filename", "operator": "in", "value": ["draft.md"]}]},
                    ]
                }
            ]
        }
    )

    field: (
        Annotated[
            FieldName,
            Field(
                description="A metadata field, or document_id, filename, title, media_type, size_bytes or created_at "
                "(ISO 8601 in UTC)."
            ),
        ]
        | None
    ) = None
    operator: FilterOperator = FilterOperator.EQUAL
    value: Annotated[
        Value | Annotated[list[Value], Field(min_length=1, max_length=100)] | None,
        Field(description="A list for `in`; nothing for `exists`."),
    ] = None
    all_of: Annotated[list["FilterBody"], Field(min_length=1, max_length=32)] | None = None
    any_of: Annotated[list["FilterBody"], Field(min_length=1, max_length=32)] | None = None
    none_of: Annotated[list["FilterBody"], Field(min_length=1, max_length=32)] | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        said = [name for name in ("field", *GroupKind) if getattr(self, name) is not None]
        if len(said) != 1:
            raise ValueError("needs one of field, all_of, any_of, none_of")
        if self.field is None and not self.model_fields_set.isdisjoint({"operator", "value"}):
            raise ValueError("operator and value belong to a field")
        if self.field is not None:
            self._compares()
        return self

    def _compares(self) -> None:
        if self.operator is FilterOperator.EXISTS:
            if self.value is not None:
                raise ValueError("the operator exists takes no value")
        elif self.value is None:
            raise ValueError(f"the operator {self.operator.value} needs a value")
        elif isinstance(self.value, list) is not (self.operator is FilterOperator.IN):
            raise ValueError("a list of values goes with the operator in, and only there")

    def filter(self) -> DocumentFilter:
        """What the rag service is asked; raises InvalidArgument for one that is too deep or too wide."""
        conditions = 0

        def converted(node: FilterBody, depth: int) -> DocumentFilter:
            nonlocal conditions
            if depth > _MAX_DEPTH:
                raise InvalidArgument(f"the filter is more than {_MAX_DEPTH} deep; flatten it", field="filter")
            if node.field is not None:
                conditions += 1
                return Condition(node.field, node.operator, _values(node.value))
            kind = next(kind for kind in GroupKind if getattr(node, kind) is not None)
            return FilterGroup(kind, [converted(child, depth + 1) for child in getattr(node, kind)])

        made = converted(self, 1)
        if conditions > _MAX_CONDITIONS:
            raise InvalidArgument(f"the filter has more than {_MAX_CONDITIONS} conditions", field="filter")
        return made


def _values(value: MetadataValue | list[MetadataValue] | None) -> list[MetadataValue]:
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def described(filename: str, metadata: Any, priority: Any) -> NewDocument:
    """A document with what the form says of it; raises InvalidArgument."""
    return NewDocument(filename, _metadata(metadata), _priority(priority))


def _metadata(text: Any) -> dict[str, MetadataValue]:
    if text is None:
        return {}
    try:
        return dict(_UPLOAD.validate_json(text))
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(["metadata", *(str(part) for part in problem["loc"][:1])])
        raise InvalidArgument(
            f"metadata must be a JSON object of texts, numbers and booleans: {problem['msg']}", field=place
        ) from error


def _priority(text: Any) -> int:
    if text is None:
        return 0
    if not (isinstance(text, str) and text.isascii() and len(text) == 1 and text.isdigit()):
        raise InvalidArgument("priority must be 0 to 9", field="priority")
    return int(text)
