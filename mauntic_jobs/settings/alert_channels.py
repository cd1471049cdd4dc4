"""Settings of the alert channels."""

from enum import StrEnum
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr


class Severity(StrEnum):
    """How much an alert matters, from least to most."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Its place in the order."""
        return list(Severity).index(self)


def _address(*schemes: str) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        # Whatever is wrong with it: its text must not be repeated.
        form = f"write it like {schemes[0]}://host/..., with the scheme {' or '.join(schemes)}"
        try:
            url = urlsplit(value.get_secret_value())
            known = url.scheme in schemes and bool(url.hostname) and url.port != 0
        except ValueError:
            raise ValueError(form) from None
        if not known:
            raise ValueError(form)
        return value

    return AfterValidator(check)


HttpAddress = Annotated[SecretStr, _address("https", "http")]


class AlertChannel(BaseModel):
    """What all channels have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)

    min_severity: Severity = Severity.INFO


class SlackChannel(AlertChannel):
    """An incoming webhook of Slack, or of what understands its messages: Mattermost, Rocket.Chat, Discord's /slack."""

    type: Literal["slack"]
    url: HttpAddress


class WebhookChannel(AlertChannel):
    """Endpoint of the operator's own; `secret` signs what it gets."""

    type: Literal["webhook"]
    url: HttpAddress
    secret: SecretStr = Field(min_length=8)


class SmtpChannel(AlertChannel):
    """Mail, by a server with or without login: smtp://user:password@host:587 or smtps://."""

    type: Literal["smtp"]
    url: Annotated[SecretStr, _address("smtp", "smtps")]
    sender: str = Field(alias="from", pattern=r"^[^@\r\n]+@[^@\r\n]+$")
    to: list[Annotated[str, Field(pattern=r"^[^@\r\n]+@[^@\r\n]+$")]] = Field(min_length=1)


class AppriseChannel(AlertChannel):
    """Anything that Apprise speaks, by its URL."""

    type: Literal["apprise"]
    url: SecretStr = Field(min_length=4)


AnyChannel = Annotated[SlackChannel | WebhookChannel | SmtpChannel | AppriseChannel, Field(discriminator="type")]
