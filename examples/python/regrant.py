"""A client for regrant: sends a command, waits for its reply, and sends it again if none comes.

Copy this file into your app. It needs `pika` and `PyNaCl`. A client belongs to one thread, as the connection inside it
does: keep one for each worker thread of your web server.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import pika
from nacl.public import PublicKey, SealedBox
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import (
    AMQPChannelError,
    AMQPError,
    NackError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

log = logging.getLogger(__name__)

# RabbitMQ's pseudo-queue for replies. It belongs to the channel: consume from it first, then publish on the same one.
DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"


class Refused(Exception):
    """regrant says no. `code` is for the program, `message` is for people, `details` depend on the code."""

    def __init__(self, code: str, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details = details


class NoReply(Exception):
    """No answer in time. The command may have taken effect or not, but it will not any more."""


@dataclass(frozen=True)
class _Message:
    command: str
    body: bytes
    properties: pika.BasicProperties

    @property
    def id(self) -> str:
        return self.properties.message_id


class Client:
    """Calls regrant as the broker user of `url`."""

    def __init__(
        self,
        url: str,
        prefix: str = "regrant",
        *,
        patience: float = 20.0,
        resend_after: float = 5.0,
    ) -> None:
        """`patience`: how long a call may take, in seconds. `resend_after`: when a missing reply is asked for again."""
        self._parameters = pika.URLParameters(url)
        # A broker that is short of memory stops reading. Without this limit, publishing would then wait for ever.
        self._parameters.blocked_connection_timeout = resend_after
        self._exchange = f"{prefix}.commands"
        self._patience = patience
        self._resend_after = resend_after
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None
        self._replies: dict[str, bytes] = {}
        self._sealing_key: Mapping[str, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the next call opens a new one."""
        connection, self._connection, self._channel = self._connection, None, None
        # Replies come on the channel that asked: those still to come are lost with it.
        self._replies.clear()
        if connection is not None and connection.is_open:
            try:
                connection.close()
            except AMQPError as error:
                log.debug("the connection did not close in good order: %r", error)

    def call(self, command: str, body: Mapping[str, Any], *, secrets: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Sends a command and returns its `result`. The fields in `secrets` are sealed: nobody but the daemon reads them.

        Raises `Refused` or `NoReply`; and what pika raises where the broker refuses the user, forbids it, or the daemon has
        never run: `AMQPChannelError`, `ProbableAuthenticationError`, `ProbableAccessDeniedError`.
        """
        if not secrets:
            return self._call(command, body)
        try:
            return self._call(command, {**body, **self._seal(secrets)})
        except Refused as refusal:
            if refusal.code != "sealed_invalid":
                raise
        # The daemon's key was replaced since we asked for it. Another body is another command: it gets a new id.
        self._sealing_key = None
        return self._call(command, {**body, **self._seal(secrets)})

    def _seal(self, secrets: Mapping[str, str]) -> dict[str, dict[str, str]]:
        if self._sealing_key is None:
            self._sealing_key = self._call("daemon.info", {})["sealing_key"]
        key = self._sealing_key
        box = SealedBox(PublicKey(b64decode(key["public_key"])))

        def sealed(secret: str) -> dict[str, str]:
            return {"sealed": b64encode(box.encrypt(secret.encode())).decode(), "key_id": key["key_id"]}

        return {field: sealed(secret) for field, secret in secrets.items()}

    def _call(self, command: str, body: Mapping[str, Any]) -> dict[str, Any]:
        # Made once. What goes out again is the same message to the last byte, so it takes effect once, and its lifetime
        # counts from when the person asked. (Sealing again would make other bytes: `message_id_reused`.)
        message = self._message(command, body)
        deadline = time.monotonic() + self._patience
        pause, trouble = 0.1, None
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._publish(message)
                reply = self._await_reply(message.id, min(self._resend_after, left))
                if reply is not None:
                    return _result(reply)
                log.warning("no reply to %s %s yet, sending it again", command, message.id)
            except NackError as error:
                # The broker cannot keep it at this moment.
                trouble = error
            except AMQPChannelError:
                # Not allowed, or no such exchange: a mistake in the set-up, which repetition does not mend.
                self.close()
                raise
            except (ProbableAuthenticationError, ProbableAccessDeniedError):
                # The user, the password or the virtual host of the URL: likewise.
                self.close()
                raise
            except AMQPError as error:
                # Also the connection of a worker that had nothing to do for a while: it is just opened anew.
                log.info("the connection to RabbitMQ is gone: %r", error)
                trouble = error
                self.close()
            time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            pause = min(pause * 2, 2.0)
        reason = f" (last: {trouble!r})" if trouble else ""
        raise NoReply(f"no reply to {command} {message.id} in {self._patience:.0f} s{reason}") from trouble

    def _message(self, command: str, body: Mapping[str, Any]) -> _Message:
        message_id = str(uuid.uuid4())
        properties = pika.BasicProperties(
            # The idempotency key.
            message_id=message_id,
            correlation_id=message_id,
            reply_to=DIRECT_REPLY_TO,
            # Who sends this. RabbitMQ lets nobody use a name that is not their own, so the daemon can rely on it.
            user_id=self._parameters.credentials.username,
            # When the person asked, in seconds: the link's lifetime counts from here.
            timestamp=int(time.time()),
            # In milliseconds. When we have given up, nothing is to happen behind our back.
            expiration=str(int(self._patience * 1000)),
            content_type="application/json",
            delivery_mode=pika.DeliveryMode.Persistent,
        )
        return _Message(command, json.dumps(body).encode(), properties)

    def _publish(self, message: _Message) -> None:
        """Returns when the broker has confirmed that the message is safe."""
        self._open_channel().basic_publish(self._exchange, message.command, message.body, message.properties)

    def _open_channel(self) -> BlockingChannel:
        if self._channel is None or not self._channel.is_open:
            self.close()
            self._connection = pika.BlockingConnection(self._parameters)
            self._channel = self._connection.channel()
            self._channel.confirm_delivery()
            self._channel.basic_consume(DIRECT_REPLY_TO, self._on_reply, auto_ack=True)
        return self._channel

    def _on_reply(self, _channel: Any, _method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        self._replies[properties.correlation_id] = body

    def _await_reply(self, message_id: str, seconds: float) -> bytes | None:
        deadline = time.monotonic() + seconds
        while message_id not in self._replies and (left := deadline - time.monotonic()) > 0:
            self._connection.process_data_events(time_limit=left)
        reply = self._replies.get(message_id)
        # Late replies to earlier calls interest nobody.
        self._replies.clear()
        return reply


def _result(reply: bytes) -> dict[str, Any]:
    answer = json.loads(reply)
    if answer["ok"]:
        return answer["result"]
    error = answer["error"]
    raise Refused(error["code"], error["message"], error.get("details") or {})
