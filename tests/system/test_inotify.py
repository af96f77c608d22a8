import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from edged.system import inotify
from tests.support.ptys import LOOPS, Run, open_fds


@pytest.fixture(params=list(LOOPS.values()), ids=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_names_what_changed_in_every_folder(run: Run[None], tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.mkdir()
    b.mkdir()

    async def main() -> None:
        async with inotify.Inotify() as watch:
            watch.add(str(a))
            watch.add(str(b))
            waiting = asyncio.create_task(watch.changes())
            await asyncio.sleep(0)
            (a / "one").write_text("x")
            found = await asyncio.wait_for(waiting, 5)
            os.rename(a / "one", b / "two")
            found += await asyncio.wait_for(watch.changes(), 5)
        said = {(Path(c.folder).name, c.name, c.mask) for c in found}
        assert ("a", "one", inotify.CREATE) in said
        assert ("a", "one", inotify.CLOSE_WRITE) in said
        assert ("a", "one", inotify.MOVED_FROM) in said
        assert ("b", "two", inotify.MOVED_TO) in said

    before = open_fds()
    run(main())
    assert open_fds() == before


def test_a_cancelled_wait_loses_nothing(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with inotify.Inotify() as watch:
            watch.add(str(tmp_path))
            waiting = asyncio.create_task(watch.changes())
            await asyncio.sleep(0)
            (tmp_path / "late").touch()
            waiting.cancel()
            await asyncio.wait([waiting])
            found = await asyncio.wait_for(watch.changes(), 5)
            assert "late" in {c.name for c in found}

    run(main())


def test_a_folder_that_goes_is_told_once_and_can_be_added_again(run: Run[None], tmp_path: Path) -> None:
    folder = tmp_path / "folder"

    async def main() -> None:
        async with inotify.Inotify() as watch:
            for _ in range(3):
                folder.mkdir()
                watch.add(str(folder))
                folder.rmdir()
                found = await asyncio.wait_for(watch.changes(), 5)
                assert [c.mask & inotify.DELETE_SELF for c in found] == [inotify.DELETE_SELF]
            with pytest.raises(FileNotFoundError):
                watch.add(str(folder))

    run(main())
