"""What can be seen of a process from outside, whether or not it ends meanwhile."""

import psutil


def words(process: psutil.Process) -> list[str]:
    """Its command line."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def workers(server: psutil.Process) -> list[psutil.Process]:
    """The processes in which a server of granian does its work."""
    try:
        children = server.children()
    except psutil.NoSuchProcess:
        return []
    # Where workers are spawned and not forked, they have a tracker beside them.
    return [one for one in children if not any("tracker" in word for word in words(one))]


def data_dir(process: psutil.Process) -> str | None:
    """The folder of the platform that it is a part of, while it is alive."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.environ().get("PACELINE_DATA_DIR")
    except psutil.Error:
        return None
