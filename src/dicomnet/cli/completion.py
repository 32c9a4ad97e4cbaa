"""``dicomnet completion``: the script that lets a shell complete our commands, options, files, and names of peers.

The script asks the program itself, through click, each time the key is pressed. So it never gets old, and no answer may
need the network code.
"""

from __future__ import annotations

import sys
from typing import Final

import click

from dicomnet.cli.options import Command

_INSTALLED: Final = {
    "bash": """add this line to ~/.bashrc: eval "$(dicomnet completion bash)" """,
    "zsh": """add this line to ~/.zshrc, after compinit: eval "$(dicomnet completion zsh)" """,
    "fish": "dicomnet completion fish > ~/.config/fish/completions/dicomnet.fish",
}
_VARIABLE: Final = "_DICOMNET_COMPLETE"  # as click names it


@click.command("completion", cls=Command, events={}, short_help="Let the shell complete commands, options and names.")
@click.argument("shell", type=click.Choice(list(_INSTALLED)), metavar="SHELL")
def command(shell: str) -> int:
    """Print the script that lets SHELL, which is bash, zsh or fish, complete what you type.

    It completes commands, options and their values, files, and the names of peers in dicomnet.toml. bash needs version
    4.4 or later. To have it in each new shell, for bash a line in ~/.bashrc, for zsh one in ~/.zshrc after compinit,
    for fish a file:

    \b
      eval "$(dicomnet completion bash)"
      eval "$(dicomnet completion zsh)"
      dicomnet completion fish > ~/.config/fish/completions/dicomnet.fish
    """
    from click.shell_completion import get_completion_class

    from dicomnet.cli.program import program

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click cannot complete in {shell}: pip install --upgrade click")
    made = kind(program, {}, "dicomnet", _VARIABLE)
    advice = f"To have it in each new shell, {_INSTALLED[shell].strip()}"
    click.echo(f"# {advice}\n{(made.source_template % made.source_vars()).strip()}")
    if sys.stdout.isatty():
        click.echo(advice, err=True)
    return 0
