"""A running server of the viewer, for the tests."""

import threading
from contextlib import contextmanager

from zflipon.report.viewer.server import Server


@contextmanager
def serving(contents, port=0, **settings):
    """Serve contents from a thread until the block ends."""
    with Server(contents, port, **settings) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
