"""The `jixie` command: quiet when it is interrupted while it still loads."""

import signal

# Loading takes half a second, in which Ctrl-C may come.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from app.cli import main

if __name__ == "__main__":
    main()
