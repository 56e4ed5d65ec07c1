//! The stacks at both ends.

use std::ops::Range;

use burn::{module::Module, tensor::Tensor};

use super::OobleckConfig;
use crate::{
    checkpoint::{LoadError, Weights},
    nn::{Conv, ConvShape, ConvTranspose, Local, Preceding, in_tiles, largest, lengths},
};

/// Dilations of the residual units between two strides.
const DILATIONS: [usize; 3] = [1, 3, 9];
/// Taps of the first convolution of each stack, of the last of the decoder, and of residual units.
const KERNEL: usize = 7;
/// Taps of the encoder's last convolution.
const LAST_KERNEL: usize = 3;

/// Layers one after another.
#[derive(Module, Debug)]
pub(super) struct Stack {
    layers: Vec<Layer>,
    /// Numbers that a buffer of the device holds.
    buffer: usize,
}

/// All convolutions but the first of each stack begin with a snake, `x + sin²(exp(α) x) / (exp(β) + 1e-9)` with `α` and `β`
/// per channel.
#[derive(Module, Debug)]
#[cfg_attr(target_pointer_width = "64", expect(clippy::large_enum_variant, reason = "a model has a few dozen"))]
enum Layer {
    Conv(Conv),
    ConvTranspose(ConvTranspose),
    Residual(Residual),
}

/// `x + conv2(conv1(x))`
#[derive(Module, Debug)]
struct Residual {
    conv1: Conv,
    conv2: Conv,
}

impl Stack {
    /// Takes the tensors of an encoder.
    pub(super) fn encoder(config: &OobleckConfig, weights: &Weights) -> Result<Self, LoadError> {
        let widths: Vec<usize> =
            [1].iter().chain(&config.channel_multiples).map(|multiple| multiple * config.encoder_hidden_size).collect();
        let mut layers = vec![first(&weights.sub("conv1"), [config.audio_channels, widths[0]])?];
        for (index, &stride) in config.downsampling_ratios.iter().enumerate() {
            let (block, channels) = (weights.sub("block").sub(index), [widths[index], widths[index + 1]]);
            layers.extend(residuals(&block, channels[0])?);
            let shape = ConvShape { channels, kernel: 2 * stride, stride, dilation: 1 };
            layers.push(Layer::Conv(conv(&block, "1", shape)?));
        }
        let last = widths[widths.len() - 1];
        let snake = Preceding::Snake(weights.sub("snake1"));
        let shape =
            ConvShape { channels: [last, config.encoder_hidden_size], kernel: LAST_KERNEL, stride: 1, dilation: 1 };
        layers.push(Layer::Conv(Conv::zero_ended(&weights.sub("conv2"), shape, true, &snake)?));
        Ok(Self { layers, buffer: weights.limits().buffer })
    }

    /// Takes the tensors of a decoder.
    pub(super) fn decoder(config: &OobleckConfig, weights: &Weights) -> Result<Self, LoadError> {
        let mut widths: Vec<usize> =
            [1].iter().chain(&config.channel_multiples).map(|multiple| multiple * config.decoder_channels).collect();
        widths.reverse();
        let mut layers = vec![first(&weights.sub("conv1"), [config.decoder_input_channels, widths[0]])?];
        for (index, &stride) in config.downsampling_ratios.iter().rev().enumerate() {
            let (block, channels) = (weights.sub("block").sub(index), [widths[index], widths[index + 1]]);
            let shape = ConvShape { channels, kernel: 2 * stride, stride, dilation: 1 };
            let snake = Preceding::Snake(block.sub("snake1"));
            layers.push(Layer::ConvTranspose(ConvTranspose::load(&block.sub("conv_t1"), shape, &snake)?));
            layers.extend(residuals(&block, channels[1])?);
        }
        let last = config.decoder_channels;
        let snake = Preceding::Snake(weights.sub("snake1"));
        let shape = ConvShape { channels: [last, config.audio_channels], kernel: KERNEL, stride: 1, dilation: 1 };
        layers.push(Layer::Conv(Conv::zero_ended(&weights.sub("conv2"), shape, false, &snake)?));
        Ok(Self { layers, buffer: weights.limits().buffer })
    }

    /// Whether the device's buffers hold all that becomes of the whole of `x` `[batch, channel, time]`.
    pub(super) fn fits(&self, x: &Tensor<3>) -> bool {
        let [batch, _, time] = x.dims();
        let lengths = lengths(&self.layers, time);
        batch.saturating_mul(largest(&self.layers, &lengths, lengths[self.layers.len()])) <= self.buffer
    }

    /// All layers; `visit` sees what each puts out.
    ///
    /// # Shapes
    /// - `x`: `[batch, time, in]`; result and what `visit` sees: `[batch, time, channel]`
    pub(super) fn forward(&self, x: Tensor<3>, mut visit: impl FnMut(&Tensor<3>)) -> Tensor<3> {
        self.layers.iter().fold(x, |x, layer| {
            let y = layer.forward(x);
            visit(&y);
            y
        })
    }

    /// As [`Self::forward`], for `tile` steps of the result at a time.
    pub(super) fn forward_tiled(&self, x: &Tensor<3>, tile: usize) -> Tensor<3> {
        in_tiles(&self.layers, x, tile, self.buffer)
    }
}

/// The first layer of a stack.
fn first(weights: &Weights, channels: [usize; 2]) -> Result<Layer, LoadError> {
    let shape = ConvShape { channels, kernel: KERNEL, stride: 1, dilation: 1 };
    Ok(Layer::Conv(Conv::zero_ended(weights, shape, true, &Preceding::Nothing)?))
}

/// `conv{number}` after `snake{number}`.
fn conv(weights: &Weights, number: &str, shape: ConvShape) -> Result<Conv, LoadError> {
    let snake = Preceding::Snake(weights.sub(format_args!("snake{number}")));
    Conv::zero_ended(&weights.sub(format_args!("conv{number}")), shape, true, &snake)
}

fn residuals(block: &Weights, width: usize) -> Result<Vec<Layer>, LoadError> {
    let residual = |(index, dilation)| {
        let unit = block.sub(format_args!("res_unit{}", index + 1));
        Ok(Layer::Residual(Residual::load(&unit, width, dilation)?))
    };
    DILATIONS.into_iter().enumerate().map(residual).collect()
}

impl Local for Layer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::ConvTranspose(conv) => conv.forward(x),
            Self::Residual(residual) => residual.forward(x),
        }
    }

    fn ratio(&self) -> [usize; 2] {
        match self {
            Self::Conv(conv) => [1, conv.stride()],
            Self::ConvTranspose(conv) => [conv.stride(), 1],
            Self::Residual(_) => [1, 1],
        }
    }

    fn steps(&self, time: usize) -> usize {
        match self {
            Self::Conv(conv) => conv.steps(time),
            Self::ConvTranspose(conv) => time * conv.stride(),
            Self::Residual(_) => time,
        }
    }

    fn inputs(&self, range: Range<isize>) -> Range<isize> {
        match self {
            Self::Conv(conv) => conv.inputs(range),
            Self::ConvTranspose(conv) => conv.inputs(range),
            Self::Residual(residual) => residual.conv1.inputs(residual.conv2.inputs(range)),
        }
    }

    fn numbers(&self) -> [usize; 2] {
        match self {
            Self::Conv(conv) => conv.numbers(),
            Self::ConvTranspose(conv) => conv.numbers(),
            Self::Residual(residual) => residual.conv1.numbers(),
        }
    }
}

impl Residual {
    fn load(weights: &Weights, width: usize, dilation: usize) -> Result<Self, LoadError> {
        let shape = |kernel, dilation| ConvShape { channels: [width, width], kernel, stride: 1, dilation };
        Ok(Self { conv1: conv(weights, "1", shape(KERNEL, dilation))?, conv2: conv(weights, "2", shape(1, 1))? })
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.conv2.forward(self.conv1.forward(x.clone())) + x
    }
}
