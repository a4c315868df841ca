"""``ladic completion``: completion of commands, options, components and configurations for bash, zsh and fish."""

from __future__ import annotations

from ladic.cli.parser import LineParser

BASH = r"""# completion of ladic; in ~/.bashrc: eval "$(ladic completion bash)"
_ladic() {
    local line=${COMP_LINE:0:$COMP_POINT} word
    local cut=${line##* }
    case $cut in *=*) cut=${cut%"${cut##*=}"} ;; *) cut= ;; esac
    COMPREPLY=()
    while IFS= read -r word; do
        [ -n "$word" ] && COMPREPLY+=("${word#"$cut"}")
    done < <(ladic completion --line "$line" 2>/dev/null)
    case ${COMPREPLY[0]-} in *=) compopt -o nospace 2>/dev/null ;; esac
}
complete -o default -F _ladic ladic
"""

ZSH = r"""# completion of ladic; in ~/.zshrc: eval "$(ladic completion zsh)"
autoload -Uz compinit && compinit -u
_ladic() {
    local -a found
    found=("${(@f)$(ladic completion --line "${LBUFFER}" 2>/dev/null)}")
    if (( ${#found} )) && [[ -n ${found[1]} ]]; then
        compadd -U -S '' -- "${found[@]}"
    else
        _files
    fi
}
compdef _ladic ladic
"""

FISH = r"""# completion of ladic; in ~/.config/fish/config.fish: ladic completion fish | source
complete -c ladic -a '(ladic completion --line (commandline -cp) 2>/dev/null)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def main(argv: list[str]) -> None:
    """Prints the script of a shell, or what may stand next on a line."""
    parser = LineParser(
        "ladic completion", description='Shell completion. In ~/.bashrc: eval "$(ladic completion bash)"'
    )
    parser.add_argument("shell", nargs="?", choices=SCRIPTS, help="print the script of this shell")
    parser.add_argument("--line", help="print what may complete this line; the scripts ask with it")
    options = parser.parse_args(argv)
    if (options.shell is None) == (options.line is None):
        parser.error(f"give one of {', '.join(SCRIPTS)}")
    if options.shell is not None:
        print(SCRIPTS[options.shell], end="")
        return
    from ladic.cli.main import COMMANDS
    from ladic.completion import complete

    for word in complete(options.line, {name: command.module for name, command in COMMANDS.items()}):
        print(word)
