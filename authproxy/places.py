"""Files, and where a user's own ones are: not every process has a user, nor every user a home."""

from pathlib import Path

Stamp = tuple[int, int, int] | None
"""What tells one state of a file from the next; None for one that is not there."""

NO_HOME = "there is no home directory: HOME is not set, and the system has no entry for this user"


def config_directory() -> Path | None:
    """Return where the user's configuration is; None without a home directory."""
    import platformdirs

    try:
        return _absolute(platformdirs.user_config_path("authproxy"))
    except RuntimeError:
        return None


def state_directory() -> Path | None:
    """Return where what should outlive a process is kept; None without a home directory."""
    import platformdirs

    try:
        return _absolute(platformdirs.user_state_path("authproxy"))
    except RuntimeError:
        return None


def working_directory() -> Path:
    """Return the current directory; one that was removed, or cannot be asked for, stays `.`."""
    try:
        return Path.cwd()
    except OSError:
        return Path()


def is_file(path: Path) -> bool:
    """Tell whether `path` is a file; where we may not look, there is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def stamp_of(path: Path) -> Stamp:
    """Return in which state a file is, the one that a link leads to."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _absolute(path: Path) -> Path | None:
    return path if path.is_absolute() else None  # `~/.config`, of a version that does not mind
