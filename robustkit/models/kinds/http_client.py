"""The connection to a server of predictions: bounded in rate, time and retries, and silent about its secrets."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from robustkit.errors import ConfigError, ModelError
from robustkit.models.source import EndpointLimits
from robustkit.text import without_secrets

if TYPE_CHECKING:
    import httpx

TOKEN = "ROBUSTKIT_TOKEN"  # the variable that holds it
_AGAIN = (429, 502, 503, 504)
_BACKOFF = 0.25  # seconds before the first retry, doubled for each that follows
_LONGEST_WAIT = 300.0  # seconds that a Retry-After may ask for
_REST = 60.0  # seconds for which a server that was given up is not asked again


class TooLargeError(Exception):
    """The server takes no request of that size (413)."""


class Connection:
    """JSON requests to one address, each retried with exponential back-off while the server cannot answer.

    User and password of the address, or the token in ROBUSTKIT_TOKEN, authenticate; the query goes with each request.
    None of them is in a message or the representation. A redirect is not followed: the token stays with its host.

    Args:
        address: `http(s)://…`; a fragment is left out.
        limits: of rate, time and retries.

    Attributes:
        shown: the address as it may be shown.
        retries: requests that were sent again, so far.

    Raises:
        ConfigError: the address or the token cannot be sent, or there is both a password and a token.
        ModelError: httpx is not installed.
    """

    def __init__(self, address: str, limits: EndpointLimits) -> None:
        self.shown = without_secrets(address.partition("#")[0])
        self.limits = limits
        self.retries = 0
        self._free = 0.0  # when the next request may go
        self._lost: tuple[float, str] = (0.0, "")  # until when, and why
        try:
            import httpx
        except ImportError:
            raise ModelError(f"{self.shown} needs httpx: pip install 'robustkit[endpoint]'") from None
        token = os.environ.get(TOKEN, "").strip()
        if not (token.isascii() and token.isprintable()):
            raise ConfigError(f"{TOKEN} holds characters that no header takes: set it again")
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host:
            raise ConfigError(f"{self.shown} is no address: write https://HOST/v2/models/NAME")
        user, password = (unquote(text or "") for text in (parts.username, parts.password))
        if token and (user or password):
            raise ConfigError(f"{self.shown}: a password in the address and {TOKEN} are two ways to log in: give one")
        self._secrets = [token, user, password, parts.password or "", parts.query]
        self._secrets += [value for _, value in parse_qsl(parts.query)]
        bare = f"[{host}]" if ":" in host else host
        self._address = f"{parts.scheme}://{bare}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"
        self._query = f"?{parts.query}" if parts.query else ""
        try:
            self._client = httpx.Client(
                headers={"Authorization": f"Bearer {token}"} if token else {},
                auth=(user, password) if user or password else None,
                timeout=limits.timeout,
            )
            httpx.URL(self._address + self._query)
        except (httpx.InvalidURL, ValueError) as error:
            raise ConfigError(f"{self.shown} cannot be asked ({self._safe(str(error))}): check the address") from None

    def __repr__(self) -> str:
        return f"Connection({self.shown})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Connection:
        return self  # a copy would keep the rate of its own, and there is one server

    def ask(self, path: str = "", body: dict[str, Any] | None = None, queries: int = 0) -> dict[str, Any]:
        """The JSON object that comes back for `body`, or without one for a GET.

        Args:
            path: after the address.
            queries: pictures in it, which count towards the rate; each retry counts again.

        Raises:
            TooLargeError: the server says that the request is too large.
            ModelError: it refuses the request, cannot be reached within the retries, or answers with something else.
        """
        import httpx

        until, reason = self._lost
        if time.monotonic() < until:
            raise ModelError(reason)
        content = None if body is None else json.dumps(body)
        url = f"{self._address}{path}{self._query}"
        method, headers = ("GET", {}) if content is None else ("POST", {"Content-Type": "application/json"})
        for turn in range(self.limits.retries + 1):
            self._pace(queries)
            wait = _BACKOFF * 2**turn
            try:
                answer = self._client.request(method, url, content=content, headers=headers)
            except httpx.TimeoutException:
                reason = f"does not answer within {self.limits.timeout:g} s"
            except httpx.TransportError as error:
                reason = f"cannot be reached ({self._safe(str(error) or type(error).__name__)})"
                if "CERTIFICATE" in str(error):
                    break
            except httpx.HTTPError as error:
                raise ModelError(f"{self.shown} cannot be read ({self._safe(str(error))})") from None
            else:
                if answer.status_code not in _AGAIN:
                    return self._read(answer)
                reason = f"answers {answer.status_code}{self._message(answer)}"
                asked = _retry_after(answer.headers.get("Retry-After", ""))
                if asked > _LONGEST_WAIT:
                    reason += f" and asks to come back in {asked:.0f} s"
                    break
                wait = max(wait, asked)
            if turn < self.limits.retries:
                self.retries += 1
                time.sleep(wait)
        sent = turn + 1
        reason = f"{self.shown} {reason}{f', {sent} times' if sent > 1 else ''}: start it, or look into its log"
        self._lost = time.monotonic() + _REST, reason
        raise ModelError(reason)

    def _pace(self, queries: int) -> None:
        """Wait until so many queries may go."""
        if self.limits.rate is None or not queries:
            return
        now = time.monotonic()
        if self._free > now:
            time.sleep(self._free - now)
        self._free = max(now, self._free) + queries / self.limits.rate

    def _read(self, answer: httpx.Response) -> dict[str, Any]:
        status = answer.status_code
        if status == 413:
            raise TooLargeError
        if status in (401, 403):
            sent = any(self._secrets)
            remedy = "it does not take what you log in with" if sent else f"set the token in {TOKEN}"
            raise ModelError(f"{self.shown} lets nobody in ({status}{self._message(answer)}): {remedy}")
        if answer.is_redirect:
            there = self._safe(answer.headers.get("Location", ""))
            raise ModelError(f"{self.shown} has moved ({status}): give the address that it is at, {there}")
        if status == 404:
            raise ModelError(f"{self.shown} is not there (404{self._message(answer)}): check the address and its name")
        if status != 200:
            raise ModelError(f"{self.shown} answers {status}{self._message(answer)}: look into its log")
        with contextlib.suppress(ValueError, RecursionError):
            found = answer.json()
            if isinstance(found, dict):
                return found
        raise ModelError(f"{self.shown} answers with what is no JSON object: does it speak the protocol V2?")

    def _message(self, answer: httpx.Response) -> str:
        """What the server says of its error, in one short line."""
        text = answer.text
        with contextlib.suppress(ValueError, RecursionError):
            found = answer.json()
            if isinstance(found, dict):
                text = str(found.get("error") or found.get("detail") or found.get("message") or "")
        text = self._safe(text)
        return f", {text!r}" if text and "<html" not in text.lower() else ""

    def _safe(self, text: str) -> str:
        """Somebody else's words without a secret, in one short line."""
        for secret in sorted(filter(None, self._secrets), key=len, reverse=True):
            # A short one is looked for as a word: it would be part of many others.
            text = re.sub(re.escape(secret) if len(secret) > 5 else rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
        text = " ".join(without_secrets(text).split())
        return text if len(text) <= 100 else f"{text[:97]}..."


def _retry_after(text: str) -> float:
    """Seconds of a Retry-After header, which gives them or a date; 0 where it gives neither."""
    with contextlib.suppress(ValueError, OverflowError):
        return max(0.0, float(text))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return 0.0
