"""Background work in threads. Tasks with the same key run in order, all others in parallel."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

Task = Callable[[], None]


class Work:
    """A queue of tasks per key. ``submit`` never blocks. A task's exception goes to its future only: tasks record their
    failures.
    """

    def __init__(self, threads: int = 16) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ec2")
        self._queues: dict[str, deque[tuple[Task, Future[None]]]] = {}
        self._changed = threading.Condition()
        self._closed = False

    def submit(self, key: str, task: Task) -> Future[None]:
        """Run the task after all earlier tasks of this key. After ``close`` it is canceled at once."""
        future: Future[None] = Future()
        with self._changed:
            if self._closed:
                future.cancel()
                return future
            queue = self._queues.get(key)
            if queue is not None:
                queue.append((task, future))
                return future
            self._queues[key] = deque([(task, future)])
        self._pool.submit(self._drain, key)
        return future

    def _drain(self, key: str) -> None:
        """Run one task of the key, then release the thread, so that a long queue does not block the others."""
        with self._changed:
            task, future = self._queues[key][0]
        try:
            task()
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(None)
        with self._changed:
            queue = self._queues[key]
            queue.popleft()
            if queue and not self._closed:
                self._pool.submit(self._drain, key)
                return
            for _, waiting in queue:
                waiting.cancel()
            del self._queues[key]
            self._changed.notify_all()

    def idle(self, timeout: float) -> bool:
        """Wait until no task is queued or running. Returns False after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        with self._changed:
            while self._queues:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def close(self) -> None:
        """Cancel queued tasks and wait for running ones. A second call changes nothing."""
        with self._changed:
            self._closed = True
        self._pool.shutdown(wait=True)
