"""The dispatch on the first word, and what errors look like."""

import sys
import types

import pytest

import ladic
from ladic.cli.main import COMMANDS, LIGHTNING, main
from ladic.errors import UsageError


@pytest.fixture
def subcommand(monkeypatch):
    """Puts a function in the place of ``ladic caption``."""

    def put(function):
        module = types.ModuleType("ladic.cli.caption")
        module.main = function
        monkeypatch.setitem(sys.modules, "ladic.cli.caption", module)

    return put


def raising(error):
    def function(argv):
        raise error

    return function


def test_help_lists_every_subcommand(cli):
    done = cli("--help")
    assert (done.code, done.stderr) == (0, "")
    for name, command in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert command.help in done.stdout


def test_every_subcommand_is_there(root):
    missing = {}
    for name, command in COMMANDS.items():
        file = root / "ladic" / "cli" / f"{command.module}.py"
        entry = "def run(" if command.module == LIGHTNING else "def main("
        if not file.exists() or entry not in file.read_text():
            missing[name] = str(file.relative_to(root))
    assert missing == {}


def test_nothing_asked_is_an_error_that_helps(cli):
    assert cli() == (2, "", cli("--help").stdout)


def test_version(cli):
    assert cli("--version") == (0, f"ladic {ladic.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["capton"], "no subcommand called 'capton'; did you mean caption?"),
        (["fit_space"], "no subcommand called 'fit_space'; did you mean fit-space?"),
        (["--config", "x"], "'--config' comes before the subcommand; write `ladic SUBCOMMAND --config …`"),
        (["configs", "show"], "'show' needs a name: `ladic configs` lists them"),
        (["configs", "list", "x"], "'list' takes no name; `ladic configs show x` prints one"),
    ],
)
def test_wrong_words_are_one_line(cli, words, message):
    done = cli(*words)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1), (3, 3)])
def test_what_a_subcommand_returns_is_the_exit_code(cli, subcommand, returned, code):
    seen = []
    subcommand(lambda argv: seen.append(argv) or returned)
    assert cli("caption", "a.jpg", "--json").code == code
    assert seen == [["a.jpg", "--json"]]


def test_success_returns_normally(subcommand):
    subcommand(lambda argv: 0)
    assert main(["caption"]) is None


def test_lightning_gets_all_the_words(monkeypatch, cli):
    seen = []
    module = types.ModuleType("ladic.cli.lightning_cli")
    module.run = seen.append
    monkeypatch.setitem(sys.modules, "ladic.cli.lightning_cli", module)
    assert cli("validate", "-c", "x.yaml").code == 0
    assert seen == [["validate", "-c", "x.yaml"]]


def test_a_usage_error_is_one_line_without_traceback(cli, subcommand):
    subcommand(raising(UsageError("cat.jpg: not an image\n  give a PNG, JPEG or WebP")))
    assert cli("caption") == (2, "", "error: cat.jpg: not an image give a PNG, JPEG or WebP\n")


def test_our_own_mistakes_keep_their_traceback(cli, subcommand):
    subcommand(raising(ValueError("ours")))
    with pytest.raises(ValueError, match="ours"):
        cli("caption")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "/root/x\ny"), "/root/x y: Permission denied"),
        (OSError(21, "Is a directory", "a.part", None, "a"), "a: Is a directory"),
    ],
)
def test_a_file_that_the_system_refuses_is_named(cli, subcommand, error, message):
    subcommand(raising(error))
    assert cli("caption") == (2, "", f"error: {message}\n")


def test_system_errors_without_a_file_keep_their_traceback(cli, subcommand):
    subcommand(raising(OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error"):
        cli("caption")


def test_a_file_that_is_not_utf8_is_named_where_the_words_have_it(cli, subcommand, tmp_path):
    file = tmp_path / "latin1.txt"
    file.write_bytes("a café ".encode("latin-1"))
    subcommand(lambda argv: file.read_text(encoding="utf-8"))
    assert cli("caption", f"--blanks={file}") == (
        2, "", f"error: '{file}': not UTF-8 text (at b'\\xe9 '); save it as UTF-8\n"
    )  # fmt: skip
    assert cli("caption", "x" * 5000).stderr.startswith("error: a file that was to be read is not UTF-8 text (at b'")


def test_ctrl_c(cli, subcommand):
    subcommand(raising(KeyboardInterrupt()))
    assert cli("caption") == (130, "", "interrupted\n")


def test_ctrl_c_in_lightning_which_exits_with_1(cli, subcommand):
    def function(argv):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    subcommand(function)
    assert cli("caption") == (130, "", "interrupted\n")


def test_configs_are_printed_and_located(cli, root):
    files = sorted((root / "configs").rglob("*.yaml"))
    listed = cli("configs").stdout
    for file in files:
        name = str(file.relative_to(root / "configs").with_suffix(""))
        assert name in listed
        assert cli("configs", "show", name).stdout == file.read_text()
        assert cli("configs", "path", f"configs/{name}.yaml").stdout == f"{file}\n"
