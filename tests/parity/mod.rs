//! Number for number what the reference implementations give; the fixtures are theirs.

mod checkpoints;
mod clap;
mod clap_real;
mod diffusion;
mod encodec;
mod inside;
mod musicgen;
mod oobleck;
mod real_size;
mod sound;
mod stable_audio;
mod stable_audio_real;
mod t5;
