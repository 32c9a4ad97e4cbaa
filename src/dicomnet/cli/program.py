"""The group of commands, and how each of them ends: one line and an exit code."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

import click

from dicomnet.cli.options import INTERRUPTED, USAGE, Context, tell_error
from dicomnet.cli.output import printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# The command ``name`` is the object ``command`` of the module ``dicomnet.cli.<name>``.
COMMANDS: Final = {
    "demo": "Show who calls what and who is told what, on real files.",
    "echo": "Ask a peer whether it is there (C-ECHO).",
    "send": "Send files and folders to a peer (C-STORE).",
    "receive": "Store what peers send into a folder.",
    "find": "Ask a peer what it has, or what is scheduled (C-FIND).",
    "get": "Retrieve instances into a folder (C-GET).",
    "move": "Have a peer send instances to a destination (C-MOVE).",
    "probe": "Find out what a peer is, and why it fails.",
    "trace": "Show what passes between two AEs.",
    "peers": "Names for peers: list, add, remove, test them.",
    "completion": "Let the shell complete commands, options and names.",
}
# How the help lists them.
GROUPS: Final = {
    "Send and receive": ("send", "receive"),
    "Query and retrieve": ("find", "get", "move"),
    "Find out": ("echo", "probe", "trace", "demo"),
    "Set up": ("peers", "completion"),
}
_LONGEST: Final = max(map(len, COMMANDS))


class _Commands(click.Group):
    """Loads a command when it is called, so that no help waits for the network code."""

    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"dicomnet.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}{_meant(args[0])}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, names in GROUPS.items():
            if rows := [(name.ljust(_LONGEST), COMMANDS[name]) for name in names if name in COMMANDS]:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands without loading any."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        options = [word for word in ("--help", "--version") if incomplete and word.startswith(incomplete)]
        return [*names, *map(CompletionItem, options)]


def _meant(word: str) -> str:
    import difflib

    close = difflib.get_close_matches(word.lower(), COMMANDS, 1)
    return f"; did you mean {close[0]}?" if close else f", only {', '.join(COMMANDS)}"


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"dicomnet {version('dicomnet')}")
        except PackageNotFoundError:
            click.echo("dicomnet, from a source tree that is not installed")
        context.exit()


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    subcommand_metavar="COMMAND ...",
    options_metavar="",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="dicomnet COMMAND --help explains a command, with examples. A peer is written AET@host:port, or by a name:"
    " dicomnet peers add pacs PACS@192.0.2.7:11112. For your shell: dicomnet completion --help",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def program(context: click.Context) -> int:
    """Move DICOM instances over the network: a set of small programs."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        return USAGE
    return 0


def run(arguments: list[str]) -> int:
    """Run a command line; returns the exit code. Errors are one line on stderr."""
    try:
        code = program.main(arguments, prog_name="dicomnet", standalone_mode=False)
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        if "--json" in arguments and not getattr(error, "told", False):  # wrong usage: no command had begun
            tell_error(error)
        name, hint = _called(error)
        text = printable(error.format_message().strip())
        print(f"{name}: {text}{hint}", file=sys.stderr)
        return error.exit_code
    return code if isinstance(code, int) else 0


def _called(error: click.ClickException) -> tuple[str, str]:
    """The command's name, and where to read more if it was not understood."""
    context = getattr(error, "ctx", None)
    name = context.command_path if context is not None else "dicomnet"
    return name, f" (try: {name} --help)" if isinstance(error, click.UsageError) else ""
