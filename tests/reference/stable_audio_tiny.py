"""A tiny Stable Audio in diffusers' layout, with every intermediate of its conditioners and of one denoising step
with guidance, denoised estimates with rescale, with a negative prompt and without guidance, and whole sampler runs
with recorded noise: k-diffusion's samplers over a v-denoiser of their own, and diffusers' scheduler.

Usage: python stable_audio_tiny.py   (after musicgen_tiny.py, whose T5 it takes)
Writes: fixtures/stable_audio_tiny
"""

import json
import math
import shutil

import fakemods  # noqa: F401  (before k_diffusion)
import diffusers
import k_diffusion
import torch
from diffusers import (
    AutoencoderOobleck, CosineDPMSolverMultistepScheduler, StableAudioDiTModel, StableAudioPipeline,
    StableAudioProjectionModel,
)
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from common import FIXTURES, PROMPTS, Recorder, save_expected, save_tokenizer, tiny_tokenizer
from stable_audio_common import (
    LONG, NEGATIVE, SECONDS, EagerAttention, RecordedNoise, close, guided, randomise, record_dit,
)

TOKENS = 33  # to which text is padded; the real one is 128
LATENTS = 12  # full length; the real one is 1024
LENGTH = 7  # what the intermediates are recorded of
STEPS = 6
SIGMA_MIN, SIGMA_MAX = 0.3, 500.0
GUIDANCE, RESCALE = 6.0, 0.7
SIGMA = 3.7  # of the step that is recorded


def build():
    """Modules with the branches of the real ones: two query heads per key-value head, partial rotary positions."""
    transformer = StableAudioDiTModel(
        sample_size=LATENTS, in_channels=6, num_layers=2, attention_head_dim=16, num_attention_heads=4,
        num_key_value_attention_heads=2, out_channels=6, cross_attention_dim=40, time_proj_dim=20,
        global_states_input_dim=48, cross_attention_input_dim=24,
    ).eval()
    vae = AutoencoderOobleck(
        encoder_hidden_size=12, downsampling_ratios=[2, 4], channel_multiples=[1, 2], decoder_channels=8,
        decoder_input_channels=6, audio_channels=2, sampling_rate=44100,
    ).eval()
    projection = StableAudioProjectionModel(text_encoder_dim=24, conditioning_dim=24, min_value=0, max_value=512).eval()
    for seed, module in enumerate([transformer, vae, projection]):
        randomise(module, 40 + seed)
    scheduler = CosineDPMSolverMultistepScheduler(
        sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, sigma_data=1.0, sigma_schedule="exponential",
        num_train_timesteps=1000, solver_order=2, prediction_type="v_prediction", rho=7.0, solver_type="midpoint",
        lower_order_final=True, euler_at_final=False, final_sigmas_type="zero",
    )
    text = T5EncoderModel.from_pretrained(FIXTURES / "t5_tiny", attn_implementation="eager").eval()
    for parameter in text.parameters():
        parameter.copy_(parameter.half().float())
    return transformer, vae, projection, scheduler, text


def save(folder, transformer, vae, projection, scheduler, text):
    """The pipeline's folder, weights in 16 bits (which hold them exactly); the modules stay in 32."""
    for name, module in [
        ("transformer", transformer), ("vae", vae), ("projection_model", projection), ("text_encoder", text),
    ]:
        module.half().save_pretrained(folder / name)
        module.float()
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "tokenizer").mkdir()
    save_tokenizer(tiny_tokenizer(), folder / "tokenizer")
    path = folder / "tokenizer" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["model_max_length"] = TOKENS
    path.write_text(json.dumps(config, indent=2) + "\n")
    index = {
        "_class_name": "StableAudioPipeline", "_diffusers_version": diffusers.__version__,
        "projection_model": ["stable_audio", "StableAudioProjectionModel"],
        "scheduler": ["diffusers", "CosineDPMSolverMultistepScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"], "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "StableAudioDiTModel"], "vae": ["diffusers", "AutoencoderOobleck"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


class Denoiser:
    """The denoised estimate of a guided model, with scalings written out from the papers, not from k-diffusion."""

    def __init__(self, transformer, cross, negative, duration, guidance, rescale=0.0):
        self.transformer, self.cross, self.negative, self.duration = transformer, cross, negative, duration
        self.guidance, self.rescale = guidance, rescale

    def velocity(self, x, sigma):
        """Model output of `x` scaled to unit variance, rows [cond, uncond]; and that of the guided model."""
        time = torch.atan(sigma) * 2 / math.pi
        branches = 1 if self.guidance == 1 else 2
        cross = self.cross if branches == 1 else torch.cat([self.cross, self.negative])
        x = (x / torch.sqrt(1 + sigma**2)).repeat(branches, 1, 1)
        rotary = get_1d_rotary_pos_embed(
            self.transformer.config.attention_head_dim // 2, x.shape[2] + 1, use_real=True, repeat_interleave_real=False)
        output = self.transformer(
            x, time.repeat(x.shape[0]), encoder_hidden_states=cross,
            global_hidden_states=self.duration.repeat(branches, 1, 1), rotary_embedding=rotary, return_dict=False)[0]
        if branches == 1:
            return output, output
        return output, guided(*output.chunk(2), self.guidance, self.rescale)

    def __call__(self, x, sigma):
        sigma = sigma.flatten()[:1]
        return x / (1 + sigma**2) - sigma / torch.sqrt(1 + sigma**2) * self.velocity(x, sigma)[1]


def conditioners(pipe, tensors):
    """Text and seconds as the transformer takes them, by diffusers' own pipeline; and the negative prompt."""
    tokenized = pipe.tokenizer(PROMPTS + [LONG], padding="max_length", truncation=True, max_length=TOKENS,
                               return_tensors="pt")
    tensors["input_ids"], tensors["attention_mask"] = tokenized.input_ids, tokenized.attention_mask
    text = pipe.encode_prompt(PROMPTS, "cpu", False)
    negative_text = pipe.encode_prompt([NEGATIVE] * 2, "cpu", False)
    starts, ends = zip(*SECONDS)
    pieces = [pipe.encode_duration(min(s, 512.0), min(e, 512.0), "cpu", False, 1) for s, e in SECONDS]
    output = pipe.projection_model(start_seconds=torch.tensor(starts), end_seconds=torch.tensor(ends))
    start, end = output.seconds_start_hidden_states, output.seconds_end_hidden_states
    close("seconds", torch.cat([s for s, _ in pieces]), start)
    close("seconds", torch.cat([e for _, e in pieces]), end)
    cross, negative = torch.cat([text, start, end], dim=1), torch.cat([negative_text, start, end], dim=1)
    duration = torch.cat([start, end], dim=2)
    tensors.update({"cond.text": text, "cond.start": start, "cond.total": end, "cond.cross": cross,
                    "cond.negative": negative, "cond.global": duration})
    return cross, negative, duration


def one_step(transformer, cross, negative, duration, tensors):
    """Everything inside one denoising step, and its results with other kinds of guidance."""
    generator = torch.Generator().manual_seed(7)
    sigma = torch.tensor([SIGMA])
    x = torch.randn(2, 6, LENGTH, generator=generator) * math.sqrt(1 + SIGMA**2)
    tensors["step.x"] = x
    nothing = torch.zeros_like(cross)
    plain = Denoiser(transformer, cross, nothing, duration, GUIDANCE)
    fused = plain(x, sigma)  # with torch's own attention
    with Recorder() as recorder:
        record_dit(recorder, transformer)
        recorder.output(transformer.time_proj, "time.features", lambda o: o[:1])
        recorder.output(transformer.timestep_proj, "time.embed", lambda o: o[:1])
        recorder.output(transformer.cross_attention_proj, "cond.projected")
        output, velocity = plain.velocity(x, sigma)
    close("eager attention", x / (1 + sigma**2) - sigma / torch.sqrt(1 + sigma**2) * velocity, fused)
    for block in transformer.transformer_blocks:
        block.attn1.set_processor(EagerAttention())
        block.attn2.set_processor(EagerAttention())
    tensors.update(recorder.tensors)
    tensors["step.output"], tensors["step.guided"] = output, velocity
    tensors["step.x0"] = plain(x, sigma)
    tensors["step.x0_rescale"] = Denoiser(transformer, cross, nothing, duration, GUIDANCE, RESCALE)(x, sigma)
    tensors["step.x0_negative"] = Denoiser(transformer, cross, negative, duration, GUIDANCE)(x, sigma)
    tensors["step.x0_unguided"] = Denoiser(transformer, cross, nothing, duration, 1.0)(x, sigma)


def runs(pipe, cross, negative, duration, tensors):
    """Whole sampler runs with recorded noise: x and the denoised estimate of every step, and the end."""
    generator = torch.Generator().manual_seed(8)
    initial = torch.randn(2, 6, LENGTH, generator=generator)
    steps = torch.randn(STEPS, 2, 6, LENGTH, generator=generator)
    tensors["noise.initial"], tensors["noise.steps"] = initial, steps
    nothing = torch.zeros_like(cross)
    sampling = k_diffusion.sampling
    sigmas = sampling.get_sigmas_polyexponential(STEPS, SIGMA_MIN, SIGMA_MAX, 1.0)
    tensors["sigmas"] = sigmas
    for name, sampler, extra, denoise in [
        ("2m_sde", sampling.sample_dpmpp_2m_sde, True, Denoiser(pipe.transformer, cross, nothing, duration, GUIDANCE)),
        ("3m_sde", sampling.sample_dpmpp_3m_sde, True,
         Denoiser(pipe.transformer, cross, negative, duration, GUIDANCE, RESCALE)),
        ("2m", sampling.sample_dpmpp_2m, False, Denoiser(pipe.transformer, cross, nothing, duration, 1.0)),
    ]:
        seen = []
        noise = {"noise_sampler": RecordedNoise(steps)} if extra else {}
        last = sampler(denoise, initial * SIGMA_MAX, sigmas, disable=True, callback=seen.append, **noise)
        tensors[f"run.{name}.x"] = torch.stack([step["x"] for step in seen])
        tensors[f"run.{name}.denoised"] = torch.stack([step["denoised"] for step in seen])
        tensors[f"run.{name}.end"] = last
    tensors["run.2m_sde.audio"] = pipe.vae.decode(tensors["run.2m_sde.end"]).sample

    # diffusers' loop over its own scheduler, row by row.
    ends, every = [], []
    for row in range(2):
        scheduler = pipe.scheduler
        make = scheduler.set_timesteps

        def set_timesteps(*arguments, **keywords):
            make(*arguments, **keywords)
            scheduler.noise_sampler = RecordedNoise(steps[:, row : row + 1])

        scheduler.set_timesteps = set_timesteps
        seen = []
        text = pipe.encode_prompt(PROMPTS[row], "cpu", False)
        seconds = duration[row : row + 1]
        whole = torch.cat([text, seconds[..., :24], seconds[..., 24:]], dim=1)
        scheduler.set_timesteps(STEPS, device="cpu")
        x = initial[row : row + 1] * scheduler.init_noise_sigma
        rotary = get_1d_rotary_pos_embed(8, LENGTH + 1, use_real=True, repeat_interleave_real=False)
        for time in scheduler.timesteps:
            scaled = scheduler.scale_model_input(torch.cat([x] * 2), time)
            output = pipe.transformer(
                scaled, time.unsqueeze(0), encoder_hidden_states=torch.cat([torch.zeros_like(whole), whole]),
                global_hidden_states=torch.cat([seconds] * 2), rotary_embedding=rotary, return_dict=False)[0]
            uncond, cond = output.chunk(2)
            x = scheduler.step(uncond + GUIDANCE * (cond - uncond), time, x).prev_sample
            seen.append(x.clone())
        scheduler.set_timesteps = make
        ends.append(x)
        every.append(torch.stack(seen))
    tensors["run.diffusers.x"] = torch.cat(every, dim=1)
    tensors["run.diffusers.end"] = torch.cat(ends)


def main():
    """Write the folder, load it with diffusers' pipeline, and record."""
    folder = FIXTURES / "stable_audio_tiny"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save(folder, *build())
    pipe = StableAudioPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    assert isinstance(pipe.tokenizer, PreTrainedTokenizerFast) and pipe.tokenizer.model_max_length == TOKENS
    tensors = {}
    cross, negative, duration = conditioners(pipe, tensors)
    one_step(pipe.transformer, cross, negative, duration, tensors)
    runs(pipe, cross, negative, duration, tensors)
    save_expected(
        folder / "expected.safetensors", tensors, __file__, diffusers=diffusers.__version__,
        k_diffusion="0.1.1.post1", prompts=PROMPTS, long=LONG, negative=NEGATIVE, seconds=SECONDS, sigma=SIGMA,
        guidance=GUIDANCE, rescale=RESCALE, steps=STEPS, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX,
    )


if __name__ == "__main__":
    main()
