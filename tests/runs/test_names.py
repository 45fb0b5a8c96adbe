"""Names and options: what becomes a folder, what is printed to be copied, what is left out."""

import shlex
import sys
from types import ModuleType
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ..conftest import BakedProject, run_warm
from ..support.modules import project_module


class Commands:
    """What commands of a project mean, composed in this process."""

    def __init__(self, demo: BakedProject, patch: pytest.MonkeyPatch) -> None:
        self.root, self.patch = demo.root, patch
        patch.syspath_prepend(demo.root)
        self.module("runs.directory").register_resolvers()

    def module(self, name: str) -> ModuleType:
        """A module of the package."""
        return project_module("demo", name)

    def config(self, *options: str, script: str = "train") -> Any:
        """The config of a command, references unresolved."""
        self.patch.setattr(sys, "argv", [str(self.root / f"{script}.py"), *options])
        words = [new for word in options for new in self.module("cli")._without_null(word)]
        with initialize_config_dir(str(self.root / "configs"), version_base="1.3"):
            return OmegaConf.to_container(compose(script, words))

    def sentence(self, *options: str) -> str:
        """What is said about a wrong command."""
        with pytest.raises(Exception) as caught:
            self.config(*options)
        sentence = self.module("hydra_errors").explain(caught.value)
        assert isinstance(sentence, str)
        return sentence


@pytest.fixture
def commands(demo: BakedProject, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(demo, monkeypatch)


@pytest.fixture(scope="module")
def shell(demo: BakedProject) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(demo.root)
        return project_module("demo", "shell")


GOOD_NAMES = ["digits", "größe 2", "日本語", "a.b", "x" * 200, "v1,lr=0.1", "👩‍💻", "a.."]
BAD_NAMES: dict[str, tuple[object, str]] = {
    "true": (True, 'must be text, not True: write name=\\"True\\"'),
    "number": (5, "must be text, not 5"),
    "float": (1.5, "must be text, not 1.5"),
    "list": ([1], "must be text"),
    "null": (None, "name is null"),
    "empty": ("", "is empty"),
    "blank": ("  ", "is empty"),
    "slash": ("a/b", "contains a slash"),
    "backslash": ("a\\b", "contains a slash"),
    "quote": ('a"b', "contains a double quote"),
    "parent": ("..", "starts with a dot"),
    "escape": ("../../x", "contains a slash"),
    "hidden": (".x", "starts with a dot"),
    "dash": ("-rf", "starts with a dot, a dash"),
    "space": ("x ", "ends with a space"),
    "newline": ("a\nb", "line break"),
    "escape code": ("a\x1b[31mb", "control character"),
    "zero byte": ("a\0b", "control character"),
    "surrogate": ("a\udcff", "control character"),
    "long": ("x" * 201, "has 201 bytes: use at most 200"),
    # 67 letters of three bytes.
    "long in bytes": ("日" * 67, "has 201 bytes"),
}


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_name_becomes_a_folder(commands: Commands, tmp_path: Any, name: str) -> None:
    directory = commands.module("runs.directory")
    directory.check_name(name)
    (tmp_path / directory.run_id(name)).mkdir()


@pytest.mark.parametrize("case", BAD_NAMES)
def test_name_that_is_no_folder_is_told_in_a_sentence(commands: Commands, case: str) -> None:
    """A TypeError says nothing about the name."""
    name, words = BAD_NAMES[case]
    error = commands.module("errors").UserError
    with pytest.raises(error) as caught:
        commands.module("runs.directory").check_name(name)
    sentence = str(caught.value)
    assert words.replace("\\", "") in sentence.replace("'", "")
    assert "\n" not in sentence
    # What is read from a config is checked as well, whatever made the folder.
    with pytest.raises(error, match="name"):
        commands.module("config_checks").check_values(OmegaConf.create({"name": name}))


@pytest.mark.parametrize("options", [("name=true",), ("name=a/b",), ("-m", "name=null")])
def test_wrong_name_starts_nothing(demo: BakedProject, tmp_path: Any, options: Any) -> None:
    """Neither a training nor a sweep leaves a folder of a name that was refused."""
    command = (str(demo.root / "train.py"), *options, f"paths.log_dir={tmp_path}")
    done = run_warm(*command, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: name ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# Options that are printed


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0$"), max_size=30))
def test_printed_option_is_read_as_it_was(shell: ModuleType, value: str) -> None:
    """A folder with a space, a quote or a bracket in its name must not end the command."""
    (word,) = shlex.split(shell.option("ckpt_path", value))
    assert OverridesParser.create().parse_override(word).value() == value


@given(st.lists(st.text(st.characters(codec="latin-1", exclude_characters="\0$")), max_size=4))
def test_printed_list_is_read_as_it_was(shell: ModuleType, values: list[str]) -> None:
    (word,) = shlex.split(shell.option("data.drop", values))
    assert OverridesParser.create().parse_override(word).value() == values


@pytest.mark.parametrize(
    "value",
    ["null", "true", "False", "5", "1e3", "nan", "-inf", "1_000", "a b", "it's", 'a"b', "a\\"],
)
def test_printed_text_stays_text(shell: ModuleType, value: str) -> None:
    (word,) = shlex.split(shell.option("x", value))
    assert OverridesParser.create().parse_override(word).value() == value


def test_plain_options_are_printed_plainly(shell: ModuleType) -> None:
    path = "logs/train/runs/2026-01-02_x/checkpoints/last.ckpt"
    assert shell.option("ckpt_path", path) == f"ckpt_path={path}"


def test_refused_folder_names_an_option_that_can_be_copied(
    commands: Commands, tmp_path: Any
) -> None:
    """The words after "with" go into a shell, in which they are one option."""
    folder = tmp_path / "my run (2)"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    directory = commands.module("runs.directory")
    with pytest.raises(commands.module("errors").UserError) as caught:
        directory.claim_directory(folder, None, OmegaConf.create({}))
    words = shlex.split(str(caught.value).partition(" with ")[2].rstrip("."))
    value = OverridesParser.create().parse_override(words[0]).value()
    assert (len(words), value) == (1, str(folder / "checkpoints" / "last.ckpt"))


def test_option_that_cannot_be_read_is_shown_as_it_can_be(commands: Commands) -> None:
    sentence = commands.sentence("data.path=my (new) table, 2.csv")
    (word,) = shlex.split(sentence.rpartition("into quotes: ")[2].rstrip("."))
    assert OverridesParser.create().parse_override(word).value() == "my (new) table, 2.csv"


# Options that exist already


def test_plus_before_a_known_option_is_what_is_wrong(commands: Commands) -> None:
    """A suggestion of the same option sends people to look for a difference."""
    assert commands.sentence("+trainer.check_val_every_n_epoch=2") == (
        "trainer.check_val_every_n_epoch exists already: write "
        "trainer.check_val_every_n_epoch=... without the +."
    )
    assert "without the +" in commands.sentence("+seed=3")
    assert commands.sentence("~optimizer.lr=0.5") == (
        "optimizer.lr is 0.002, not 0.5: write ~optimizer.lr to remove it."
    )


@pytest.mark.parametrize(
    "option",
    ["+trainer.max_epochs=1", "~trainer.max_epochs=99", "~trainer.bogus", "trainer.bogus=1", "x=1"],
)
def test_no_option_is_suggested_instead_of_itself(commands: Commands, option: str) -> None:
    key = option.partition("=")[0].lstrip("+~")
    assert f"did you mean '{key}'" not in commands.sentence(option)


# Groups that are left out


@pytest.mark.parametrize(
    ("given", "same"),
    [
        (("experiment=null",), ("~experiment",)),
        (("debug=null",), ()),
        (("search_space=null",), ("search_space=none",)),
        (("logger=null", "callbacks=null"), ("logger=none", "callbacks=none")),
        (("finders=null", "profiler=null"), ("finders=none", "profiler=none")),
        (("hydra/sweeper/pruner=null",), ("hydra/sweeper/pruner=none",)),
        (("ckpt_path=null", "seed=null"), ("ckpt_path=null", "seed=null")),
    ],
)
def test_null_leaves_a_group_out(
    commands: Commands, given: tuple[str, ...], same: tuple[str, ...]
) -> None:
    """`debug: null` stands in configs/train.yaml, so people type it."""
    assert commands.config(*given) == commands.config(*same)


def test_null_for_other_commands(commands: Commands) -> None:
    """evaluate.py has `data: null` itself."""
    options = ("ckpt_path=x",)
    same = commands.config(*options, script="evaluate")
    assert commands.config(*options, "data=null", script="evaluate") == same


def test_null_for_what_cannot_be_left_out_is_told(commands: Commands) -> None:
    config = OmegaConf.create(commands.config("model=null"))
    with pytest.raises(commands.module("errors").UserError, match=r"choose one of configs/model/"):
        commands.module("config_checks").check_complete(config)
