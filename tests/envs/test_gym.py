from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from fakes.masked import GENES, PickGenes
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from perturbrl.envs import make, make_batched, make_vec
from perturbrl.envs.gym import CellEnv, CellVectorEnv
from perturbrl.errors import UserError

from .helpers import TASKS, build, cell_table, config


@pytest.mark.parametrize("name", TASKS)
def test_gymnasiums_checker_passes(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(infinity|alternative render modes).*")
        check_env(make(name, cell_table(), horizon=2))


@pytest.mark.parametrize("name", TASKS)
def test_an_episode_has_the_horizons_length_and_the_right_flag(name):
    for limit in ("terminated", "truncated"):
        env = make(name, cell_table(), horizon=5, time_limit=limit)
        env.action_space.seed(0)
        env.reset(seed=0)
        flags = [env.step(env.action_space.sample())[2:4] for _ in range(5)]
        assert flags == [(False, False)] * 4 + [(limit == "terminated", limit == "truncated")]
        with pytest.raises(UserError, match="call reset"):
            env.step(env.action_space.sample())


@pytest.mark.parametrize("name", TASKS)
def test_one_cell_and_a_vector_of_one_agree(name):
    one, many = (f(name, cell_table(), *n, horizon=4) for f, n in ((make, ()), (make_vec, (1,))))
    one.action_space.seed(0)
    np.testing.assert_array_equal(one.reset(seed=9)[0], many.reset(seed=9)[0][0])
    for _ in range(4):
        action = one.action_space.sample()
        obs, reward, terminated, truncated, _ = one.step(action)
        many_obs, rewards, terminations, truncations, infos = many.step(np.array([action]))
        last = infos["final_obs"][0] if terminated or truncated else many_obs[0]
        np.testing.assert_array_equal(obs, last)
        assert (reward, terminated, truncated) == (rewards[0], terminations[0], truncations[0])
    assert terminated, "the episode ended within the loop"


def test_the_vector_face_resets_in_the_same_step_as_gymnasium_does():
    env = make_vec("paper", cell_table(), 3, horizon=2)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    ours = play(env)
    theirs = play(
        gymnasium.vector.SyncVectorEnv(
            [lambda: make("paper", cell_table(), horizon=2)] * 3, autoreset_mode=AutoresetMode.SAME_STEP
        )
    )
    for t, (one, two) in enumerate(zip(ours, theirs, strict=True)):
        for a, b in zip(one[:4], two[:4], strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert one[4].keys() == two[4].keys()
        if t % 2:
            assert one[4]["_final_obs"].tolist() == two[4]["_final_obs"].tolist() == [True] * 3
            for i in range(3):
                assert one[4]["final_obs"][i].shape == two[4]["final_obs"][i].shape
                assert not np.array_equal(one[4]["final_obs"][i], one[0][i])


def play(env):
    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    assert obs in env.observation_space
    return [env.step(env.action_space.sample()) for _ in range(6)]


def test_gymnasiums_vector_wrappers_work():
    env = RecordEpisodeStatistics(make_vec("paper_discrete", cell_table(), 4, horizon=3))
    infos = [step[4] for step in play(env)]
    np.testing.assert_array_equal(infos[2]["episode"]["l"], [3] * 4)
    assert "episode" not in infos[1]


@pytest.mark.parametrize("factory", [make, lambda *a: make_vec(*a, 2)])
def test_a_seed_fixes_everything_and_another_changes_it(factory):
    env = factory("paper", cell_table())

    def episode(seed):
        obs, _ = env.reset(seed=seed)
        env.action_space.seed(1)
        return np.stack([obs, *(env.step(env.action_space.sample())[0] for _ in range(5))])

    first = episode(4)
    other = episode(5)
    np.testing.assert_array_equal(first, episode(4))
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("factory", [make, lambda *a: make_vec(*a, 2)])
def test_writing_into_an_observation_does_not_change_the_task(factory):
    env, same = factory("paper", cell_table()), factory("paper", cell_table())
    obs, expected = env.reset(seed=0)[0], same.reset(seed=0)[0]
    action = np.zeros(env.action_space.shape, dtype=np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(obs, expected)
        obs[:] = 99.0
        obs, expected = env.step(action)[0], same.step(action)[0]


def test_uniforms_handed_to_reset_choose_the_start():
    env = make_vec("paper", cell_table(), 2)
    u = np.random.default_rng(0).random((2, env.batched.n_uniforms), dtype=np.float32)
    u[1] = u[0]
    obs, _ = env.reset(seed=0, options={"uniforms": u})
    np.testing.assert_array_equal(obs[0], obs[1])
    np.testing.assert_array_equal(env.reset(seed=1, options={"uniforms": u})[0], obs)
    for bad in (u[:1], u + 1, -u, u * np.nan):
        with pytest.raises(UserError, match="uniforms"):
            env.reset(options={"uniforms": bad})
    with pytest.raises(UserError, match="'start' is not known"):
        env.reset(options={"start": 3})


def test_forbidden_actions_stand_in_infos_and_in_action_masks():
    one, many = CellEnv(PickGenes(1, 1)), CellVectorEnv(PickGenes(1, 3))
    assert one.action_masks().all() and one.action_masks().dtype == bool
    obs, info = one.reset(seed=0)
    infos = many.reset(seed=0)[1]
    for step in range(GENES):
        mask = info["action_mask"]
        np.testing.assert_array_equal(mask, obs[GENES:])
        np.testing.assert_array_equal(one.action_masks(), mask)
        assert mask[GENES] == 1 and mask.sum() == (GENES + 1 - step if step < 2 else 1)
        assert mask[one.action_space.sample(mask)] == 1, "gymnasium takes the mask as it is"
        obs, _, terminated, _, info = one.step(mask.argmax())
        np.testing.assert_array_equal(many.action_masks(), infos["action_mask"])
        infos = many.step(infos["action_mask"].argmax(1))[4]
        assert infos["action_mask"].shape == (3, GENES + 1) and infos["_action_mask"].all()
    assert terminated and (infos["action_mask"] == 1).all(), "the vector face has begun the next episode"


def test_a_task_that_forbids_nothing_has_no_mask_in_its_infos():
    env = make("paper_discrete", cell_table())
    assert env.reset(seed=0)[1] == {} and env.step(1)[4] == {}
    assert env.action_masks().tolist() == [True] * 21


def test_maskable_ppo_of_sb3_contrib_trains_on_it_unchanged():
    contrib = pytest.importorskip("sb3_contrib")
    env = CellEnv(PickGenes(1, 1))  # fails at a forbidden action
    model = contrib.MaskablePPO("MlpPolicy", env, n_steps=64, batch_size=32, n_epochs=2, seed=0, device="cpu")
    model.learn(256)
    assert model.num_timesteps == 256


def test_faces_refuse_what_they_cannot_show():
    two_runs = build([config("paper")] * 2, cell_table(), 1)
    for face in (CellEnv, CellVectorEnv):
        with pytest.raises(UserError, match="2 x 1"):
            face(two_runs)
    with pytest.raises(UserError, match="1 x 3"):
        CellEnv(make_batched("paper", cell_table(), 3))


def test_make_binds_the_yaml_and_names_what_is_wrong():
    assert make_batched("paper", cell_table(), 2).horizon == 200
    assert make_batched("paper", cell_table(), 2, horizon=7).horizon == 7
    with pytest.raises(UserError, match=r"env.max_pertub: unknown key.*max_perturb"):
        make("paper", cell_table(), max_pertub=3)
    with pytest.raises(UserError, match="did you mean 'paper'"):
        make("papre", cell_table())
    with pytest.raises(UserError, match=r"env\.horizon"):
        make("paper", cell_table(), horizon="long")


def test_make_uses_training_cells_unless_told():
    table = cell_table(30)
    for cells, allowed in ((None, table.train), (table.test, table.test)):
        env = make_batched("paper", table, 300, cells)
        CellVectorEnv(env).reset(seed=0)
        assert set(env.state()["row"].unique().tolist()) <= set(allowed.tolist())


@pytest.mark.parametrize("name", TASKS)
def test_stable_baselines3_trains_on_it_unchanged(name):
    sb3 = pytest.importorskip("stable_baselines3")
    env = make(name, cell_table(), horizon=20)
    model = sb3.PPO("MlpPolicy", env, n_steps=128, batch_size=64, n_epochs=2, seed=0, device="cpu")
    before = model.policy.state_dict()["action_net.weight"].clone()
    model.learn(256)
    assert model.num_timesteps == 256
    assert not before.equal(model.policy.state_dict()["action_net.weight"])
    assert model.ep_info_buffer[0]["l"] == 20


def test_sb3_contribs_trpo_trains_on_it_unchanged():
    contrib = pytest.importorskip("sb3_contrib")
    model = contrib.TRPO("MlpPolicy", make("paper", cell_table()), n_steps=128, batch_size=64, seed=0, device="cpu")
    model.learn(256)
    assert model.num_timesteps == 256


def test_sb3_checker_and_time_limit():
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    for name in TASKS:
        checker.check_env(make(name, cell_table()), warn=False)
    env = vec_env.DummyVecEnv([lambda: make("paper", cell_table(), horizon=2, time_limit="truncated")])
    env.reset()
    for _ in range(2):
        _, _, done, infos = env.step(np.zeros((1, 7), dtype=np.float32))
    assert done[0] and infos[0]["TimeLimit.truncated"], "Stable-Baselines3 bootstraps at this flag"
