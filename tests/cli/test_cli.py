from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from runner.tiny import cli_run

from perturbrl import __version__, cli, paths
from perturbrl.cli import complete, doctor
from perturbrl.runner import conf_tree
from perturbrl.runner.hydra import launch as hydra_job

from . import toy_job

HEAVY = ("torch", "hydra", "omegaconf", "pandas", "numpy", "scanpy", "anndata", "matplotlib", "rich")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the toy job and its configs in the place of training."""
    conf = toy_job.write_conf(tmp_path / "conf")
    monkeypatch.setenv("TOY_CONF", str(conf))
    monkeypatch.setenv("TOY_OUT", str(tmp_path / "out"))
    monkeypatch.setenv("PERTURBRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(paths, "conf_dir", lambda: conf)
    monkeypatch.setitem(sys.modules, "perturbrl.runner.hydra.main", toy_job)
    monkeypatch.chdir(tmp_path)
    toy_job.DONE.clear()
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return cli_run(capsys)


def shell(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "perturbrl", *args]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True, timeout=60)


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from perturbrl import cli
try:
    cli.app(["--help"])
except SystemExit as stop:
    assert not stop.code
loaded = [name for name in {HEAVY!r} if name in sys.modules]
sys.exit(f"loaded: {{loaded}}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "reproduce" in done.stdout


def test_help_answers_in_half_a_second() -> None:
    """Counted in processor seconds, which do not depend on what else the machine does."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert shell("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5


@pytest.mark.parametrize("verb", ["train", "evaluate", "report", "reproduce", "data", "doctor"])
def test_help_lists_every_verb(run: Run, verb: str) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert f"  {verb} " in out


def test_version(run: Run) -> None:
    assert run("--version")[:2] == (0, f"perturbrl {__version__}\n")


def test_unknown_verb_is_a_mistake(run: Run) -> None:
    code, _, err = run("trian")
    assert code == 2
    assert "train" in err


def test_train_runs_one_job(toy: Path, run: Run) -> None:
    assert run("train", "agent=trpo", "seed=3")[0] == 0
    assert toy_job.DONE == [("trpo", 3)]


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "agent=ppo,trpo", "seed=1"),
        ("agent=ppo,trpo", "-m", "seed=1"),
        ("agent=ppo,trpo", "seed=1", "--multirun"),
        ("agent=ppo,trpo", "-m", "--", "seed=1"),
    ],
)
def test_overrides_stand_on_either_side_of_the_sweep_flag(toy: Path, run: Run, words: tuple[str, ...]) -> None:
    code, _, err = run("train", *words)
    assert (code, err) == (0, "")
    assert toy_job.DONE == [("ppo", 1), ("trpo", 1)]


def test_flags_keep_their_values() -> None:
    words = ["agent=ppo", "--cfg", "job", "seed=1", "--info", "seed=2", "-cn", "other", "--info", "plugins"]
    assert hydra_job.flags_first(words) == [
        *("--cfg", "job", "--info", "-cn", "other", "--info", "plugins"),
        *("agent=ppo", "seed=1", "seed=2"),
    ]


def test_cfg_prints_the_job_config(toy: Path, run: Run) -> None:
    code, out, _ = run("train", "agent=trpo", "--cfg", "job", "env.max_perturb=9")
    assert code == 0
    assert "max_perturb: 9" in out and "name: trpo" in out
    assert toy_job.DONE == []


def test_train_help_is_hydras(toy: Path, run: Run) -> None:
    code, out, _ = run("train", "--help")
    assert code == 0
    assert "agent: ppo, trpo, trpo_ppo" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["agent=ppoo"], "error: agent: 'ppoo' is not known (did you mean 'ppo'?); choose ppo, trpo or trpo_ppo"),
        (["-m", "agent=ppo,ppoo"], "error: agent: 'ppoo' is not known (did you mean 'ppo'?)"),
        (["agent=5"], "error: agent: '5' is not known; choose ppo, trpo or trpo_ppo"),
        (["agnet=ppo"], "error: agnet: unknown key (did you mean 'agent'?); valid keys are agent,"),
        (["agnet/sub=ppo"], "error: agnet"),
        (
            ["env.max_pertub=4"],
            "error: env.max_pertub: unknown key (did you mean 'max_perturb'?); valid keys are max_p",
        ),
        (["env.max_perturb.deep=4"], "error: env.max_perturb.deep: unknown key; env.max_perturb is a value"),
        (["agent=trpo", "agent.lr=1"], "error: agent.lr: unknown key; valid keys are max_kl or name"),
        (["~agent.nothing"], "error: agent.nothing: unknown key"),
        (["+seed=1"], "error: seed: the key exists already; leave out the +"),
        (["agent"], "error: 'agent': not an override; write key=value, for example agent=ppo or seed=1"),
        (["seed=[1"], "error: seed: '[1' cannot be read"),
        (["agent=ppo,trpo"], "error: agent: 'ppo,trpo' is several values; to sweep over them add -m"),
        (["seed=range(3)"], "error: seed=range(3): a sweep needs -m"),
        (["needed=???"], "error: needed: a value is required and none was given"),
        (["needed=${nowhere}"], "error: needed: Interpolation key 'nowhere' not found"),
        (["needed=-1", "seed=${refuse:}"], "error: refuse: says no"),
        (["--fast"], "error: train: unrecognized arguments: --fast"),
        (["--cfg", "jobs"], "error: train: argument --cfg/-c: invalid choice: 'jobs'"),
        (["--cfg"], "error: train: argument --cfg/-c: expected one argument"),
        (["--resolve"], "error: --resolve: only together with --cfg"),
        (["-m", "--cfg", "job"], "error: train: choose one of --cfg and --multirun"),
        (["--experimental-rerun", "x.pickle"], "error: --experimental-rerun: not supported"),
        (["-cd", "no/such/folder"], "error: Additional config directory"),
        (["-cn", "other"], "error: config 'other': no such file"),
        (["seed=13"], "error: seed: 13 brings bad luck"),
    ],
)
def test_a_mistake_is_one_line(toy: Path, run: Run, words: list[str], said: str) -> None:
    code, _, err = run("train", *words)
    assert code == 2
    assert err.startswith(said)
    assert err.count("\n") == 1
    assert toy_job.DONE == []
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_a_bug_is_one_line_and_a_log_file(toy: Path, run: Run) -> None:
    code, _, err = run("train", "seed=14")
    assert code == 1
    assert err.startswith("internal error: ZeroDivisionError: deep inside (traceback in ")
    assert err.count("\n") == 1
    (log,) = (toy / "cache" / "logs").iterdir()
    assert str(log) in err
    assert 'raise ZeroDivisionError("deep' in log.read_text()


def test_debug_shows_the_traceback(toy: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERTURBRL_DEBUG", "1")
    code, _, err = run("train", "seed=14")
    assert code == 1
    assert 'raise ZeroDivisionError("deep' in err


def test_an_interrupt_is_one_line(toy: Path, run: Run) -> None:
    assert run("train", "seed=15") == (130, "", "interrupted\n")


def test_a_sweep_goes_on_after_a_failing_job(toy: Path, run: Run) -> None:
    code, _, err = run("train", "-m", "seed=1,13,14,2", "hydra.sweep.subdir=${seed}")
    assert code == 1
    assert toy_job.DONE == [("ppo", 1), ("ppo", 2)]
    lines = err.splitlines()
    assert lines[0] == "error: 2 jobs of the sweep failed:"
    assert "seed=13" in lines[1] and lines[1].endswith(": error: seed: 13 brings bad luck")
    assert "seed=14" in lines[2] and "internal error: ZeroDivisionError" in lines[2]
    assert len(lines) == 3


def test_a_failing_job_of_a_sweep_of_one_still_counts(toy: Path, run: Run) -> None:
    code, _, err = run("train", "-m", "seed=13")
    assert code == 1
    assert err.startswith("error: 1 job of the sweep failed:\n")


def test_plugin_configs_are_choices(toy: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = toy / "plugin"
    (plugin / "conf" / "agent").mkdir(parents=True)
    (plugin / "conf" / "agent" / "mine.yaml").write_text("name: mine\nboldness: 2\n")
    assert run("train", "agent=mine")[0] == 2
    monkeypatch.setenv("PERTURBRL_PLUGINS", str(plugin))
    assert run("train", "agent=mine")[0] == 0
    assert toy_job.DONE == [("mine", 0)]
    assert "agent=mine" in dict(complete.candidates([], "agent=m"))
    assert "agent.boldness=2" in dict(complete.candidates(["agent=mine"], "agent.bo"))


def test_keys_follow_the_choices(toy: Path) -> None:
    roots = conf_tree.conf_dirs()
    assert conf_tree.groups(roots)["agent"] == ["ppo", "trpo", "trpo_ppo"]
    plain = conf_tree.keys(roots)
    assert plain["agent.lr"] == 1e-4 and plain["env.max_perturb"] == 5 and plain["seed"] == 0
    nested = conf_tree.keys(roots, {"agent": "trpo_ppo", "env": "paper_discrete"})
    assert nested["agent.trpo.max_kl"] == 0.02 and nested["agent.ppo.lr"] == 1e-4 and nested["env.max_perturb"] == 3
    assert "agent.lr" not in nested
    assert conf_tree.keys(roots, {"experiment": "smoke"})["budget"] == 10


@pytest.mark.parametrize(
    ("before", "typed", "offered"),
    [
        ([], "age", ["agent=", "agent.lr=", "agent.name=", "agent.normalise="]),
        ([], "agent=", ["agent=ppo", "agent=trpo", "agent=trpo_ppo"]),
        ([], "agent=t", ["agent=trpo", "agent=trpo_ppo"]),
        ([], "agent=ppo,t", ["agent=ppo,trpo", "agent=ppo,trpo_ppo"]),
        (["agent=trpo"], "agent.", ["agent.max_kl=", "agent.name="]),
        ([], "env.max", ["env.max_perturb=", "env.max_perturb=5"]),
        ([], "env.max_perturb=", ["env.max_perturb=5"]),
        ([], "env.steps=", ["env.steps=[1,2]"]),
        ([], "agent.normalise=", ["agent.normalise=true", "agent.normalise=false"]),
        ([], "+experiment=", ["+experiment=smoke"]),
        (["--cfg"], "", ["job", "hydra", "all"]),
        ([], "--m", ["--multirun"]),
        ([], "nothing=", []),
    ],
)
def test_candidates(toy: Path, before: list[str], typed: str, offered: list[str]) -> None:
    found = [value for value, _ in complete.candidates(before, typed) if value.startswith(typed)]
    assert sorted(found) == sorted(offered)


def bash(words: list[str]) -> list[str]:
    done = shell(_PERTURBRL_COMPLETE="complete_bash", COMP_WORDS="\n".join(words), COMP_CWORD=str(len(words) - 1))
    return sorted(done.stdout.split())


def test_bash_completes_verbs() -> None:
    assert bash(["perturbrl", "re"]) == ["report", "reproduce"]


def test_bash_completes_the_rest_of_a_word_that_it_has_broken(root: Path) -> None:
    agents = sorted(file.stem for file in (root / "conf" / "agent").glob("*.yaml"))
    assert bash(["perturbrl", "train", "agent", "="]) == agents
    assert bash(["perturbrl", "train", "agent", "=", "trpo_"]) == [a for a in agents if a.startswith("trpo_")]
    assert bash(["perturbrl", "train", "-m", "seed", "=", "1", "agent", "=", "trpo_p"]) == ["trpo_ppo"]


def test_bash_completes_keys() -> None:
    assert "env.max_perturb=" in bash(["perturbrl", "train", "env.ma"])
    assert bash(["perturbrl", "train", "env", "=", "paper", "env.max_p"])[0] == "env.max_perturb="


def test_zsh_completes_whole_words() -> None:
    done = shell(_PERTURBRL_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="perturbrl train agent=trpo_")
    assert '"agent=trpo_ppo"' in done.stdout
    done = shell(_PERTURBRL_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="perturbrl data ")
    assert all(verb in done.stdout for verb in ("list", "show", "validate"))


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (["p", "train", "a", "=", "x"], (["p", "train", "a=x"], 2, "a=")),
        (["p", "train", "a", "="], (["p", "train", "a="], 2, "a=")),
        (["p", "train", "a", "=", "x", "b", "=", "y"], (["p", "train", "a=x", "b=y"], 3, "b=")),
        (["p", "train", "a", "=", "x", ""], (["p", "train", "a=x", ""], 3, "")),
        (["p", "train"], (["p", "train"], 1, "")),
    ],
)
def test_bash_words(words: list[str], joined: tuple[list[str], int, str]) -> None:
    assert complete.bash_words(words, len(words) - 1) == joined


def test_completion_needs_no_hydra() -> None:
    code = """
import sys
from perturbrl.cli import complete
assert list(complete.candidates([], "agent="))
sys.exit(any(name in sys.modules for name in ("torch", "hydra", "pandas")))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_paths_and_overrides_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    swept = Path("paper=4")
    swept.mkdir()
    words = ["outputs/runs", "outputs/paper,max_perturb=4/ppo", "paper=4", "protocol.n_cells=all", "+a/b@c=1", "out*"]
    assert cli.split_paths(words) == (
        ["outputs/runs", "outputs/paper,max_perturb=4/ppo", "paper=4", "out*"],
        ["protocol.n_cells=all", "+a/b@c=1"],
    )


def test_doctor_needs_what_pyproject_needs(root: Path) -> None:
    import tomllib

    wanted = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {requirement.split(">")[0].split("=")[0].strip() for requirement in wanted}
    assert names == set(doctor.NEEDED)


def test_doctor_passes_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "NEEDED", {"typer": "typer", "numpy": "numpy"})
    assert doctor.examine(tmp_path / "outputs")
    out = capsys.readouterr().out
    assert all(word in out for word in ("python", "data cache", "writable", "GB free", "threads", "device", "plugins"))
    assert not (tmp_path / "outputs").exists()


def test_doctor_finds_what_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.py").write_text("import no_such_module\n")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(doctor, "NEEDED", {"not-there": "not_there"})
    monkeypatch.setenv("PERTURBRL_PLUGINS", str(tmp_path))
    assert not doctor.examine(tmp_path / "file" / "outputs")
    broken = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    assert broken == ["outputs", "plugins", "not-there"]


def test_a_run_leaves_the_warnings_of_readers_on(run: Run) -> None:
    from perturbrl.data.readers import cells

    code, _, _ = run("train", "source.n_cells=0")  # Hydra sets up its logging before the job is refused
    assert code == 2 and not cells._LOG.disabled and cells._LOG.isEnabledFor(logging.WARNING)
