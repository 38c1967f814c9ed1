"""A mail server that takes every mail: prints its port, then appends each message to the file named as its argument."""

import socketserver
import sys


class Session(socketserver.StreamRequestHandler):
    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self):
        self.say("220 sink")
        while line := self.rfile.readline():
            verb = line.strip().upper()
            if verb == b"DATA":
                self.say("354 go on")
                message = b""
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    message += line
                # One write: a reader sees whole messages only.
                with open(sys.argv[1], "ab") as mails:
                    mails.write(message)
                self.say("250 taken")
            elif verb == b"QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")


class Sink(socketserver.ThreadingTCPServer):
    daemon_threads = True


with Sink(("127.0.0.1", 0), Session) as sink:
    print(sink.server_address[1], flush=True)
    sink.serve_forever()
