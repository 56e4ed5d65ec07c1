"""Writes tests/fixtures/samplers/: trajectories of k-diffusion's samplers with recorded noise, in 64 bit, every step.

    python tests/reference/samplers.py        (k-diffusion 0.1.1.post1, diffusers 0.42.1, torch 2.11.0)

The model is a small network of which the weights are in the file. diffusers' scheduler is run with the same noise and
must follow k-diffusion's `dpmpp_2m_sde`; its own steps are kept too. The metadata says how far 32 bit is from 64.
"""

import json
import sys
from importlib.metadata import version

import common
import fakemods  # noqa: F401  k-diffusion imports torchdiffeq, which these samplers do not use
import torch
from diffusers import CosineDPMSolverMultistepScheduler
from k_diffusion import sampling

OUT = common.FIXTURES / "samplers"
SHAPE, HIDDEN, STEPS = (2, 3, 5), 4, 8
KARRAS, EXPONENTIAL = {"kind": "karras", "rho": 7.0}, {"kind": "polyexponential", "rho": 1.0}
BENT = {"kind": "polyexponential", "rho": 1.3}
CASES = {
    "2m": ("dpmpp-2m", EXPONENTIAL, {}),
    "2m_karras": ("dpmpp-2m", KARRAS, {}),
    "2m_sde": ("dpmpp-2m-sde", EXPONENTIAL, {}),
    "2m_sde_karras": ("dpmpp-2m-sde", KARRAS, {}),
    "2m_sde_heun": ("dpmpp-2m-sde", BENT, {"solver_type": "heun"}),
    "2m_sde_half": ("dpmpp-2m-sde", KARRAS, {"eta": 0.5, "s_noise": 0.9}),
    "2m_sde_none": ("dpmpp-2m-sde", EXPONENTIAL, {"eta": 0.0, "solver_type": "heun"}),
    "3m_sde": ("dpmpp-3m-sde", EXPONENTIAL, {}),
    "3m_sde_karras": ("dpmpp-3m-sde", KARRAS, {"eta": 0.7, "s_noise": 1.1}),
    "3m_sde_none": ("dpmpp-3m-sde", BENT, {"eta": 0.0}),
}
FUNCTIONS = {
    "dpmpp-2m": sampling.sample_dpmpp_2m,
    "dpmpp-2m-sde": sampling.sample_dpmpp_2m_sde,
    "dpmpp-3m-sde": sampling.sample_dpmpp_3m_sde,
}
MIN, MAX = 0.3, 500.0


def sigmas_of(schedule, steps, low, high):
    if schedule["kind"] == "karras":
        return sampling.get_sigmas_karras(steps, low, high, schedule["rho"])
    return sampling.get_sigmas_polyexponential(steps, low, high, schedule["rho"])


class Toy:
    """`x / (s² + 1) − s / √(s² + 1) · w2 tanh(w1 x / √(s² + 1) + b)`, over channels."""

    def __init__(self, weights, dtype):
        self.w1, self.b, self.w2 = (weights[name].to(dtype) for name in ("toy.w1", "toy.b", "toy.w2"))

    def output(self, scaled):
        return self.w2 @ torch.tanh(self.w1 @ scaled + self.b)

    def __call__(self, x, sigma):
        s = sigma.view(-1, 1, 1)
        root = (s**2 + 1).sqrt()
        return x / root**2 - s / root * self.output(x / root)


def run(case, weights, dtype):
    sampler, schedule, settings = CASES[case]
    torch.set_default_dtype(dtype)
    sigmas = sigmas_of(schedule, STEPS, MIN, MAX)
    steps, seen, asked = weights["steps"].to(dtype), [], []

    def noise(_, __):
        asked.append(1)
        return steps[len(asked) - 1]

    extra = {} if sampler == "dpmpp-2m" else {"noise_sampler": noise, **settings}
    keep = lambda step: seen.append((step["x"].clone(), step["denoised"].clone()))
    x = weights["initial"].to(dtype) * MAX
    last = FUNCTIONS[sampler](Toy(weights, dtype), x, sigmas, callback=keep, disable=True, **extra)
    torch.set_default_dtype(torch.float32)
    assert len(asked) == (0 if sampler == "dpmpp-2m" or settings.get("eta") == 0.0 else STEPS - 1), case
    return {
        f"{case}.sigmas": sigmas, f"{case}.x": torch.stack([x for x, _ in seen]),
        f"{case}.denoised": torch.stack([d for _, d in seen]), f"{case}.last": last,
    }


def diffusers(weights, solver):
    """Every sample of diffusers' scheduler in 32 bit, from the same noise."""
    scheduler = CosineDPMSolverMultistepScheduler(sigma_min=MIN, sigma_max=MAX, solver_type=solver)
    scheduler.set_timesteps(STEPS)
    noise = iter([*weights["steps"], weights["steps"][0]])
    toy, x, seen = Toy(weights, torch.float32), weights["initial"] * MAX, []
    for step, time in enumerate(scheduler.timesteps):
        seen.append(x)
        scaled = scheduler.scale_model_input(x, time)
        scheduler.noise_sampler = lambda _, __: next(noise)
        x = scheduler.step(toy.output(scaled), time, x).prev_sample
    return torch.stack([*seen, x])


def distance(got, want):
    return ((got.double() - want).abs().max() / want.abs().max()).item()


def main():
    generator = torch.Generator().manual_seed(7)
    normal = lambda *shape: torch.randn(*shape, generator=generator)
    weights = {
        "toy.w1": normal(HIDDEN, SHAPE[1]), "toy.b": normal(HIDDEN, 1), "toy.w2": 0.7 * normal(SHAPE[1], HIDDEN),
        "initial": normal(*SHAPE), "steps": normal(STEPS - 1, *SHAPE),
    }
    tensors, floor = dict(weights), {}
    for case in CASES:
        double, single = run(case, weights, torch.float64), run(case, weights, torch.float32)
        floor[case] = max(distance(single[name], double[name]) for name in double)
        tensors |= double
    for solver in ["midpoint", "heun"]:
        tensors[f"diffusers_{solver}.x"] = diffusers(weights, solver)
    samples = tensors["diffusers_midpoint.x"]
    far = max(distance(samples[:-1], tensors["2m_sde.x"]), distance(samples[-1], tensors["2m_sde.last"]))
    print(f"diffusers against k-diffusion: {far:.1e}", file=sys.stderr)
    assert far < 1e-5
    for schedule, name in [(KARRAS, "karras"), (EXPONENTIAL, "exponential"), (BENT, "bent")]:
        torch.set_default_dtype(torch.float64)
        tensors[f"sigmas.{name}"] = sigmas_of(schedule, 50, 0.03, 80.0)
        torch.set_default_dtype(torch.float32)
    print({case: f"{value:.1e}" for case, value in floor.items()}, file=sys.stderr)
    cases = {
        case: {"sampler": sampler, "schedule": schedule, "settings": settings}
        for case, (sampler, schedule, settings) in CASES.items()
    }
    OUT.mkdir(parents=True, exist_ok=True)
    common.save_expected(
        OUT / "expected.safetensors", tensors, __file__, library="k-diffusion", dtype="f64, CPU",
        k_diffusion=version("k-diffusion"), diffusers=version("diffusers"), cases=json.dumps(cases),
        floor=f"{max(floor.values()):.1e}",
    )


main()
