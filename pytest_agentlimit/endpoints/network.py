"""What the environment says of the way to an endpoint: its proxies and its certificates."""

from __future__ import annotations

import os
import ssl
from importlib.util import find_spec
from urllib.request import getproxies, proxy_bypass

import httpx

from pytest_agentlimit.endpoints.outgoing import is_loopback, split_address
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line


def proxy_for(spec: EndpointSpec) -> httpx.Proxy | None:
    """Return the proxy that requests go through, None for the direct way.

    The variables are HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in either case. Raises
    UsageProblem for a proxy that cannot be used.
    """
    parts = split_address(spec)
    # A proxy variable must not swallow calls to this machine.
    if is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    named = getproxies()
    url = named.get(parts.scheme) or named.get("all")
    if not url:
        return None
    try:
        proxy = httpx.Proxy(url if "://" in url else f"http://{url}")
    except (ValueError, httpx.InvalidURL) as error:
        raise _unusable(spec, str(error)) from None
    if proxy.url.scheme.startswith("socks") and find_spec("socksio") is None:
        raise _unusable(spec, "a SOCKS proxy needs the package socksio")
    return proxy


def certificates(spec: EndpointSpec) -> ssl.SSLContext | None:
    """Return what certificates are checked with, None for an endpoint without any.

    Raises UsageProblem for a file that cannot be used.
    """
    if split_address(spec).scheme != "https":
        return None  # loading the certificate store takes 60 ms, and plain HTTP has no use for it
    own = os.environ.get("SSL_CERT_FILE")
    try:
        return ssl.create_default_context(cafile=own) if own else httpx.create_ssl_context()
    except (ValueError, OSError) as error:
        raise _unusable(spec, str(error)) from None


def _unusable(spec: EndpointSpec, why: str) -> UsageProblem:
    return UsageProblem(
        f"model {spec.name!r}: the proxy or certificate settings of the environment cannot be "
        f"used: {one_line(why)}. Next: correct HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or "
        "SSL_CERT_FILE, or name the host in NO_PROXY"
    )
