"""What everybody waits on who waits for something to happen."""

import threading


class News(threading.Condition):
    """Wakes all who wait when something has happened, and when this process is to end (`over`)."""

    def __init__(self) -> None:
        super().__init__()
        self.over = False

    def tell(self) -> None:
        """There may be something new."""
        with self:
            self.notify_all()

    def end(self) -> None:
        """Wait for nothing more."""
        with self:
            self.over = True
            self.notify_all()
