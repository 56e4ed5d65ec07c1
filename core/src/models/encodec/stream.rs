//! Audio of codes that are still being written.

use burn::tensor::{Int, Tensor};

use super::{Encodec, by_channel, joined, seanet::SeanetStream};

/// Decodes codes frame by frame as they come; each sample is given out as soon as no later frame can change it.
///
/// What is given out, one piece after another, is what [`Encodec::decode_channels`] makes of all codes, up to the rounding
/// of matrix products of other sizes; every sample is computed once, but for a few at the ends of a piece.
#[derive(Debug)]
pub struct AudioStream<'a> {
    codec: &'a Encodec,
    channels: usize,
    stack: SeanetStream<'a>,
}

impl<'a> AudioStream<'a> {
    /// For `frames` frames in all, of `channels` channels as in [`Encodec::decode_channels`].
    pub fn new(codec: &'a Encodec, channels: usize, frames: usize) -> Self {
        Self { codec, channels, stack: codec.decoder.stream(frames) }
    }

    /// Takes the next frames; the samples that are certain now, if there are any.
    ///
    /// # Shapes
    /// - `codes`: `[batch, codebook · channels, frame]`, of one batch size throughout
    /// - result: `[batch, channels, sample]`
    ///
    /// # Panics
    /// As [`Encodec::decode_channels`]; if more frames come than were announced.
    pub fn push(&mut self, codes: Tensor<3, Int>) -> Option<Tensor<3>> {
        let batch = codes.dims()[0];
        let latents = self.codec.dequantize(by_channel(codes, self.channels));
        let audio = self.stack.push(latents)?.swap_dims(1, 2);
        Some(joined(audio, batch, self.channels))
    }
}
