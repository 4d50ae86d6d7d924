"""`GET /metrics` of the live view: one more route behind the same guard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from edge_mnv2.metrics.exposition import check_prometheus_client, make_registry, registry_text
from edge_mnv2.readings import Snapshot

if TYPE_CHECKING:
    from aiohttp import web

PATH = "/metrics"


def add_metrics(app: web.Application, read: Callable[[], Snapshot], executor: Executor) -> None:
    """Serve what `read` says at `/metrics`.

    Args:
        app: The routes; its guard asks for the token, which Prometheus sends as `Authorization: Bearer`.
        read: Returns the present moment; called in `executor` for each scrape.
        executor: Where the text is written.

    Raises:
        RequestError: prometheus-client is missing.
    """
    from aiohttp import web

    check_prometheus_client()
    registry = make_registry(read)

    async def metrics(request: web.Request) -> web.Response:
        accept = request.headers.get("Accept", "")
        loop = asyncio.get_running_loop()
        body, content_type = await loop.run_in_executor(executor, registry_text, registry, accept)
        # Not `content_type=`: it must carry the version and the charset as they are.
        return web.Response(body=body, headers={"Content-Type": content_type})

    app.router.add_get(PATH, metrics)
