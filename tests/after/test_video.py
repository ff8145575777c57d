"""Videos and windows of frames: captions, sizes, and files that are complete or not there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from pgrun.after.playing import Frame
from pgrun.after.video import captioned, check_video, check_window, show, write_video
from pgrun.errors import UserError

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
pytest.importorskip("PIL")


def frames(count: int = 6, height: int = 41, width: int = 301, fps: float = 20.0) -> Iterator[Frame]:
    """Frames that become lighter."""
    for t in range(count):
        yield Frame(np.full((height, width, 3), 40 * t % 256, np.uint8), 1, 1, t, 2.5 * t, t == count - 1, fps)


def read(path: Path) -> tuple[dict[str, object], list[np.ndarray]]:
    """A video's size and rate, and its frames."""
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    return meta, [np.frombuffer(x, np.uint8).reshape(height, width, 3) for x in reader]


def test_the_caption_says_step_and_return() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    assert Frame(image, 1, 1, 7, -3.25, False, 30.0).caption == "step 7   return -3.2"
    assert Frame(image, 2, 9, 7, 1e4, False, 30.0).caption == "episode 2/9   step 7   return 10000.0"


@pytest.mark.parametrize("size", [(8, 8), (84, 84), (210, 160), (400, 600), (33, 1001)])
def test_a_caption_stands_below_the_picture(size: tuple[int, int]) -> None:
    height, width = size
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = captioned(Frame(picture, 10, 10, 12345, -123456.7, False, 30.0))
    assert image.shape[0] % 2 == image.shape[1] % 2 == 0
    assert image.shape[1] >= 256  # wide enough to be read
    times = image.shape[1] // width
    assert (image[: height * times, : width * times] == picture.repeat(times, 0).repeat(times, 1)).all()
    band = image[height * times :].astype(int)
    assert band.shape[0] >= 28
    rows, columns = np.nonzero(band.max(-1) > 200)
    assert 8 <= rows.max() - rows.min() < band.shape[0] - 2  # letters, none cut off
    assert columns.max() < image.shape[1] - 2
    other = captioned(Frame(picture, 10, 10, 12346, -123456.7, False, 30.0))
    assert (other != image).any()


@pytest.mark.parametrize("name", ["film.mp4", "new/folder/FILM.GIF", pytest.param("film.gif", marks=pytest.mark.slow)])
def test_a_video_has_every_frame(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert [frame.step for frame in write_video(path, frames())] == list(range(6))
    meta, seen = read(path)
    assert meta["size"] == (302, 41 + 28 + 1)
    assert meta["fps"] == 20.0
    assert len(seen) == 6
    for t, image in enumerate(seen):
        assert abs(int(image[20, 100, 0]) - 40 * t) <= 6
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.slow
def test_a_gif_is_not_faster_than_players_can(tmp_path: Path) -> None:
    list(write_video(tmp_path / "film.gif", frames(count=21, fps=100.0)))
    meta, seen = read(tmp_path / "film.gif")
    assert meta["fps"] == 50.0
    assert 9 <= len(seen) <= 12  # as long as before


@pytest.mark.slow
def test_pictures_that_change_their_size(tmp_path: Path) -> None:
    mixed = [*frames(count=2), *frames(count=2, height=80, width=50), *frames(count=1, height=10, width=900)]
    list(write_video(tmp_path / "film.mp4", mixed))
    assert len(read(tmp_path / "film.mp4")[1]) == 5


def failing() -> Iterator[Frame]:
    yield from frames(count=3)
    raise UserError("the environment broke")


def test_half_a_video_is_never_left(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with pytest.raises(UserError, match="the environment broke"):
        list(write_video(path, failing()))
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"older")
    with pytest.raises(UserError, match="the environment broke"):
        list(write_video(path, failing()))
    stopped = write_video(path, frames())
    next(stopped)
    stopped.close()  # as an interrupt does
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]
    assert path.read_bytes() == b"older"
    list(write_video(path, frames()))  # a whole one takes its place
    assert len(read(path)[1]) == 6
    assert list(write_video(tmp_path / "none.mp4", iter(()))) == []
    assert not (tmp_path / "none.mp4").exists()


def test_a_video_that_cant_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, words in (
        ("film.avi", ".mp4 or .gif"),
        ("film", ".mp4 or .gif"),
        ("file/film.mp4", "is no folder"),
        ("/proc/film.mp4", "can't write /proc/film.mp4: "),
    ):
        with pytest.raises(UserError) as refused:
            list(write_video(tmp_path / name, frames()))
        assert words in str(refused.value)
        assert "\n" not in str(refused.value)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        check_video(tmp_path / "folder.mp4")


def test_a_package_that_is_missing(tmp_path: Path) -> None:
    with (
        mock.patch.dict(sys.modules, {"imageio_ffmpeg": None}),
        pytest.raises(UserError, match=r"needs imageio_ffmpeg: pip install 'pgrun\[video\]'"),
    ):
        check_video(tmp_path / "film.mp4")


def test_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(UserError, match=r"no display .* --video play\.mp4"):
        check_window()


def test_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame")
    monkeypatch.setitem(os.environ, "SDL_VIDEODRIVER", "dummy")
    steps = []
    for frame in show(frames(fps=200.0)):
        shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        assert (shown == captioned(frame)).all()
        steps.append(frame.step)
        if frame.step == 3:
            pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert steps == [0, 1, 2, 3]
    assert not pygame.display.get_init()
