"""Long work, shown on a terminal while it lasts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn


@contextmanager
def progress_of(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far each part of a long work is, beginning with one that has yet to say so."""
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {what: bars.add_task(what, total=None)}

        def show(part: str, done: int, total: int) -> None:
            task = tasks.get(part)
            if task is None:
                task = tasks[part] = bars.add_task(part)
            bars.update(task, completed=done, total=total)

        yield show
