//! The models of this library as models whose tensors pass hook points.

use super::{
    clap::{AudioTower, TextTower},
    musicgen::{Decoder, MusicGen},
    passt::Vit,
    stable_audio::{Dit, StableAudio},
    t5::T5Encoder,
};
use crate::hooks::{HookPoint, HookedModel};

macro_rules! hooked {
    ($($model:ty),*) => {
        $(impl HookedModel for $model {
            fn hook_points(&self) -> Vec<HookPoint> {
                self.points()
            }
        })*
    };
}

hooked!(AudioTower, Decoder, Dit, MusicGen, StableAudio, T5Encoder, TextTower, Vit);
