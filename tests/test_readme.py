"""The README names commands that exist, and the check that runs them (``.ci/run``) knows each."""

from __future__ import annotations

from pathlib import Path

import pytest
import readme_commands as readme

TEXT = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def test_every_command_of_the_readme_has_a_rule() -> None:
    found = list(readme.commands(TEXT))
    assert any(c.startswith("make ") for c in found) and any(c.startswith("perturbrl train") for c in found)
    for command in found:
        assert readme.small(command)


def test_commands_are_found_wherever_they_stand() -> None:
    text = """
Type `make help`, or `perturbrl`; see `perturbrl.envs`.
| a | `perturbrl data validate my.h5ad`, then `evaluate` |
```bash
perturbrl train agent=ppo \\
  seed=1     # one run
# nothing
$ make test
```
```python
import perturbrl
perturbrl.train()
```
```python
class Update: ...
```
"""
    assert [" ".join(c.split()) for c in readme.commands(text)] == [
        "make help",
        "perturbrl data validate my.h5ad",
        "perturbrl train agent=ppo seed=1",
        "make test",
        "import perturbrl perturbrl.train()",
    ]


@pytest.mark.parametrize("text", ["`perturbrl fly away`", "```bash\nrm -rf x\n```", "`make tea`", "```\nls\n```"])
def test_an_unknown_command_is_refused(text: str) -> None:
    with pytest.raises(SystemExit, match="README"):
        [readme.rule(command) for command in readme.commands(text)]


def test_sizes_are_cut_and_nothing_else() -> None:
    sweep = readme.small("perturbrl train -m agent=ppo,trpo,trpo_ppo env.max_perturb=4,5,6,7 seed='range(5)'")
    assert sweep.startswith("perturbrl train -m agent=ppo,trpo,trpo_ppo env.max_perturb=4,5 seed='range(2)' ")
    assert readme.small("perturbrl doctor") == "perturbrl doctor"
    assert " --seeds 2 " in readme.small("perturbrl reproduce --seeds 5")
