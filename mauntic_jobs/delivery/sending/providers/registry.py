"""The kinds of providers there are, by channel and type."""

from collections.abc import Callable, Mapping

from mauntic_jobs.delivery.sending.allowed_networks import Network, parse_networks
from mauntic_jobs.delivery.sending.providers import fcm, google_token, postmark, sendgrid, ses, twilio
from mauntic_jobs.delivery.sending.providers.base import AnyProvider
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig
from mauntic_jobs.delivery.sending.providers.http import HttpClient
from mauntic_jobs.delivery.sending.providers.idle import IdleConnections
from mauntic_jobs.delivery.sending.providers.smtp import SmtpProvider
from mauntic_jobs.settings.settings import Settings

# Makes a provider of one kind from its configuration, or raises ProviderError.
Factory = Callable[[ProviderConfig], AnyProvider]


def network_of(settings: Settings) -> Network:
    """Return what tenants may have this program connect to."""
    ports = tuple(settings.smtp_ports)
    return Network(parse_networks(settings.allowed_networks), loopback=settings.embedded, ports=ports)


def factories(
    settings: Settings, client: HttpClient, idle: IdleConnections | None = None
) -> Mapping[tuple[str, str], Factory]:
    """Return what makes providers, by channel and type.

    Those over HTTP use the connections of `client`, those over SMTP keep theirs in `idle`.
    """
    kept = IdleConnections() if idle is None else idle
    network = network_of(settings)

    def api(kind: str, default: str) -> str:
        return settings.provider_urls.get(kind, default).rstrip("/")

    def smtp(config: ProviderConfig) -> SmtpProvider:
        return SmtpProvider(
            config,
            network,
            timeout=settings.send_timeout.total_seconds(),
            idle=kept,
            hello=settings.ehlo_name,
            ca_file=settings.smtp_ca_file,
        )

    return {
        ("email", "custom_smtp"): smtp,
        ("email", "postmark"): lambda config: postmark.PostmarkProvider(config, client, api("postmark", postmark.API)),
        ("email", "sendgrid"): lambda config: sendgrid.SendGridProvider(config, client, api("sendgrid", sendgrid.API)),
        ("email", "ses"): lambda config: ses.SesProvider(config, client, api("ses", ses.API)),
        ("push", "fcm"): lambda config: fcm.FcmProvider(
            config, client, api("fcm", fcm.API), token_url=api("google_token", google_token.TOKEN_URL)
        ),
        ("sms", "twilio"): lambda config: twilio.TwilioProvider(config, client, api("twilio", twilio.API)),
    }
