"""Shell completion: what is offered, from real shells too, and how little is imported for it."""

import os
import shutil
import subprocess
import sys

import pytest

from ladic.cli.main import COMMANDS
from ladic.completion import complete, model_options, options_of, trainer_options

TABLE = {name: command.module for name, command in COMMANDS.items()}


@pytest.mark.parametrize(
    ("line", "some", "none"),
    [
        ("ladic ", {"fit", "caption", "components", "--help"}, {"--model.sampler"}),
        ("ladic sc", {"score"}, {"fit"}),
        ("ladic components ", {"samplers", "image_encoders"}, {"fit"}),
        ("ladic components samplers ", {"DDIMSampler", "RenoiseSampler"}, {"TimmEncoder"}),
        ("ladic configs path ", {"demo", "trainer/gpu"}, set()),
        ("ladic caption --num-", {"--num-candidates", "--num-steps"}, {"--seed"}),
        ("ladic fit --model.samp", {"--model.sampler=DDIMSampler", "--model.sampler.num_steps="}, {"--model.seed"}),
        ("ladic fit --model.sampler=R", {"--model.sampler=RenoiseSampler"}, {"--model.sampler=DDIMSampler"}),
        ("ladic fit --model.image_encoder=TimmEncoder --model.image_encoder.", {"--model.image_encoder.model_name="},
         {"--model.image_encoder.channels="}),
        ("ladic fit --trainer.max_", {"--trainer.max_steps", "--trainer.max_epochs"}, {"--trainer.devices"}),
        ("ladic fit --scale", {"--scale-lr"}, set()),
        ("ladic fit --model.guidance.", {"--model.guidance.scale"}, set()),
        ("ladic fit -c ", set(), {"--help"}),  # file names are the shell's own
        ("ladic nothing ", set(), {"--help"}),
        ("ladic caption 'open quote", set(), {"--help"}),
    ],
)  # fmt: skip
def test_what_may_stand_next(line, some, none):
    found = set(complete(line, TABLE))
    assert some <= found
    assert not none & found
    last = line.split(" ")[-1]
    assert all(word.startswith(last) for word in found) or "'" in line


def test_options_read_from_source_are_the_parsers(cli):
    for name, command in COMMANDS.items():
        if command.module != "lightning_cli":
            shown = cli(name, "--help").stdout
            missing = [option for option in options_of(command.module) if option not in shown]
            # `human` and its like have options of subcommands of their own
            assert not missing or "{" in shown.splitlines()[0], (name, missing)


def test_the_models_and_the_trainers_options_are_those_of_fit(cli):
    text = cli("fit", "--help").stdout
    for option in (*model_options(), *trainer_options()):
        assert option in text, option


def test_it_imports_nothing_heavy(tmp_path):
    probe = (
        "import sys; from ladic.cli.main import main; main(['completion', '--line', 'ladic fit --model.sampler=']);"
        "assert not {'torch', 'lightning', 'numpy', 'jsonargparse'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--model.sampler=DDIMSampler" in done.stdout


@pytest.fixture
def ladic_on_path(tmp_path):
    """PATH with a ``ladic`` of this environment."""
    script = tmp_path / "bin" / "ladic"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ladic "$@"\n')
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ladic comp", ["completion", "components"]),
        ("ladic fit --model.sampler=Ren", ["RenoiseSampler"]),  # bash replaces what follows the last "="
        ("ladic fit -c ", []),
    ],
)
def test_in_bash(ladic_on_path, tmp_path, line, expected):
    script = f"""eval "$(ladic completion bash)"; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _ladic
printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=ladic_on_path, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.split() == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_is_good_grammar(cli, tmp_path, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    file = tmp_path / "script"
    file.write_text(cli("completion", shell).stdout)
    done = subprocess.run([shell, "-n", file], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_wrong_words_are_one_line(cli):
    assert cli("completion").stderr.startswith("error: give one of bash, zsh, fish")
    assert cli("completion", "cmd").code == 2
