"""Work that is done again and again beside the requests, each kind in a thread of its own."""

import logging
import threading
from collections.abc import Callable

_LOG = logging.getLogger("clearweight.service")


class Background:
    """Threads that repeat something with pauses, until they are all closed together."""

    def __init__(self) -> None:
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def repeat(self, what: str, seconds: float, work: Callable[[], None]) -> None:
        """Do ``work`` again and again, with pauses of ``seconds``; what it raises is logged."""

        def loop() -> None:
            while not self._closing.wait(seconds):
                try:
                    work()
                except Exception:  # noqa: BLE001  # whatever went wrong, the next turn still comes
                    _LOG.exception("The %s thread failed.", what)

        thread = threading.Thread(target=loop, name=f"clearweight-{what}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def close(self) -> None:
        """End the pauses, wait for what runs."""
        self._closing.set()
        for thread in self._threads:
            thread.join()
