"""Videos of frames: captioned, written as they come, and complete or not there at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pgrun.after.playing import Frame
from pgrun.errors import UserError

SUFFIXES = (".mp4", ".gif")
NARROW = 256  # pixels: a narrower picture is enlarged, so that its caption can be read
# One palette for each picture, so that no more than one is kept in memory
PALETTE = "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1:dither=none"
MOST_OF_GIF = 50.0  # frames a second: players slow down what says more


def check_video(path: Path) -> None:
    """Raise UserError if a video can't be written to a path: its ending, its folder, or a package that is missing."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--video {path}: its name should end with {' or '.join(SUFFIXES)}")
    if path.is_dir():
        raise UserError(f"--video {path} is a folder; name a file in it")
    folder = path.absolute().parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"can't write {path}: {folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"can't write {path}: nothing may be written to {folder}")
    try:
        import imageio_ffmpeg  # noqa: F401
        import PIL  # noqa: F401
    except ImportError as error:
        raise UserError(f"a video needs {error.name}: pip install 'pgrun[video]'") from error


def write_video(path: Path, frames: Iterable[Frame]) -> Generator[Frame]:
    """Write frames to a video, and hand each on once it is written.

    The file appears when it is complete; one that was there is replaced then. The first frame decides the size.

    Raises:
        UserError: it can't be written.
    """
    check_video(path)
    draft, writer = path.with_name(f".{path.stem}.pgrun-tmp{path.suffix.lower()}"), None
    size: tuple[int, int] | None = None
    try:
        for frame in frames:
            image = captioned(frame, size)
            if writer is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                draft.write_bytes(b"")  # says why not, if it can't be
                size = image.shape[1], image.shape[0]
                writer = open_writer(draft, size, frame.fps)
            writer.send(image.tobytes())
            yield frame
        if writer is not None:
            done, writer = writer, None
            done.close()
            os.replace(draft, path)
    except OSError as error:
        why = error.strerror or "ffmpeg, which encodes it, stopped: is the disk full?"  # imageio's own has no strerror
        raise UserError(f"can't write {path}: {why}") from error
    finally:
        if writer is not None:
            with suppress(Exception):
                writer.close()
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def open_writer(path: Path, size: tuple[int, int], fps: float) -> Generator[None, bytes, None]:
    """Open a file for frames of a size, which ffmpeg encodes as they are sent."""
    import imageio_ffmpeg

    common: dict[str, Any] = {"fps": fps, "macro_block_size": 1, "ffmpeg_log_level": "quiet"}
    if path.suffix == ".gif":
        common["output_params"] = ["-filter_complex", PALETTE, "-loop", "0", "-r", f"{min(fps, MOST_OF_GIF):g}"]
        writer = imageio_ffmpeg.write_frames(str(path), size, codec="gif", pix_fmt_out="pal8", **common)
    else:
        writer = imageio_ffmpeg.write_frames(str(path), size, codec="libx264", quality=7, **common)
    writer.send(None)
    return writer  # type: ignore[no-any-return]


def captioned(frame: Frame, size: tuple[int, int] | None = None) -> np.ndarray:
    """Draw a frame with its caption in a band below.

    Args:
        frame: the frame.
        size: width and height of the result, with the band; None: those of the picture, which is enlarged if narrow.

    Returns:
        [H, W, 3] uint8, with an even height and width.
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(frame.image)
    times = -(-NARROW // picture.width)
    picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    width, height = size or (picture.width + picture.width % 2, 0)
    text_height = max(14, width // 26)
    band = 2 * text_height
    height = height or picture.height + band + (picture.height + band) % 2
    if picture.width > width or picture.height > height - band or (size and picture.width < width - 1):
        picture = picture.resize((width, height - band))  # its size changed on the way
    image = Image.new("RGB", (width, height), (24, 24, 24))
    image.paste(picture, (0, 0))
    draw = ImageDraw.Draw(image)
    text = frame.caption
    while draw.textlength(text, font=font(text_height)) > width - text_height and text_height > 8:
        text_height -= 1
    middle = height - band // 2
    draw.text((text_height // 2, middle), text, fill=(240, 240, 240), font=font(text_height), anchor="lm")
    return np.asarray(image)


@cache
def font(height: int) -> Any:
    """Load Pillow's own font in a size."""
    from PIL import ImageFont

    return ImageFont.load_default(size=height)


def check_window() -> None:
    """Raise UserError if no window can be opened here."""
    if sys.platform.startswith("linux") and not any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    ):
        raise UserError("there is no display here to open a window on: write a film instead, with --video play.mp4")
    try:
        import PIL  # noqa: F401
        import pygame  # noqa: F401
    except ImportError as error:
        raise UserError(f"a window needs {error.name}: pip install 'pgrun[video]'") from error


def show(frames: Iterable[Frame]) -> Generator[Frame]:
    """Show frames in a window as fast as looks natural, and hand each on; end when the window is closed.

    Raises:
        UserError: no window can be opened.
    """
    check_window()
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import pygame

    try:
        pygame.display.init()
    except pygame.error as error:
        raise UserError(f"no window can be opened ({error}): write a film instead, with --video play.mp4") from error
    clock, window = pygame.time.Clock(), None
    size = (0, 0)
    try:
        for frame in frames:
            image = captioned(frame, size if window else None)
            if window is None:
                size = image.shape[1], image.shape[0]
                window = pygame.display.set_mode(size)
                pygame.display.set_caption("pgrun play")
            window.blit(pygame.image.frombuffer(image.tobytes(), size, "RGB"), (0, 0))
            pygame.display.flip()
            clock.tick(frame.fps)
            yield frame
            for event in pygame.event.get():
                pressed = event.type == pygame.KEYDOWN and event.key in (pygame.K_ESCAPE, pygame.K_q)
                if event.type == pygame.QUIT or pressed:
                    return
    finally:
        pygame.display.quit()
