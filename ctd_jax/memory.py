"""Memory of the process and of the devices."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # malloc.h of glibc


def keep() -> None:
    """Asks glibc to keep freed memory for the next step. Otherwise every step on a CPU gets its gigabytes anew from the
    kernel, page by page: a seventh of the time of a ResNet-50's. Call it before there are threads; elsewhere than on
    Linux with glibc it does nothing."""
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018
    except (AttributeError, OSError, TypeError):
        return
    libc.mallopt(_M_ARENA_MAX, 1)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never
