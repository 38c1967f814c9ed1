"""Listens to regrant's events, and ends the sessions that your app keeps.

    python end_sessions.py

AMQP_URL is your app's own broker user, REGRANT_PREFIX is `broker.prefix` of the daemon, SESSIONS_QUEUE is this app's own
queue. Ends in good order on SIGTERM and SIGINT.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections import OrderedDict
from collections.abc import Iterable
from threading import Event
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

log = logging.getLogger("end_sessions")

NAMES = ("session.revoked", "password.changed")
# Events that may be here without being acknowledged.
PREFETCH = 50


class Sessions:
    """Stands for your app's session store: put your own behind these methods.

    Each can be done twice without harm: after a crash, an event can come again.
    """

    def __init__(self) -> None:
        self._oldest_epoch: dict[str, int] = {}

    def end(self, user: str, session_ids: Iterable[str], reason: str) -> None:
        """Sessions that are kept on the server: delete them."""
        for session_id in session_ids:
            print(f"ended session {session_id} of {user} ({reason})", flush=True)

    def refuse_before(self, user: str, epoch: int, but: str | None) -> None:
        """Sessions that live in signed cookies: those hold the `session_epoch` of their sign-in, and an older one is refused.

        One session may stay (that in which they changed their own password, or one that support left out): its cookie is good
        and gets the new epoch when it is next seen.
        """
        # An older event may come again after a newer one: the epoch only ever grows.
        if epoch > self._oldest_epoch.get(user, 0):
            self._oldest_epoch[user] = epoch
            stays = f", but for session {but}" if but else ""
            print(f"cookies of {user} from before epoch {epoch} are refused{stays}", flush=True)

    def forget_devices(self, user: str) -> None:
        """Whatever else opens the account without its password: "remember me", trusted devices, API keys."""
        print(f"forgot the remembered devices of {user}", flush=True)


class Seen:
    """The ids of the latest events. An event that comes twice has the same `id`.

    Memory is enough here, since doing it twice does no harm. Where it does (you count, or send a message), keep the ids in
    your database, and write each in the transaction that also writes what the event brings about.
    """

    def __init__(self, size: int = 10_000) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._size = size

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._ids

    def add(self, event_id: str) -> None:
        self._ids[event_id] = None
        if len(self._ids) > self._size:
            self._ids.popitem(last=False)


def handle(event: dict[str, Any], sessions: Sessions, seen: Seen) -> None:
    """One CloudEvent. It is remembered after it was dealt with: if that fails, it comes again."""
    if event["id"] in seen:
        return
    user, data = event["subject"], event["data"]
    match event["type"].removeprefix("regrant."):
        case "session.revoked":
            sessions.end(user, data["session_ids"], data["reason"] or "signed out by support")
            sessions.refuse_before(user, data["session_epoch"], data.get("except_session_id"))
        case "password.changed":
            sessions.forget_devices(user)
        case other:
            # Bound by hand, or by an older version of this program.
            log.info("nothing to do for %s", other)
    seen.add(event["id"])


def listen(url: str, prefix: str, queue: str, sessions: Sessions, seen: Seen, stopping: Event) -> None:
    """Consumes until `stopping`, or until the connection ends."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        # A named, durable queue of this app: what happens while it is down waits here. All its processes share it.
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        for name in NAMES:
            channel.queue_bind(queue, f"{prefix}.events", name)
        channel.basic_qos(prefetch_count=PREFETCH)
        print("listening", flush=True)
        # Looks up every second, to see whether it is to stop.
        for method, _properties, body in channel.consume(queue, inactivity_timeout=1):
            if method is not None:
                deal(channel, method.delivery_tag, body, sessions, seen)
            if stopping.is_set():
                # What was not acknowledged returns to the queue.
                return


def deal(channel: BlockingChannel, delivery_tag: int, body: bytes, sessions: Sessions, seen: Seen) -> None:
    """Deals with one delivery. What `Sessions` fails with is not caught: the event comes again after a restart."""
    try:
        handle(json.loads(body), sessions, seen)
    except (ValueError, KeyError, TypeError):
        # It will not be better the next time. Without `requeue` it goes to the queue's dead letters, if it has any.
        log.exception("an event could not be understood")
        channel.basic_nack(delivery_tag, requeue=False)
    else:
        # Only now: an event that was being dealt with when this process died comes again.
        channel.basic_ack(delivery_tag)


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # It logs every lost connection with its traceback, also those that are mended here.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
    prefix = os.environ.get("REGRANT_PREFIX", "regrant")
    queue = os.environ.get("SESSIONS_QUEUE", "shop.sessions")
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signal, _frame: stopping.set())
    sessions, seen = Sessions(), Seen()
    while not stopping.is_set():
        try:
            listen(url, prefix, queue, sessions, seen, stopping)
        except AMQPError as error:
            # The connection is gone, or the daemon has not made its exchange yet.
            log.warning("not listening (%r), trying again", error)
            stopping.wait(2)


if __name__ == "__main__":
    main()
