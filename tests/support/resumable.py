"""Small runs of every kind, to be cut and resumed."""

from pgrun.run import checkpoint
from pgrun.run.run import Run

SMALL = ("network.hidden=[16]", "eval.episodes=2", "eval.final_episodes=2", "checkpoint.keep=100", "log.every=64")


ON_POLICY = (*SMALL, "num_envs=4", "total_steps=640", "checkpoint.every=128", "eval.every=160")


PPO = (*ON_POLICY, "algo.rollout=32", "algo.minibatch=64", "algo.epochs=2")


SAC = (
    *("algo=sac", *SMALL, "num_envs=2", "total_steps=160", "memory.warmup=64", "memory.capacity=100"),
    *("memory.batch_size=16", "checkpoint.every=24", "eval.every=56"),
)


RUNS = {
    "reinforce": ("algo=reinforce", *ON_POLICY),
    "reinforce with a baseline": ("algo=reinforce", "algo/baseline=value", *ON_POLICY),
    "a2c": ("algo=a2c", *ON_POLICY),
    "online actor-critic": ("algo=actor_critic", *ON_POLICY, "algo.rollout=1", "algo.discount_states=true"),
    "actor-critic with q": ("algo=actor_critic", "algo/advantage=q", "network=gru", "network.size=8", *ON_POLICY[1:]),
    "a2c with v-trace and older rollouts": (
        *("algo=a2c", *ON_POLICY, "algo/advantage=vtrace", "memory=trajectories", "memory.capacity=3"),
        *("memory.warmup=64", "memory.replay_ratio=1"),
    ),
    "a2c with a sum": (
        *("algo=a2c", *ON_POLICY, "env=pendulum", "env.max_episode_steps=50", "algo/advantage=mixture"),
        *("algo.advantage.weights.td=-0.5", "algo.advantage.weights.vtrace=1", "algo.advantage.weights.a=0.7"),
    ),
    "ppo with q of numbers": (*PPO, "env=pendulum", "env.max_episode_steps=50", "algo/advantage=q", "network=gru"),
    "ppo on tensors": (*PPO, "env=acrobot", "env.backend=tensor", "env.max_episode_steps=60"),
    "vpg": ("algo=vpg", *ON_POLICY, "algo.rollout=32"),
    "npg": ("algo=npg", *ON_POLICY, "algo.rollout=32", "algo.fisher_rows=64", "network.normalize_obs=true"),
    "trpo": (
        "algo=trpo",
        *ON_POLICY,
        "algo.rollout=32",
        "algo/critic_fit=trust_region",
        "env=acrobot",
        "env.max_episode_steps=60",
    ),
    "ppo": PPO,
    "ppo of a squashed Gaussian": (*PPO, "env=pendulum", "network.std=state", "network.squash=true"),
    "ppo with a matrix of noise": (
        *(*PPO, "env=pendulum", "env.max_episode_steps=30", "network.std=sde", "network.layer_norm=true"),
        "network.sde_sample_freq=20",
    ),
    "ppo normalised": (
        *PPO,
        "network.normalize_obs=true",
        "algo.normalize_reward=true",
        "optimizer.schedule=linear",
        "algo.clip_schedule=linear",
    ),
    "ppo by schedules": (
        *(*PPO, "algo.clip_range=cosine:0.3:0.1", "algo.entropy_coef=linear:0.01:0", "algo.value_clip=linear:0.3:0.1"),
        *("algo.critic_lr=linear:1e-3:1e-4", "algo.kl_stop=0.02", "algo.clip_high=0.3"),
    ),
    "sac_v1 by schedules": (
        *(*SAC, "algo=sac_v1", "env=pendulum", "env.max_episode_steps=30"),
        *("algo.temperature=linear:1:0.2", "optimizer.lr=cosine:1e-3:1e-4"),
    ),
    "ppo with a memory": (*PPO, "network=lstm", "network.size=8", "network.shared=true"),
    "a2c with two memories": ("algo=a2c", *ON_POLICY, "network=gru", "network.size=8"),
    "ppo in processes": (*PPO, "env.backend=async", "num_envs=2", "checkpoint.every=256"),
    "ppo next step": (*PPO, "env.backend=sync", "env.autoreset=next_step"),
    "ppo pendulum": (*PPO, "env=pendulum", "env.max_episode_steps=50"),
    "ppo ant": (*PPO, "env=ant", "env.max_episode_steps=60", "eval.every=320", "checkpoint.every=256"),
    "ppo halfcheetah": (*PPO, "env=halfcheetah", "env.max_episode_steps=60", "eval.every=320", "checkpoint.every=256"),
    "acer": ("algo=acer", *ON_POLICY, "memory.warmup=64", "memory.capacity=4"),
    "acer with hard copies": (
        *("algo=acer", *ON_POLICY, "memory.warmup=64", "memory.capacity=4"),
        *("algo.average_decay=null", "algo.target_every=5"),
    ),
    "acer pendulum": ("algo=acer", *ON_POLICY, "memory.warmup=64", "env=pendulum", "env.max_episode_steps=50"),
    "acktr": ("algo=acktr", *ON_POLICY, "algo.rollout=8", "optimizer.factor_every=2", "optimizer.inverse_every=3"),
    "ppo with kfac": (*PPO, "optimizer=kfac", "env=pendulum", "env.max_episode_steps=50"),
    "mdpo": (*PPO, "algo=mdpo", "env=pendulum", "env.max_episode_steps=50"),
    "vmpo": (*PPO, "algo=vmpo", "env=pendulum", "env.max_episode_steps=50"),
    "mdpo_offpolicy": (*SAC, "algo=mdpo_offpolicy", "env=pendulum", "env.max_episode_steps=30", "algo.mirror_every=7"),
    "offpolicy_pg": ("algo=offpolicy_pg", *ON_POLICY, "algo.rollout=32", "algo.discount_states=true"),
    "offpolicy_pg episodes": ("algo=offpolicy_pg", *ON_POLICY, "collector=episodes", "algo.weights=trajectory"),
    "gps": ("algo=gps", *ON_POLICY, "env=sparse_reach", "env.max_episode_steps=20", "algo.epochs=2"),
    "td3": (*SAC, "algo=td3", "env=pendulum", "env.max_episode_steps=30"),
    "td3 in bfloat16": (
        *(*SAC, "algo=td3", "env=pendulum", "env.max_episode_steps=30"),
        *("network.hidden=[64,64]", "matmul_precision=bfloat16"),
    ),
    "ddpg with ou noise": (
        *(*SAC, "algo=ddpg", "env=pendulum", "env.max_episode_steps=30", "algo/exploration=ou"),
        *("algo.exploration.schedule=linear", "memory.updates=2"),
    ),
    "d4pg by priority": (
        *(*SAC, "algo=d4pg", "env=pendulum", "env.max_episode_steps=30", "memory=prioritized", "memory.n_step=3"),
    ),
    "dpg": ("algo=dpg", *ON_POLICY, "env=pendulum", "env.max_episode_steps=30", "algo/exploration=ou"),
    "dpg_offpolicy": ("algo=dpg_offpolicy", *ON_POLICY, "env=lqr"),
    "sac": (*SAC, "env=pendulum", "env.max_episode_steps=30"),
    "sac with hard copies": (
        *(*SAC, "env=pendulum", "env.max_episode_steps=30", "algo.tau=null", "algo.target_every=7"),
        "network.hidden=[8]",
    ),
    "sac with a matrix of noise, and a memory": (
        *(*SAC, "env=pendulum_pomdp", "env.max_episode_steps=30", "network=gru", "network.size=8"),
        *("memory=sequences", "memory.length=8", "network.std=sde", "network.layer_norm=true"),
    ),
    "redq": (*SAC, "algo=redq", "env=pendulum", "env.max_episode_steps=30", "algo.critics=4", "memory.updates=3"),
    "sac_v1": (*SAC, "algo=sac_v1", "env=pendulum", "env.max_episode_steps=30"),
    "dqn": (*SAC, "algo=dqn", "env=acrobot", "env.max_episode_steps=30", "memory.n_step=3", "algo.target_every=5"),
    "dqn by priority": (
        *(*SAC, "algo=dqn", "env=cartpole", "memory=prioritized", "memory.updates=2", "algo.dueling=true"),
        *("algo/exploration=boltzmann", "optimizer.schedule=linear"),
    ),
    "sac with two memories": (
        *(*SAC, "env=pendulum_pomdp", "env.max_episode_steps=30", "network=gru", "network.size=8"),
        *("memory=sequences", "memory.length=8", "memory.burn_in=4"),
    ),
    "dqn with a memory": (
        *(*SAC, "algo=dqn", "env=cartpole_pomdp", "network=lstm", "network.size=8", "memory=sequences"),
        *("memory.length=4", "memory.stride=2", "memory.n_step=3", "algo.target_every=5"),
    ),
    "dqn with a memory by priority": (
        *(*SAC, "algo=dqn", "env=cartpole_pomdp", "network=gru", "network.size=8", "memory=prioritized_sequences"),
        *("memory.length=4", "memory.stride=2", "memory.burn_in=2"),
    ),
    "sac_discrete": (*SAC, "algo=sac_discrete", "env=acrobot", "env.max_episode_steps=30"),
    "sql": (*SAC, "algo=sql", "env=multi_goal", "algo.particles=4"),
    "sql of its own draws": (
        *(*SAC, "algo=sql", "env=multi_goal", "algo.particles=4", "algo.proposal=policy"),
        *("algo.tau=null", "algo.target_every=7"),
    ),
    "sql with a softmax": (*SAC, "algo=sql", "env=cartpole"),
    "sac hopper": (*SAC, "env=hopper", "env.max_episode_steps=60"),
    "maddpg": (
        *(*SAC, "algo=maddpg", "env=simple_speaker_listener", "env.max_episode_steps=7", "algo.rollout=4"),
        *("eval.every=120", "checkpoint.every=40", "algo.ensembles=2", "algo.infer_policies=true"),
    ),
    "iddpg": (
        *(*SAC, "algo=iddpg", "env=simple_tag", "env.max_episode_steps=7", "algo.rollout=4", "total_steps=120"),
        *("memory=prioritized", "memory.n_step=3"),
    ),
    "maddpg of numbers": (
        *(*SAC, "algo=maddpg", "env=simple_reference", "+env.kwargs.continuous_actions=true", "algo.rollout=4"),
        "algo/exploration=ou",
    ),
    "ppo of agents": (
        *(*PPO, "env=simple_spread", "env.agent_index=true", "env.max_episode_steps=10", "num_envs=2"),
        "eval.every=640",
    ),
}


TIMES = {"seconds", "wall_seconds", "sessions"}


def outcome(state: dict) -> dict:
    """A checkpoint's content without what a clock on the wall says, and without the config's number of steps."""
    clock = {key: value for key, value in state["clock"].items() if key not in TIMES}
    board = {key: value for key, value in state["board"].items() if key not in TIMES}
    rest = {
        key: value for key, value in state.items() if key not in {*TIMES, "clock", "board", "format", "config", "names"}
    }
    if "hooks" in rest:
        points = [point for point in rest["hooks"]["points"] if not point[0].startswith("time/")]
        rest["hooks"] = {**rest["hooks"], "points": points}
    return {**rest, "clock": clock, "board": board}


def finish(run: Run) -> dict:
    """Run to the end; -> the outcome of its last checkpoint."""
    result = run.execute()
    assert result["status"] == "finished"
    return outcome(checkpoint.load(run.checkpoints / "latest.pt"))
