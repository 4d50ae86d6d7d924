"""The live view in a browser: one page, a video stream, and the numbers behind it."""

from edge_mnv2.web.address import DEFAULT_ADDRESS, WebAddress, parse_web_address
from edge_mnv2.web.server import WebOptions, WebServer

__all__ = ["DEFAULT_ADDRESS", "WebAddress", "WebOptions", "WebServer", "parse_web_address"]
