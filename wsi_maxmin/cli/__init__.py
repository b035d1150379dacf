"""The command line: one file a command, each loaded only when it is called."""

import errno
import logging
import sys
from importlib import import_module
from typing import Any

import click

from wsi_maxmin._plugins import Plugins
from wsi_maxmin._version import __version__
from wsi_maxmin.errors import DivergedError, WsiMaxminError

_REMEDIES = {
    errno.ENOSPC: "free some space, then --resume",
    errno.EDQUOT: "free some of the quota, then --resume",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EEXIST: "give a folder where a file is now",
    errno.ENOTDIR: "give a folder where a file is now",
    errno.ENAMETOOLONG: "shorten the name",
}

plugins = Plugins(package=__name__, path=__path__, kind="command")


class LazyGroup(click.Group):
    """A group whose commands are the modules of this folder."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """List the commands without importing them."""
        return plugins.names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        if cmd_name not in plugins.names():
            return None
        command: click.Command = import_module(f"{__name__}.{cmd_name.replace('-', '_')}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn its errors into one line and an exit code."""
        try:
            return super().invoke(ctx)
        except WsiMaxminError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"error: {error}", err=True)
            ctx.exit(1 if isinstance(error, DivergedError) else 2)
        except OSError as error:
            # Of a pipe that its reader has closed, as `head` does, click makes a silent end.
            if ctx.params.get("debug") or error.errno == errno.EPIPE:
                raise
            click.echo(f"error: {_in_words(error)}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt as interruption:
            remedy = str(interruption) or ("--resume continues" if self._resumes(ctx) else "")
            click.echo(f"interrupted; {remedy}" if remedy else "interrupted", err=True)
            ctx.exit(130)

    def _resumes(self, ctx: click.Context) -> bool:
        """Return whether the command that was asked for has ``--resume``."""
        command = self.get_command(ctx, ctx.invoked_subcommand or "")
        return command is not None and any("--resume" in parameter.opts for parameter in command.params)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="wsi-maxmin")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def group(debug: bool) -> None:
    """Weakly supervised tumour maps of whole slides: from image-level labels to OME-Zarr heatmaps.

    Try `wsi-maxmin demo` first.
    """
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.CRITICAL, format="%(levelname)s %(name)s: %(message)s"
    )
    # At DEBUG these would drown what we say ourselves.
    for noisy in ("PIL", "matplotlib", "asyncio", "numcodecs"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _in_words(error: OSError) -> str:
    """Say what the system refused, on which path, and what may help."""
    what = f"{error.strerror}: {error.filename}" if error.strerror and error.filename else str(error)
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{what}; {remedy}" if remedy else what


def main() -> None:
    """Run the command line."""
    sys.exit(group(prog_name="wsi-maxmin"))
