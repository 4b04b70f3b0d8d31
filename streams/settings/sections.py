"""What a section of the settings is made of."""

import re
from ipaddress import IPv6Address, ip_address
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the settings: typed, frozen, and without room for a mistyped name."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


Positive = Annotated[int, Field(gt=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


def host_name(text: str) -> str:
    """A host as two spellings of it compare: a name in lower case, an address in its shortest form without brackets.

    Raises:
        ValueError: it is neither a name nor an address, or something stands around it.
    """
    bracketed = text.startswith("[") and text.endswith("]")
    try:
        address = ip_address(text[1:-1] if bracketed else text)
    except ValueError:
        name = text.lower()
        if not re.fullmatch(r"[a-z0-9._-]{1,253}", name):
            raise ValueError(
                f"{text!r} is not a host: give its name or address, without scheme and port, as shop.example"
            ) from None
        return name
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


Host = Annotated[str, AfterValidator(host_name)]
