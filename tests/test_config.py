from __future__ import annotations

import dataclasses
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from perturbrl import config as config_module
from perturbrl import paths, registry
from perturbrl.config import bind, choice, fingerprint, require
from perturbrl.errors import UserError, one_of


@dataclass(frozen=True)
class Inner:
    rate: float
    names: list[str]


@dataclass(frozen=True)
class Outer:
    count: int
    flag: bool
    limit: float | None
    inner: Inner
    free: dict[str, int]


GOOD = {"count": 3, "flag": True, "limit": None, "inner": {"rate": 0.5, "names": ["a"]}, "free": {"x": 1}}


def changed(**changes: object) -> dict:
    return {**GOOD, **changes}


@pytest.mark.parametrize("as_node", [False, True])
def test_bind_makes_nested_frozen_objects_of_the_right_types(as_node: bool) -> None:
    bound = bind(Outer, OmegaConf.create(GOOD) if as_node else GOOD, "outer")
    assert bound == Outer(3, True, None, Inner(0.5, ["a"]), {"x": 1})
    assert isinstance(bound.inner, Inner)
    with pytest.raises(dataclasses.FrozenInstanceError):
        bound.count = 4  # type: ignore[misc]


def test_bind_turns_what_yaml_writes_into_the_type_asked_for() -> None:
    bound = bind(Outer, changed(limit="1e-4", inner={"rate": 1, "names": []}), "outer")
    assert bound.limit == 1e-4 and isinstance(bound.limit, float)
    assert bound.inner.rate == 1.0 and isinstance(bound.inner.rate, float)


def test_bind_resolves_references() -> None:
    node = OmegaConf.create({"budget": 7, "outer": changed(count="${budget}")})
    assert bind(Outer, node.outer, "outer").count == 7


def test_a_field_of_any_type_takes_what_it_is_given() -> None:
    @dataclass(frozen=True)
    class Holder:
        inside: Any

    inner = Inner(1.0, [])
    assert bind(Holder, {"inside": inner}, "holder").inside is inner


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            changed(cuont=1),
            "outer.cuont: unknown key (did you mean 'count'?); valid keys are count, flag, free, inner or limit",
        ),
        ({k: v for k, v in GOOD.items() if k != "flag"}, "outer.flag: a value is required and none was given"),
        (changed(count="???"), "outer.count: a value is required and none was given"),
        (changed(count="many"), "outer.count: 'many' is not a valid int"),
        (changed(count=1.5), "outer.count: 1.5 is not a valid int"),
        (changed(count=None), "outer.count: None is not a valid int"),
        (changed(flag="perhaps"), "outer.flag: 'perhaps' is not a valid bool"),
        (changed(limit="low"), "outer.limit: 'low' is not a valid float | None"),
        (changed(inner={"rate": 1.0}), "outer.inner.names: a value is required and none was given"),
        (changed(inner={"rate": "x", "names": []}), "outer.inner.rate: 'x' is not a valid float"),
        (
            changed(inner={"rate": 1.0, "names": [], "nmaes": []}),
            "outer.inner.nmaes: unknown key (did you mean 'names'?)",
        ),
        (changed(inner=3), "outer.inner: expected a group of keys, got 3"),
        (None, "outer: expected a group of keys, got None"),
        ([1], "outer: expected a group of keys, got [1]"),
    ],
)
def test_bind_says_in_one_line_where_and_what_is_wrong(values: object, message: str) -> None:
    with pytest.raises(UserError) as error:
        bind(Outer, values, "outer")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_choice_gives_the_value_or_lists_the_choices() -> None:
    assert choice("ppo", ("ppo", "trpo"), "agent") == "ppo"
    with pytest.raises(UserError, match=r"^agent: 'tpro' is not known \(did you mean 'trpo'\?\); choose ppo or trpo$"):
        choice("tpro", {"ppo": 1, "trpo": 2}, "agent")
    with pytest.raises(UserError, match=r"^agent: 'zzz' is not known; choose ppo or trpo$"):
        choice("zzz", {"trpo", "ppo"}, "agent")


def test_require_raises_only_where_the_condition_fails() -> None:
    require(True, "a.b", "never")
    with pytest.raises(UserError, match=r"^a\.b: too small$"):
        require(False, "a.b", "too small")


def test_messages_are_one_line_and_lists_read_as_prose() -> None:
    assert str(UserError("two\n   lines")) == "two lines"
    assert [one_of(c) for c in ([], ["a"], {"b", "a"}, ("c", "a", "b"))] == ["", "a", "a or b", "a, b or c"]


json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=3), lambda x: st.lists(x, max_size=3)
)


@given(st.dictionaries(st.text("abcd", min_size=1, max_size=2), json, min_size=2))
def test_fingerprint_ignores_order_and_named_keys_and_nothing_else(values: dict) -> None:
    whole = fingerprint(values)
    assert len(whole) == 64
    assert whole == fingerprint(dict(reversed(values.items()))) == fingerprint(OmegaConf.create(values))
    first = next(iter(values))
    assert fingerprint({**values, first: "another"}) != whole
    assert fingerprint({k: v for k, v in values.items() if k != first}) == fingerprint(values, (first,)) != whole


def test_fingerprint_sees_resolved_values() -> None:
    node = OmegaConf.create({"a": 1, "b": "${a}"})
    assert fingerprint(node) == fingerprint({"a": 1, "b": 1})


@pytest.fixture
def fresh() -> registry.Registry:
    return registry.Registry("thing")


def test_a_registry_binds_the_schema_that_the_name_asks_for(fresh: registry.Registry) -> None:
    @dataclass(frozen=True)
    class Config:
        name: str
        size: int

    @fresh.register("one", Config)
    def build(config: Config) -> int:
        return config.size

    assert list(fresh) == ["one"] and len(fresh) == 1 and fresh["one"].build is build
    config = fresh.bind({"name": "one", "size": 3})
    assert config == Config("one", 3) and fresh["one"].build(config) == 3
    with pytest.raises(UserError, match=r"^thing.name: 'won' is not known \(did you mean 'one'\?\); choose one$"):
        fresh.bind({"name": "won"})
    with pytest.raises(UserError, match=r"^thing.siz: unknown key"):
        fresh.bind({"name": "one", "siz": 3})
    with pytest.raises(UserError, match=r"^thing.name: 'None' is not known"):
        fresh.bind({"size": 3})


def test_a_name_belongs_to_one_module(fresh: registry.Registry) -> None:
    def build() -> None: ...

    def other() -> None: ...

    other.__module__ = "elsewhere"
    fresh.register("one", Inner)(build)
    fresh.register("one", Inner)(build)  # a module that is loaded again is no conflict
    with pytest.raises(UserError, match=r"^thing=one is registered twice: by .*test_config and elsewhere$"):
        fresh.register("one", Inner)(other)


PLUGIN = """
from dataclasses import dataclass
from perturbrl import registry

@dataclass(frozen=True)
class Config:
    name: str
    shift: float

@registry.metrics.register("{name}", Config)
def build(config):
    return lambda truth, prediction: (prediction - truth).mean(0) + config.shift
"""


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> registry.Registry:
    """The registry of metrics, put back after the test."""
    monkeypatch.setattr(registry.metrics, "_entries", dict(registry.metrics._entries))
    return registry.metrics


def test_a_plugin_in_a_folder_is_one_file_and_one_yaml(tmp_path: Path, metrics, monkeypatch) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        folder.mkdir()
        (folder / f"plugin_{folder.name}.py").write_text(PLUGIN.format(name=f"bias_{folder.name}"))
    (a / "conf" / "metric").mkdir(parents=True)
    (a / "conf" / "metric" / "bias_a.yaml").write_text("name: bias_a\nshift: 1.0\n")
    monkeypatch.setenv("PERTURBRL_PLUGINS", f"{a}:{b}")
    registry.load_plugins()
    registry.load_plugins()  # twice is once
    assert {"bias_a", "bias_b"} <= set(metrics)
    assert registry.plugin_conf_dirs()[:1] == [a / "conf"]
    assert b / "conf" not in registry.plugin_conf_dirs()
    config = metrics.bind(OmegaConf.load(a / "conf" / "metric" / "bias_a.yaml"))
    found = metrics["bias_a"].build(config)(np.zeros((2, 3)), np.ones((2, 3)))
    assert found.tolist() == [2.0, 2.0, 2.0]


def test_a_plugin_that_does_not_import_is_named_with_its_error(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "broken_plugin.py"
    file.write_text("raise ValueError('no such luck')\n")
    monkeypatch.setenv("PERTURBRL_PLUGINS", str(tmp_path))
    for _ in range(2):  # a failed import leaves nothing behind that would pass for imported
        with pytest.raises(
            UserError, match=r"broken_plugin\.py: the plugin does not import: ValueError: no such luck$"
        ):
            registry.load_plugins()


def test_a_plugin_folder_that_is_not_there_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PERTURBRL_PLUGINS", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"^PERTURBRL_PLUGINS: .*nowhere is not a folder$"):
        registry.load_plugins()


def test_a_folder_of_plugin_folders_is_no_plugin_folder(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("PERTURBRL_PLUGINS", str(tmp_path))
    with pytest.raises(
        UserError, match=r"^PERTURBRL_PLUGINS: .* no \.py file and no conf folder; name the folder of a"
    ):
        registry.load_plugins()
    (tmp_path / "mine" / "plugin_mine.py").write_text("raise AssertionError('not asked for')")
    with pytest.raises(UserError, match=r"name the folders in it instead: .*/mine$"):
        registry.load_plugins()
    (tmp_path / "conf").mkdir()  # configs alone are a plugin
    registry.load_plugins()


def test_without_the_variable_there_are_no_plugins(monkeypatch) -> None:
    monkeypatch.delenv("PERTURBRL_PLUGINS", raising=False)
    before = {kind: set(getattr(registry, kind)) for kind in ("sources", "encoders", "envs", "agents", "metrics")}
    registry.load_plugins()
    assert before == {kind: set(getattr(registry, kind)) for kind in before}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> registry.Registry:
    """A registry whose home has the modules ``fast``, ``other`` and ``slow/thing``, of which each notes its import."""
    package = tmp_path / "home_of_things"
    for name in ("fast", "other", "slow/__init__", "slow/aside", "slow/thing"):
        file = package / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        entry = {"fast": "fast", "other": "strange", "slow/thing": "slow"}.get(name)
        register = f"registry.register({entry!r}, dict)(lambda: None)" if entry else ""
        file.write_text(f"from sys import modules\nregistry = modules['the_registry'].things\n{register}\n")
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    things = registry.Registry("thing", "home_of_things")
    holder = types.ModuleType("the_registry")
    holder.things = things
    monkeypatch.setitem(sys.modules, "the_registry", holder)
    yield things
    for name in [name for name in sys.modules if name.startswith("home_of_things")]:
        del sys.modules[name]


def imported() -> set[str]:
    return {name.partition(".")[2] for name in sys.modules if name.startswith("home_of_things.")}


def test_an_entry_is_found_in_the_module_of_its_name_and_no_other_is_imported(home: registry.Registry) -> None:
    assert home["fast"].name == "fast" and imported() == {"fast"}
    assert "slow" in home and imported() == {"fast", "slow", "slow.thing"}  # of a package first the module of the kind


def test_an_entry_of_a_module_of_another_name_is_found_by_search(home: registry.Registry) -> None:
    assert home["strange"].name == "strange"
    assert set(home) == {"fast", "slow", "strange"} and len(home) == 3


def test_an_unknown_name_lists_all(home: registry.Registry) -> None:
    with pytest.raises(UserError, match="thing.name: 'slo' is not known .* choose fast, slow or strange"):
        home.bind(OmegaConf.create({"name": "slo"}))


def test_a_plugin_cannot_take_a_name_of_the_package() -> None:
    def build() -> None: ...

    for registered, name in ((registry.agents, "ppo"), (registry.sources, "kang18"), (registry.envs, "paper_discrete")):
        with pytest.raises(UserError, match=rf"={name} is registered twice: by perturbrl\..* and .*test_config$"):
            registered.register(name, Inner)(build)


@pytest.mark.parametrize("kind", ["sources", "encoders", "envs", "agents", "protocols", "splits", "baselines"])
def test_every_choice_of_the_package_is_registered(kind: str) -> None:
    known = getattr(registry, kind)
    files = {file.stem for file in (paths.conf_dir() / known.kind).glob("*.yaml")}
    assert files == {name for name in known if known[name].build.__module__.startswith("perturbrl.")}
    assert all(known.defaults(name)[known.key] == name for name in files)


@dataclass(frozen=True)
class Each:
    integer: int
    real: float
    text: str
    flag: bool
    maybe: int | None
    words: list[str]


@given(
    st.sampled_from([f.name for f in dataclasses.fields(Each)]),
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text(max_size=3), max_size=2)
    ),
)
def test_a_value_that_needs_no_conversion_is_what_omegaconf_makes_of_it(key: str, value: Any) -> None:
    values = {"integer": 1, "real": 0.5, "text": "a", "flag": False, "maybe": None, "words": []} | {key: value}

    def bound() -> tuple[str, str]:
        try:
            made = getattr(bind(Each, values, "each"), key)
        except UserError as error:
            return "UserError", str(error)
        return type(made).__name__, repr(made)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config_module, "_fits", lambda *_: False)
        converted = bound()
    assert bound() == converted
