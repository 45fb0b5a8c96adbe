"""The config of a command is composed once, and means what Hydra would make of it."""

import json
from pathlib import Path
from typing import Any

import omegaconf.base
import pytest
import yaml
from omegaconf import OmegaConf
from omegaconf._utils import get_omega_conf_dumper

from ..conftest import BakedProject
from ..support.sweeps import SMALL
from ..support.template_package import Part
from ..support.training_runs import script

COUNT = """
import runpy, sys
from hydra._internal.config_loader_impl import ConfigLoaderImpl
compose, count = ConfigLoaderImpl._load_configuration_impl, []
def composed(*words, **names):
    count.append(1)
    return compose(*words, **names)
ConfigLoaderImpl._load_configuration_impl = composed
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("composed", len(count))
"""

# Composes with Hydra as it is, then in the way of the commands.
COMPARE = """
import json, sys
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
import demo
from workbench.runs.directory import register_resolvers

def described(words):
    with initialize_config_dir(sys.argv[1], version_base="1.3"):
        config = compose("train", words, return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
        groups = {g: loader.get_group_options(g) for g in loader.list_groups("")}
        inner = loader.get_group_options("hydra/sweeper"), loader.list_groups("hydra/sweeper")
    return OmegaConf.to_yaml(config), groups, inner

commands = json.loads(sys.argv[2])
before = [described(words) for words in commands]
register_resolvers()
after = [described(words) for words in commands]
print("same", before == after, len(before[0][1]["model"]), len(set(a for a, _, _ in before)))
"""

# Hydra 1.4 has no `_create_interpolation_map`.
LATER = """
import hydra
from hydra._internal import defaults_list
from hydra._internal.hydra import Hydra
hydra.__version__, get_mode = "1.4.0", Hydra.get_mode
del defaults_list._create_interpolation_map
from workbench.composing import compose_faster
compose_faster()
print("kept", Hydra.get_mode is get_mode)
"""

# Hydra's documentation of defaults lists has an example like this.
REFERRING = """
from pathlib import Path
from hydra import compose, initialize_config_dir
import demo
from workbench.runs.directory import register_resolvers
register_resolvers()
folder = Path("{folder}")
for path, text in {files}.items():
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
with initialize_config_dir(str(folder), version_base="1.3"):
    for words in ([], ["net=large"], ["net=large", "set=b"]):
        print(compose("main", words).width)
"""
FILES = {
    "main.yaml": "defaults:\n  - net: small\n  - set: a\n  - both: ${net}_${set}\n",
    "net/small.yaml": "name: small\n",
    "net/large.yaml": "name: large\n",
    "set/a.yaml": "name: a\n",
    "set/b.yaml": "name: b\n",
    "both/small_a.yaml": "# @package _global_\nwidth: 1\n",
    "both/large_a.yaml": "# @package _global_\nwidth: 2\n",
    "both/large_b.yaml": "# @package _global_\nwidth: 3\n",
}


def test_later_versions_need_not_have_what_is_replaced(demo: BakedProject) -> None:
    """Otherwise no command would start once Hydra renames what is not documented."""
    done = script(demo, "-c", LATER, is_warm=False)
    assert done.stdout == "kept True\n"


def test_composed_configs_are_those_of_hydra(demo: BakedProject) -> None:
    """A config that differs in one value would train another model, without a word."""
    commands = [
        [],
        ["model=cnn", "optimizer.lr=0.5", "+callbacks.x={a:1}", "~callbacks.device"],
        ["experiment=diabetes", "logger=none", "hydra/sweeper/pruner=none"],
        ["debug=limit", "trainer=cpu", "hydra.job.name=other", "logger=[csv,tensorboard]"],
    ]
    configs = str(demo.root / "configs")
    done = script(demo, "-c", COMPARE, configs, json.dumps(commands), is_warm=False)
    same, result, models, kinds = done.stdout.split()
    assert (same, result, int(kinds)) == ("same", "True", len(commands))
    assert int(models) > 1


def test_defaults_may_refer_to_other_choices(demo: BakedProject, tmp_path: Path) -> None:
    """A file may be chosen by what is chosen for other groups."""
    code = REFERRING.format(folder=tmp_path.as_posix(), files=FILES)
    done = script(demo, "-c", code, is_warm=False)
    assert done.stdout.split() == ["1", "2", "3"]


def test_config_is_composed_once(demo: BakedProject, tmp_path: Path) -> None:
    """A second time would cost a sixth of a second at every start."""
    folder = f"hydra.run.dir={tmp_path}/run"
    done = script(demo, "-c", COUNT, "train.py", "model.net.name=cnnn", folder, check=False)
    assert "cnnn" in done.stderr
    assert done.stdout.endswith("composed 1\n")


def test_mistake_is_not_composed_again(demo: BakedProject) -> None:
    """Once with the mistake, and once without it for the name that was meant."""
    done = script(demo, "-c", COUNT, "train.py", "trainer.max_epoch=9", check=False)
    assert "did you mean 'trainer.max_epochs'" in done.stderr
    assert done.stdout.endswith("composed 2\n")


def test_config_can_ask_for_a_sweep(demo: BakedProject, tmp_path: Path) -> None:
    """Hydra sweeps without -m if the config says so."""
    options = ("hydra.mode=MULTIRUN", f"hydra.sweep.dir={tmp_path}", "optimizer.lr=0.1,0.2")
    script(demo, "train.py", *SMALL, *options, "hydra.sweeper.study_name=asked")
    assert (tmp_path / "asked" / "leaderboard.csv").is_file()


def test_option_that_sets_the_mode_is_obeyed(demo: BakedProject, tmp_path: Path) -> None:
    """A config that sweeps by itself can be asked for a single run."""
    options = ("hydra.mode=RUN", f"hydra.run.dir={tmp_path}/run", "trainer.limit_train_batches=1")
    script(demo, "train.py", *SMALL[:1], *options, "trainer.max_epochs=1", "logger=none")
    assert (tmp_path / "run" / "run.json").is_file()


def test_parsed_references_follow_the_config(package: Part) -> None:
    """Only the text of a reference is remembered, never what it resolved to."""
    package("composing").compose_faster()
    parse: Any = vars(omegaconf.base)["parse"]
    config = OmegaConf.create({"a": 1, "b": {"c": "${a}", "d": "${.c} of ${a}"}})
    other = OmegaConf.create({"a": 7, "c": "${a}"})
    assert (config.b.c, config.b.d, other.c) == (1, "1 of 1", 7)
    parsed = parse.cache_info().misses
    config.a = 2
    assert (config.b.c, config.b.d, other.c) == (2, "2 of 2", 7)
    assert parse.cache_info().misses == parsed


# What YAML 1.1 reads as something else than text, and what is hard to write.
TEXTS: tuple[str, ...] = ("1e3", "0x1f", "1_000", "yes", "off", "~", "null", "", "2026-01-01")
TEXTS += (" a", "a ", "- a", "a: b", "# a", "%a", "@a", "`a", "!a", "&a", "*a", "'a'", '"a"')
TEXTS += ("a\tb", "a\nb\n\n  c", "\n", "a\r\nb", "ünï 日本", "\x07", "\u2028", "\ufeff")
TEXTS += ("x" * 200, "word " * 60, "${a.b}", "{a}", "[a]")


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML has no C emitter here")
def test_configs_are_written_as_by_omegaconf(package: Part) -> None:
    """A run is repeated from its config.yaml: a text that became a number would change it."""
    package("composing").compose_faster()
    numbers = [0.1, 1e-5, 1e300, float("inf"), float("nan"), -0.0, 10**30, True, None]
    content = {"texts": list(TEXTS), "numbers": numbers, "empty": [{}, []], 1: {True: {0.5: 2}}}
    content |= {f"key {text}": text for text in TEXTS}
    options: Any = {"default_flow_style": False, "allow_unicode": True, "sort_keys": False}
    expected = yaml.dump(content, Dumper=get_omega_conf_dumper(), **options)
    fast: Any = vars(omegaconf.omegaconf)["get_omega_conf_dumper"]()
    assert issubclass(fast, yaml.CDumper)
    assert yaml.dump(content, Dumper=fast, **options) == expected
    # Written as a code, and read as it was.
    assert OmegaConf.create(OmegaConf.to_yaml({"emoji": "😀"})) == {"emoji": "😀"}
    assert OmegaConf.to_yaml({"lr": "1e3", "name": "on", "path": "a b"}) == (
        "lr: '1e3'\nname: 'on'\npath: a b\n"
    )
