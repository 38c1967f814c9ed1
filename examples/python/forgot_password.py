"""The "forgot password" pages of an app, without the HTML.

    python forgot_password.py request EMAIL   the page that asks for an address
    python forgot_password.py reset           the page behind the link in the mail; reads the token from standard input,
                                              then a new password, and another one as long as the rules are broken

AMQP_URL is your app's own broker user; REGRANT_PREFIX is `broker.prefix` of the daemon.
Exit codes: 0 done, 1 refused, 2 wrong usage, input or set-up, 3 it is not known whether it was done.
"""

from __future__ import annotations

import getpass
import logging
import os
import sys
from typing import Any

from pika.exceptions import AMQPChannelError, ProbableAccessDeniedError, ProbableAuthenticationError

from regrant import Client, NoReply, Refused

# Where the person sits, from the web request: for the limits on requests, and for the mail ("requested from …").
CONTEXT = {"ip": "203.0.113.7", "user_agent": "the forgot_password example", "locale": "en"}

# The link in the mail is of no use any more. The message says why, in words for the person.
DEAD_LINK = {"token_invalid", "token_expired", "token_used", "token_superseded", "token_revoked"}


def request_reset(client: Client, email: str) -> None:
    """The answer is the same for known and unknown addresses: the page must not tell more than the daemon does."""
    client.call("password.reset.request", {"user": {"email": email}, "context": CONTEXT})
    print(f"If {email} has an account, a mail with a link is on its way.")


def reset(client: Client, token: str) -> None:
    """First looks whether the link is good, so that nobody types a password in vain. Looking does not use it up."""
    link = client.call("password.reset.inspect", {"token": token, "context": CONTEXT})
    print(f"Choose a new password for {link['username']}, until {link['expires_at']}:")
    for rule in link["policy"]["rules"]:
        print(f"  - {rule['message']}")
    while True:
        try:
            complete(client, token, read_secret("New password: "))
        except Refused as refusal:
            if refusal.code != "password_rejected":
                raise
            # One sentence for each broken rule, fit to be shown beside the field. The link is still good.
            for violation in refusal.details["violations"]:
                print(f"Not this one: {violation['message']}")
        else:
            print("Your password is changed. You have been signed out everywhere.")
            return


def complete(client: Client, token: str, new_password: str) -> dict[str, Any]:
    """Sealed, neither of the two can be read in the broker's queues, nor in a dead letter."""
    secrets = {"token": token, "new_password": new_password}
    return client.call("password.reset.complete", {"context": CONTEXT}, secrets=secrets)


def dead_link(refusal: Refused) -> str:
    newer = refusal.details.get("newer_requested_at")
    return f"{refusal.message} (It was asked for at {newer}.)" if newer else refusal.message


def read_secret(prompt: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(prompt)
    line = sys.stdin.readline()
    if not line:
        raise EOFError("standard input ended before a good password came")
    return line.rstrip("\r\n")


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # It logs every lost connection with its traceback, also those that are mended here.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
    with Client(url, os.environ.get("REGRANT_PREFIX", "regrant")) as client:
        try:
            match sys.argv[1:]:
                case ["request", email]:
                    request_reset(client, email)
                case ["reset"]:
                    # Not an argument: those can be seen by everybody on the machine.
                    reset(client, read_secret("Token: ").strip())
                case _:
                    print(__doc__, file=sys.stderr)
                    return 2
        except Refused as refusal:
            if refusal.code in DEAD_LINK:
                print(dead_link(refusal))
            else:
                # Nothing that the person could mend: for your log. The person reads "try again later".
                print(f"unexpected refusal: {refusal}", file=sys.stderr)
            return 1
        except NoReply as error:
            # Its effect is not known. The same page again is safe: a link that was used says so (`token_used`).
            print(f"{error}. Please try again.", file=sys.stderr)
            return 3
        except (ProbableAuthenticationError, ProbableAccessDeniedError) as error:
            print(f"the broker refuses the user, password or virtual host of AMQP_URL: {error!r}", file=sys.stderr)
            return 2
        except AMQPChannelError as error:
            print(f"the broker does not allow it, or the daemon has never run: {error}", file=sys.stderr)
            return 2
        except EOFError as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
