"""The `jixie` command: quiet when it is interrupted while it still loads."""

import gc
import signal

# Loading takes a second or two, in which Ctrl-C may come.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# What is loaded is no garbage: to look for some would take a quarter of the loading.
gc.disable()

from app.cli import main  # noqa: E402  (all of it is loaded after that)

gc.freeze()
gc.enable()

if __name__ == "__main__":
    main()
