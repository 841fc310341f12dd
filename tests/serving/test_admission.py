"""Work in threads as asyncio sees it: errors that nobody asks for, and work that was given up."""

import asyncio
import gc
from concurrent.futures import CancelledError

import pytest

from doyen.serving.admission import Admission


def test_an_error_that_nobody_asks_for_is_no_complaint():
    said = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))
        queue = Admission(2, 1, 5.0, "test")
        begun = queue.begin(lambda ticket: 1 // 0)
        while queue.count:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        with pytest.raises(ZeroDivisionError):  # who asks is told, also later
            begun.outcome()
        del begun
        queue.begin(lambda ticket: 1 // 0)
        while queue.count:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        gc.collect()
        queue.close()

    asyncio.run(main())
    assert said == []


def test_work_that_is_given_up_is_an_error_like_others():
    """Not asyncio's CancelledError, which would end the task of the request instead of being answered."""

    def give_up(ticket):
        raise CancelledError

    async def main():
        queue = Admission(2, 1, 5.0, "test")
        with pytest.raises(CancelledError):
            await queue.run(give_up, lambda: asyncio.sleep(60))
        queue.close()

    asyncio.run(main())
