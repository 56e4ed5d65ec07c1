//! What most programs need: `use tonoscope::prelude::*`.

pub use burn::tensor::Tensor;

pub use crate::{
    Audio, Cache, Cancel, Clap, Device, Diffused, Dtype, Encodec, Error, IntoCapture, Music, MusicGen, Oobleck, Passt,
    StableAudio, Stage, T5Encoder, WeightFormat,
    core::{
        diffusion::Sampler,
        lens::{LayerReading, TokenReading},
        readout::{LinearProbe, Probe},
    },
    hooks::{At, Axis, Branch, Capture, Captured, Edit, HookPoint, Reduce, Selector, Value},
    values,
};
