"""The command line in processes that begin with everything imported: loading torch takes longer than most commands.

`python forked.py` reads a request a line (JSON: arguments, code or none, environment, folder, and files for what goes
in and out), forks, and answers with the exit status. A child is a process of its own: it can be killed like any other.
"""

import atexit
import contextlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__)
_servers: list[subprocess.Popen[str]] = []


def run(
    arguments: list[str], environment: Mapping[str, str], code: str | None = None, said: str = "",
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """As `python -m charactery ARGUMENTS`, or `python -c CODE ARGUMENTS`, would end, with `said` typed into it."""
    if not _servers:
        _servers.append(
            subprocess.Popen(
                [sys.executable, str(HERE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**environment, "OMP_NUM_THREADS": "1"},
            )
        )  # fmt: skip
        atexit.register(_stop)
    server = _servers[0]
    assert server.stdin and server.stdout
    with tempfile.TemporaryDirectory() as scratch:
        files = [str(Path(scratch) / name) for name in ("in", "out", "err")]
        Path(files[0]).write_text(said)
        request = {"arguments": arguments, "code": code, "environment": dict(environment), "files": files,
                   "folder": str(folder or Path.cwd())}  # fmt: skip
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        out, err = (Path(path).read_text(errors="replace") for path in files[1:])
    return subprocess.CompletedProcess(arguments, status, out, err)


def _stop() -> None:
    """Let the server end, and wait for it, so that its seconds are among those of the tests."""
    for server in _servers:
        assert server.stdin
        server.stdin.close()
        server.wait()


def _serve() -> None:
    import gc

    import charactery.cli

    charactery.cli.hush()
    from charactery.evals import scored

    # every evaluation reads the whole of these fixed sets; a tiny model has little to say to more of the same
    questions, prose = scored.questions, scored.prose
    scored.questions, scored.prose = lambda: questions()[::5], lambda: prose()[::5]
    import charactery.evals.registry
    import charactery.pipeline.distil
    import charactery.train.grpo
    import charactery.train.preferences

    gc.freeze()  # or each child would go through what was imported when it collects its own
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(request)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(request: dict[str, Any]) -> None:
    """Be the process that was asked for, and end as it would."""
    for number, (path, flags) in enumerate(
        zip(request["files"], (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT), strict=True)
    ):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for as long as the process lives
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["-c" if request["code"] else "charactery", *request["arguments"]]
    status: Any = 0
    try:
        if request["code"]:
            exec(compile(request["code"], "<string>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module("charactery", run_name="__main__", alter_sys=True)
    except SystemExit as stopped:
        status = stopped.code
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    finally:
        if status and not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status or 0)


if __name__ == "__main__":
    _serve()
