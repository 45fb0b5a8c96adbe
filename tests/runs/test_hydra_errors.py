"""Mistakes in a command or a config: one sentence names the fix, before anything heavy is imported.

A mistake that only the model, the data or a checkpoint reveals is in `test_late_errors.py`.
"""

import zipfile
from pathlib import Path

import pytest

from ..conftest import BakedProject
from ..support.modules import project_module
from ..support.refusals import check_sentence, read_cases, refuse_at_once, words_of

CASES = read_cases(r"""
# Misspelled
train.py optimzer.lr=1 -> 'optimizer.lr'
train.py optimzer=adam -> 'optimizer'
train.py model=cnnn -> 'cnn'
train.py data=imagenet -> data=imagenet
train.py optimizer=Adam -> 'adam'
train.py scheduler=cosin -> 'cosine'
train.py logger=neptune -> tensorboard, wandb
train.py trainer=cuda -> trainer=cuda | gpu
train.py logger=[tensorboard,cvs] -> 'csv'
train.py callbacks=[default,emaa] -> 'ema'
train.py callbacks.early_stoping=null -> 'callbacks.early_stopping'
train.py model/net=cnn -> model/net
train.py experiment=digit -> 'digits'
train.py debug=fats -> 'fast'
train.py colour=red -> 'colour' | optimizer | trainer
train.py data.target=price -> 'data.target'
train.py logger.wandb.project=x -> logger.tensorboard
evaluate.py ckpt_pth=x -> 'ckpt_path'
predict.py outptu=x -> 'output'
train.py lr=0.1 -> 'optimizer.lr'
train.py epochs=3 -> 'trainer.max_epochs'
SWEEP RATES n_trials=5 -> 'hydra.sweeper.n_trials'
train.py +optimzer.lr=1 -> 'optimizer'
train.py --config-name=trian -> 'trian' | 'train'
train.py --config-dir=FILES/lost -> lost | not found
# Against the syntax of Hydra
train.py trainer.max_epochs -> key=value
train.py trainer.max_epochs = 3 -> without spaces
train.py optimizer.lr:0.1 -> key=value
train.py --epochs 3 -> --epochs | key=value | without dashes
train.py -lr=0.1 -> -lr=0.1 | without dashes
predict.py --input . -> --input | without dashes
train.py seed=1 -m optimizer.lr=0.1,0.2 -> optimizer.lr=0.1,0.2 | -m | before
train.py --cfg=jobs -> 'jobs' | --help
train.py callbacks=[default -> close | quotes
train.py "name='my run" -> close | quotes
train.py experiment=csv data.delimiter=; -> 'data.delimiter=";"'
evaluate.py best.ckpt -> ckpt_path= before
train.py model=null -> model | configs/model/
train.py trainer=5 -> model=cnn
train.py data= -> digits
train.py ~model -> model | configs/model/
train.py +data=csv -> data=... | without a +
train.py objective=val/acc -> must be a config group | objective.<option>
train.py optimizer.lr=0.1,0.01 -> add -m
SWEEP RATES hydra.sweeper.workers=1,2 -> hydra.sweeper.workers cannot vary | one value
train.py optimizer.lr=0,01 -> optimizer.lr=0,01 | point
train.py optimizer.lr=${optimzer.rate} -> optimzer.rate
train.py name=${oc.env:NOT_SET} -> 'NOT_SET'
predict.py -m input=a,b ckpt_path=x -> remove -m
# Missing
evaluate.py -> ckpt_path=...
train.py experiment=csv -> data.path
# Invalid values
train.py data.batch_size=0 -> data.batch_size | at least 1
train.py data.batch_size=32.5 -> integer | 32.5
predict.py ckpt_path=FILES/empty.zip input=. batch_size=-1 -> batch_size | -1
train.py seed=-1 -> seed | from 0
train.py seed=abc -> seed | integer
evaluate.py ckpt_path=FILES/empty.zip seed=x -> seed | 'x'
train.py optimizer.lr=abc -> optimizer.lr | 'abc'
train.py optimizer.lr=-1 -> optimizer.lr | at least 0 | -1
train.py optimizer.lr= -> optimizer.lr | ''
train.py optimizer.lr=inf -> optimizer.lr | inf
train.py optimizer.lr=[1,2] -> optimizer.lr | [1, 2]
train.py optimizer.weight_decay=-1 -> optimizer.weight_decay | at least 0
train.py scheduler.warmup=2 -> warmup | at most 1
train.py scheduler=step scheduler.every=0 -> scheduler.every | at least 1
train.py trainer.max_epochs=abc -> trainer.max_epochs | integer
train.py trainer.max_epochs=1.5 -> trainer.max_epochs | integer
train.py trainer.max_epochs=-5 -> trainer.max_epochs | -5
train.py trainer.accumulate_grad_batches=0 -> trainer.accumulate_grad_batches | at least 1
train.py trainer.check_val_every_n_epoch=0 -> trainer.check_val_every_n_epoch | at least 1
train.py trainer.val_check_interval=0 -> trainer.val_check_interval | above 0
train.py trainer.limit_train_batches=0 -> trainer.limit_train_batches | above 0
train.py trainer.gradient_clip_val=-1 -> trainer.gradient_clip_val | at least 0
train.py callbacks.early_stopping.patience=-1 -> callbacks.early_stopping.patience | -1
train.py data.val_fraction=80 -> data.val_fraction | below 1
train.py objective.mode=maximum -> objective.mode | min or max
train.py compile=maybe -> compile | true or false
train.py test=yes -> test | true or false
evaluate.py ckpt_path=FILES/empty.zip split=train -> val or test
evaluate.py ckpt_path=FILES/empty.zip analyses=confusoin -> 'confusion'
# Config files
CONFIGS optimizer=tab -> tab.yaml | line 3
CONFIGS optimizer=twice -> twice.yaml | duplicate key name
CONFIGS optimizer=list -> configs/optimizer/
CONFIGS experiment=no_package -> no_package.yaml | @package _global_
CONFIGS experiment=no_group -> no_group.yaml | 'modle' | 'model'
CONFIGS experiment=no_override -> model | override /model
train.py experiment=FILES/tab.yaml -> tab.yaml | line 3
train.py experiment=FILES/key.yaml -> 'optimzer' | 'optimizer'
train.py experiment=FILES/number.yaml -> trainer
train.py experiment=FILES/lost.yaml -> lost.yaml | configs/experiment/
# Not on this machine
train.py logger=wandb -> wandb | --extra wandb
train.py logger=[tensorboard,mlflow] -> mlflow | --extra mlflow
# Files
evaluate.py ckpt_path=FILES/cut.ckp -> cut.ckp | cut.ckpt.
evaluate.py ckpt_path=FILES -> no checkpoint | .ckpt.
train.py ckpt_path=true -> ckpt_path | path
train.py ckpt_path=FILES/cut.ckpt -> truncated
evaluate.py ckpt_path=FILES/empty.csv -> truncated
predict.py ckpt_path=FILES/tab.yaml input=. -> tab.yaml | another file
train.py TABLE/lost.csv data.target=x -> lost.csv
train.py experiment=image_folder data.path=FILES/lost -> lost
predict.py ckpt_path=FILES/empty.zip input=FILES/lost -> input | lost
# Folders
train.py hydra.run.dir=FILES/empty.csv/run -> cannot be written | paths.log_dir
train.py paths.log_dir=FILES/empty.csv -> cannot be written | paths.log_dir
SWEEP optimizer.lr=0.1,0.2 hydra.sweep.dir=FILES/empty.csv -> cannot be written | hydra.sweep.dir
train.py name=a/b -> 'a/b' | slash
runs.py FILES/lost -> lost | train first
runs.py FILES/empty.csv -> empty.csv | no folder
runs.py --srot test -> --srot | --help
runs.py a b -> b | --help
runs.py FILES/runs --sort tset -> 'tset' | test
# How a sweep runs
SWEEP RATES hydra.sweeper.n_trials=1.5 -> n_trials | 1.5
SWEEP RATES hydra/sweeper=ax hydra/sweeper/pruner=promote -> promote | needs hydra/sweeper=optuna
SWEEP RATES hydra/sweeper/pruner=promote hydra.sweeper.pruner.factor=1 -> factor | at least 2
SWEEP RATES hydra/sweeper/pruner=promote +hydra.sweeper.pruner.min_epoch=2 -> 'min_epochs'
SWEEP RATES hydra.sweeper.workers=0 -> workers | at least 1
SWEEP RATES hydra.sweeper.seeds=0 -> seeds | at least 1
SWEEP RATES hydra.sweeper.gpus_per_trial=half -> gpus_per_trial | 'half'
SWEEP RATES hydra.sweeper.gpus=0 -> gpus | [0,1]
SWEEP RATES hydra.sweeper.cpus_per_trial=0 -> cpus_per_trial
SWEEP RATES hydra.sweeper.timeout=1h -> timeout | seconds
SWEEP RATES hydra.sweeper.max_retries=-1 -> max_retries
SWEEP RATES hydra.sweeper.address=auto -> workers=ray
SWEEP RATES hydra.sweeper.study_name=a/b -> study_name
SWEEP RATES hydra.sweeper.more_objectives=parameters -> more_objectives | {parameters:min}
SWEEP RATES hydra.sweeper.limits=3 -> limits | {parameters:
SWEEP RATES hydra.sweeper.enqueue=[{optimizer.lrr:0.01}] -> optimizer.lrr | 'optimizer.lr'
SWEEP RATES hydra.sweeper.enqueue=FILES/latin.csv -> latin.csv | UTF-8
SWEEP RATES hydra.sweeper.enqueue=FILES/empty.csv -> empty.csv | no rows
SWEEP RATES hydra/sweeper=tpe -> ax, optuna
SWEEP RATES hydra.sweeper=ax -> hydra/sweeper=ax
SWEEP RATES hydra/sweeper/sampler=randm -> 'random'
SWEEP RATES hydra.sweeper.pruner=medin -> 'median'
SWEEP RATES data.batch_size=0 -> data.batch_size
SWEEP data.batch_size=32,64,0 -> data.batch_size | not 0
SWEEP seed=1,x -> seed | 'x'
SWEEP RATES logger=wandb -> --extra wandb
# What a sweep varies
SWEEP optimizer.lr=tag(log,interval(0,1)) -> logarithmic | above 0
SWEEP optimizer.lr=choice() -> choice()
SWEEP data.batch_size=range(5,1) -> empty
SWEEP data.batch_size=range(1,5,0) -> step
SWEEP optimizer.lr=interval(1) -> interval(1)
SWEEP optimizer.lr=interval(a,b) -> interval(a,b)
SWEEP optimizer.lr=tag(lgo,interval(0.1,1)) -> 'lgo' | log
SWEEP optimizer.lr=loguniform(0.1,1) -> loguniform | tag(log,interval
SWEEP model=glob(x*) -> matches no choice
SWEEP optimizer.lr=0.1 -> No option varies
CONFIGS -m search_space=no_package -> @package hydra.sweeper.search_space
CONFIGS -m search_space=nested -> unknown key 'lr' | optimizer.lr: choice
CONFIGS -m search_space=number -> a single value | interval(low,high)
CONFIGS -m search_space=condition -> 'wehn' | 'when'
CONFIGS -m search_space=on_nothing -> optimizer.nme | does not vary
CONFIGS -m search_space=circle -> depend on each other
CONFIGS -m search_space=tab -> tab.yaml
""")

# Broken files that people have, or have in their configs/.
FILES = {
    "empty.csv": "",
    "latin.csv": "optimizer.lr,note\n0.01,für später\n",
    "runs/a/run.json": '{"status": "finished"}',
    "tab.yaml": "# @package _global_\ntrainer:\n\tmax_epochs: 3\n",
    "key.yaml": "optimzer:\n  lr: 0.1\n",
    "number.yaml": "trainer: 5\n",
    "configs/optimizer/tab.yaml": "# As Adam.\nname: Adam\n\tlr: 0.1\n",
    "configs/optimizer/twice.yaml": "name: Adam\nname: SGD\n",
    "configs/optimizer/list.yaml": "- Adam\n",
    "configs/experiment/no_package.yaml": "defaults:\n  - override /model: mlp\n",
    "configs/experiment/no_group.yaml": (
        "# @package _global_\ndefaults:\n  - override /modle: mlp\n"
    ),
    "configs/experiment/no_override.yaml": "# @package _global_\ndefaults:\n  - /model: mlp\n",
    "configs/search_space/no_package.yaml": "optimizer.lr: interval(0.1, 0.2)\n",
}
SPACES = {
    "nested": "optimizer:\n  lr: interval(0.1, 0.2)\n",
    "number": "optimizer.lr: 0.1\n",
    "condition": "optimizer.lr: {space: 'choice(1,2)', wehn: model=cnn}\n",
    "on_nothing": "optimizer.lr: {space: 'choice(1,2)', when: optimizer.nme=Adam}\n",
    "circle": "a: {space: 'choice(1,2)', when: b=1}\nb: {space: 'choice(1,2)', when: a=1}\n",
    "tab": "optimizer.lr:\n\t- 1\n",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the commands: nothing has to be trained for them."""
    folder = tmp_path_factory.mktemp("files")
    spaces = {f"configs/search_space/{name}.yaml": text for name, text in SPACES.items()}
    header = "# @package hydra.sweeper.search_space\n"
    for name, text in (FILES | {name: header + text for name, text in spaces.items()}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "latin-1" if name == "latin.csv" else "utf-8")
    with zipfile.ZipFile(folder / "empty.zip", "w") as file:
        file.writestr("data", "0" * 1000)
    content = (folder / "empty.zip").read_bytes()
    (folder / "cut.ckpt").write_bytes(content[: len(content) // 2])
    return folder


@pytest.mark.parametrize("command", CASES)
def test_mistake_is_reported_at_once(
    demo: BakedProject, files: Path, tmp_path: Path, command: str
) -> None:
    """People mistype a name more than once: no folder is made, and no torch is imported."""
    words = words_of(command, FILES=files)
    if words[0] != "runs.py" and not any(word.startswith("paths.log_dir=") for word in words):
        words.append(f"paths.log_dir={tmp_path}/logs")
    before = set(demo.root.iterdir())
    done = refuse_at_once(demo, *words)
    check_sentence(done, CASES[command], files)
    assert not done.stdout
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]
    assert not list(tmp_path.glob("logs/*/runs/*"))
    assert not list(tmp_path.glob("logs/*/sweeps/*"))
    assert {path.name for path in set(demo.root.iterdir()) - before} <= {"__pycache__"}


@pytest.mark.parametrize("script", ["sweep", "train"])
def test_scripts_of_clusters_want_one(demo: BakedProject, script: str) -> None:
    """Without SLURM, the script for clusters says so instead of failing to find srun."""
    command = ("/bin/bash", f"scripts/{script}.sbatch", "experiment=digits")
    done = demo.run(*command, check=False, PATH="/nowhere")
    check_sentence(done, ["srun", "sbatch", "SLURM"], demo.root)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"metrics": []}', '{"config": {"objective": null}}', '{"git": 3}'],
)
def test_broken_manifest_does_not_hide_the_other_runs(
    demo: BakedProject, sweeps_package: object, tmp_path: Path, content: str
) -> None:
    """One run.json that was edited by hand must not cost the table of all runs."""
    for name, text in (("a", content), ("b", '{"status": "finished"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    rows = project_module("demo", "runs.table").collect_rows(tmp_path)
    assert {row["run"]: row["status"] for row in rows} == {"a": "unreadable", "b": "finished"}
