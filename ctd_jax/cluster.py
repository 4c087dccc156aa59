"""Independent jobs on workers of Dask: processes of this machine, or those of a scheduler that is running.

Dask decides who does what. Where a worker dies, another takes up its job, which goes on from what that one has kept on
the disk that all of them share. A job whose workers have died more often than Dask allows (its `allowed-failures`, 3)
is given up.
"""

import atexit
import contextlib
import functools
import io
import logging
import os
import pathlib
import platform
import re
import secrets
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ctd_jax import errors, lock, versions
from ctd_jax.errors import UserError

if TYPE_CHECKING:
    import distributed

HELP = (
    "Workers that share the work: local:4, so many processes of this machine, or tcp://HOST:PORT, a scheduler of Dask."
)
INSTALL = "pip install 'ctd_jax[cluster]' (in a clone: pip install -e '.[cluster]')"
START = "dask worker SCHEDULER --nthreads 1 --memory-limit 0"
ANSWER = 10  # seconds that a scheduler has to answer
PATIENCE = 60.0  # seconds for a worker that is about to die, and for a disk that shows late what is there
COMPARED = ("ctd_jax", *versions.PACKAGES)
Job = TypeVar("Job")
Result = TypeVar("Result")


class Place(NamedTuple):
    """Where a command works, which its workers must see as it does.

    Attributes:
      folder: in which relative paths begin.
      token: a file that is there as long as the command.
      made_with: `versions.describe` of the command.
    """

    folder: str
    token: str
    made_with: Mapping[str, str]

    def fault(self) -> str | None:
        """Why this process can't be a worker of the command; None: it can."""
        here = f"the worker on {platform.node()}"
        if not (pathlib.Path(self.token).exists() and pathlib.Path(self.folder).is_dir()):
            return (
                f"--cluster: {here} doesn't see {os.path.dirname(self.token)} and {self.folder} as this machine does; "
                "start the command in a folder, and give it one for results, that all machines share under one path"
            )
        old, new = ({name: made.get(name, "none") for name in COMPARED} for made in (self.made_with, _made_with()))
        if old != new:
            return f"--cluster: {here} has other versions ({'; '.join(versions.changes(old, new))}); install the same"
        return None


class Outcome(NamedTuple, Generic[Result]):
    """What came of a job, as text where it failed, because not every error can be sent.

    Attributes:
      result: what its function has returned.
      mistake: what the user can mend.
      error: another error, and `trace`, where it came from.
    """

    result: Result | None = None
    mistake: str = ""
    error: str = ""
    trace: str = ""


class Workers:
    """Workers that have joined, see `joined`."""

    def __init__(self, client: "distributed.Client", place: Place):
        self._client, self._place = client, place
        self._futures: list[distributed.Future] = []

    def __len__(self) -> int:
        """The number of workers now."""
        return len(self._client.nthreads())

    def check(self) -> None:
        """Raises UserError if there is no worker, or one that can't work for this command."""
        if not len(self):
            raise UserError(f"--cluster: no workers are there; start some: {START}")
        for worker, threads in self._client.nthreads().items():
            if threads != 1:
                raise UserError(
                    f"--cluster: the worker {worker} has {threads} threads; expected one, because a process does one "
                    f"job at a time: {START}"
                )
        try:
            faults = self._client.run(Place.fault, self._place)
        except Exception as error:  # Dask's own, whatever it was
            raise UserError(f"--cluster: a worker can't begin: {error}; install ctd_jax there as it is here") from error
        for fault in filter(None, faults.values()):
            raise UserError(fault)

    def map(self, function: Callable[[Job], Result], jobs: Mapping[str, Job]) -> Iterator[Result]:
        """`function` of each job, in their order.

        Args:
          function: of a module; gives what can be pickled, and goes on from what it has kept when called again.
          jobs: name -> job, which can be pickled.

        Raises:
          UserError: as soon as a job has raised it; or its workers have died too often.
          RuntimeError: as soon as a job has raised any other error, whose text begins with the job's name.
        """
        from distributed import as_completed

        batch = f"{function.__name__}-{secrets.token_hex(8)}"
        names, found = list(jobs), {}
        work, keys = functools.partial(_do, self._place, function), [(batch, name) for name in names]
        futures = self._client.map(work, names, list(jobs.values()), key=keys, pure=False)
        self._futures += futures
        for future in as_completed(futures):
            name = future.key[1]
            found[name] = self._result(name, future)
            while names and names[0] in found:
                yield found.pop(names.pop(0))

    def _result(self, name: str, future: "distributed.Future") -> Any:
        from distributed import KilledWorker

        if future.cancelled() or future.status == "lost":
            raise UserError(
                "--cluster: the scheduler has gone; start it again, and the same command goes on with what is done"
            )
        try:
            outcome = future.result()
        except KilledWorker as error:
            raise UserError(
                f"{name}: its worker has died {error.allowed_failures + 1} times, at last {error.last_worker.address} "
                "(was there too little memory?); the same command goes on with what is done"
            ) from error
        if outcome.mistake:
            raise UserError(outcome.mistake)
        if outcome.error:
            failed = RuntimeError(f"{name}: {outcome.error}")
            failed.add_note(outcome.trace)
            raise failed
        return outcome.result

    def stop(self) -> None:
        """Ends what the workers are at; their nannies start them anew."""
        left = {future.key for future in self._futures if not future.done()}
        with contextlib.suppress(OSError, ValueError):  # no scheduler any more; a worker without a nanny
            busy = [worker for worker, keys in self._client.processing().items() if left.intersection(keys)]
            self._client.cancel(self._futures)
            self._client.restart_workers(busy, raise_for_error=False)


@contextlib.contextmanager
def joined(cluster: str, shared: pathlib.Path) -> Iterator[Workers | None]:
    """The workers that `--cluster` names; when the block ends by an error, Ctrl-C or SIGTERM, so does what they are at.

    Args:
      cluster: local:N, an address of a scheduler, or "": None is given.
      shared: folder for the results, which is made; the workers must see it.

    Raises:
      UserError: neither of these; there is no Dask, scheduler or worker, or a worker that doesn't see this disk.
    """
    if not cluster:
        yield None
        return
    local = re.fullmatch(r"local:([1-9]\d{0,3})", cluster)
    if not local and not re.fullmatch(r"(tcp|tls)://\S+:\d+", cluster):
        raise UserError(f"--cluster is {cluster}; expected local:N, N processes of this machine, or tcp://HOST:PORT")
    try:
        import cryptography  # noqa: F401  # which Dask asks for later
        import distributed
    except ImportError as error:
        raise UserError(f"--cluster needs Dask, which is not installed: {INSTALL}") from error
    from ctd_jax.training.stopping import Signals

    logging.getLogger("distributed").setLevel(logging.WARNING)
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # it raises the same as well
    with Signals(), contextlib.ExitStack() as stack:
        address = stack.enter_context(_local(int(local[1]))) if local else cluster
        try:
            client = stack.enter_context(distributed.Client(address, timeout=ANSWER))
        except (OSError, ValueError) as error:
            raise UserError(
                f"--cluster: no scheduler answers at {cluster} ({error}); start one: dask scheduler"
            ) from error
        workers = Workers(client, stack.enter_context(_place(shared)))
        workers.check()
        try:
            yield workers
        except BaseException:
            if local:
                logging.getLogger("distributed").setLevel(logging.ERROR)  # they end with the block, and are meant to
            else:
                workers.stop()
            raise


def wait_for(path: pathlib.Path) -> None:
    """Waits until this machine sees a file that a worker has written, for at most `PATIENCE`."""
    until = time.monotonic() + PATIENCE
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.5)


def _local(number: int) -> "distributed.LocalCluster":
    """Processes of this machine, which no other user of it can reach, with as many threads and as much memory for the
    computing as this one has. Dask's pages, which ask nobody who he is, are not served."""
    import dask
    import distributed

    no_pages: dict[str, list[str]] = {f"distributed.{kind}.http.routes": [] for kind in ("scheduler", "worker")}
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {}} | no_pages):
        return distributed.LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            processes=True,
            memory_limit=None,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # else port 8787, which another command may have
            security=True,
            preload=["ctd_jax.cluster"],
        )


def dask_setup(worker: "distributed.Worker") -> None:
    """What Dask calls in each process of `_local`: Ctrl-C is for the command, which ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("distributed.worker").setLevel(logging.ERROR)
    atexit.register(os._exit, 0)  # what JAX has made takes seconds to be taken apart


@contextlib.contextmanager
def _place(shared: pathlib.Path) -> Iterator[Place]:
    """The place of this command, with a token in `shared`."""
    shared.mkdir(parents=True, exist_ok=True)
    token = shared.absolute() / f".cluster-{secrets.token_hex(8)}"
    token.touch()
    try:
        yield Place(os.getcwd(), str(token), _made_with())
    finally:
        token.unlink(missing_ok=True)


def _do(place: Place, function: Callable[[Job], Result], name: str, job: Job) -> Outcome[Result]:
    """On a worker: what comes of a job. Of what it says, warnings are shown, but not how far it is."""
    if fault := place.fault():  # it has joined later
        return Outcome(mistake=fault)
    _warnings().setFormatter(logging.Formatter(f"%(levelname)s: {name.replace('%', '%%')}: %(message)s"))
    os.chdir(place.folder)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                return Outcome(function(job))
        except lock.InUse as error:  # by a worker that is dying, or cut off
            if time.monotonic() > until:
                return Outcome(mistake=str(error))
            time.sleep(0.5)
        except UserError as error:
            return Outcome(mistake=str(error))
        except Exception as error:
            if mistake := errors.of_system(error):
                return Outcome(mistake=mistake)
            return Outcome(error=f"{type(error).__name__}: {error}", trace=traceback.format_exc())


@functools.cache
def _warnings() -> logging.Handler:
    """What shows warnings, in a process that is set up like that of a command; once in a process."""
    from ctd_jax import command

    command.set_up()
    return logging.getLogger("ctd_jax").handlers[-1]


@functools.cache
def _made_with() -> dict[str, str]:
    return versions.describe()
