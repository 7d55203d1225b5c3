"""Where bytes become requests: what the parser does not take gets a problem document too."""

import sys

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app import answers, problems


class Protocol(HttpToolsProtocol):
    """Uvicorn's, which by itself answers in plain text what it cannot read."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (of the overridden method)
        """Refuse what is no request, and close: where the next one would begin is not known."""
        is_method = isinstance(sys.exception(), httptools.HttpParserInvalidMethodError)
        problem = problems.MethodUnknown() if is_method else problems.BadRequest()
        answer = answers.of_unreadable(self.headers or (), problem)
        fields = (
            *self.server_state.default_headers,
            *answer.raw_headers,
            (b"connection", b"close"),
        )
        head = STATUS_LINE[answer.status_code] + b"".join(b"%b: %b\r\n" % each for each in fields)
        self.transport.write(head + b"\r\n" + bytes(answer.body))
        self.transport.close()
