//! The convolutional stacks at both ends.

use std::ops::Range;

use burn::{
    module::Module,
    tensor::{Tensor, activation::relu},
};

use super::{
    EncodecConfig,
    conv::{Conv, ConvTranspose, Shape},
    lstm::Lstm,
};
use crate::checkpoint::{LoadError, Weights};

/// Layers one after another, numbered as in the checkpoint.
#[derive(Module, Debug)]
pub(super) struct Seanet {
    layers: Vec<Layer>,
}

#[derive(Module, Debug)]
enum Layer {
    Conv(Conv),
    ConvTranspose(ConvTranspose),
    Lstm(Lstm),
    Residual(Residual),
    Elu(Elu),
}

/// `x + conv(elu(conv(elu(x))))`
#[derive(Module, Debug)]
struct Residual {
    spread: Conv,
    join: Conv,
}

/// `x` above zero, `exp(x) − 1` below.
#[derive(Module, Debug)]
struct Elu;

impl Seanet {
    /// Takes `layers.*` of an encoder.
    pub(super) fn encoder(config: &EncodecConfig, weights: &Weights) -> Result<Self, LoadError> {
        let mut stack = Stack::new(weights);
        let mut width = config.num_filters;
        stack.conv([config.audio_channels, width], config.kernel_size, 1)?;
        for &ratio in config.upsampling_ratios.iter().rev() {
            stack.residuals(config, width)?;
            stack.push(Layer::Elu(Elu));
            stack.conv([width, 2 * width], 2 * ratio, ratio)?;
            width *= 2;
        }
        stack.lstm(config, width)?;
        stack.push(Layer::Elu(Elu));
        stack.conv([width, config.hidden_size], config.last_kernel_size, 1)?;
        Ok(Self { layers: stack.layers })
    }

    /// Takes `layers.*` of a decoder.
    pub(super) fn decoder(config: &EncodecConfig, weights: &Weights) -> Result<Self, LoadError> {
        let mut stack = Stack::new(weights);
        let mut width = config.num_filters << config.upsampling_ratios.len();
        stack.conv([config.hidden_size, width], config.kernel_size, 1)?;
        stack.lstm(config, width)?;
        for &stride in &config.upsampling_ratios {
            stack.push(Layer::Elu(Elu));
            let shape = Shape { channels: [width, width / 2], kernel: 2 * stride, stride, dilation: 1 };
            let transposed = ConvTranspose::load(&stack.next(), shape)?;
            stack.push(Layer::ConvTranspose(transposed));
            width /= 2;
            stack.residuals(config, width)?;
        }
        stack.push(Layer::Elu(Elu));
        stack.conv([width, config.audio_channels], config.last_kernel_size, 1)?;
        Ok(Self { layers: stack.layers })
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

    /// As [`Self::forward`], but what comes after the recurrent layer is computed for `chunk` of its steps at a time.
    ///
    /// Each layer is given as many steps on both sides as its outputs are made from, so that the result is the same.
    pub(super) fn forward_chunked(&self, x: Tensor<3>, chunk: usize) -> Tensor<3> {
        let first_local = self.layers.iter().rposition(|layer| matches!(layer, Layer::Lstm(_))).map_or(0, |at| at + 1);
        let (whole, local) = self.layers.split_at(first_local);
        let x = whole.iter().fold(x, |x, layer| layer.forward(x));
        let frames = x.dims()[1];
        let chunk = chunk.clamp(1, frames);
        let chunks = (0..frames).step_by(chunk).map(|start| {
            let ranges = needed(local, start..(start + chunk).min(frames), frames);
            let x = x.clone().narrow(1, ranges[0].start, ranges[0].len());
            local.iter().zip(ranges.windows(2)).fold(x, |x, (layer, ranges)| {
                let y = layer.forward(x);
                y.narrow(1, ranges[1].start - ranges[0].start * layer.ratio(), ranges[1].len())
            })
        });
        Tensor::cat(chunks.collect(), 1)
    }
}

/// Steps that the frames `range` need, of `frames` that there are: those of the input of the first layer, then those of
/// the output of every layer.
fn needed(layers: &[Layer], range: Range<usize>, frames: usize) -> Vec<Range<usize>> {
    let signed = |steps: usize| isize::try_from(steps).expect("audio fits into memory");
    let mut scale: usize = layers.iter().map(Layer::ratio).product();
    let mut outputs = range.start * scale..range.end * scale;
    let mut ranges = Vec::with_capacity(layers.len() + 1);
    for layer in layers.iter().rev() {
        scale /= layer.ratio();
        let length = signed(frames * scale);
        let inputs = layer.inputs(signed(outputs.start)..signed(outputs.end));
        // Beyond an end lies the mirror image of what is before it.
        let start = if inputs.end > length { inputs.start.min(2 * length - 1 - inputs.end) } else { inputs.start };
        let end = if inputs.start < 0 { inputs.end.max(1 - inputs.start) } else { inputs.end };
        let [start, end] = [start, end].map(|step| step.clamp(0, length).unsigned_abs());
        ranges.push(std::mem::replace(&mut outputs, start..end));
    }
    ranges.push(outputs);
    ranges.reverse();
    ranges
}

/// Layers on their way from a checkpoint.
struct Stack {
    weights: Weights,
    layers: Vec<Layer>,
}

impl Stack {
    fn new(weights: &Weights) -> Self {
        Self { weights: weights.sub("layers"), layers: Vec::new() }
    }

    /// Where the next layer has its tensors.
    fn next(&self) -> Weights {
        self.weights.sub(self.layers.len())
    }

    fn push(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    fn conv(&mut self, channels: [usize; 2], kernel: usize, stride: usize) -> Result<(), LoadError> {
        let conv = Conv::load(&self.next(), Shape { channels, kernel, stride, dilation: 1 })?;
        self.push(Layer::Conv(conv));
        Ok(())
    }

    fn lstm(&mut self, config: &EncodecConfig, width: usize) -> Result<(), LoadError> {
        let lstm = Lstm::load(&self.next(), width, config.num_lstm_layers)?;
        self.push(Layer::Lstm(lstm));
        Ok(())
    }

    fn residuals(&mut self, config: &EncodecConfig, width: usize) -> Result<(), LoadError> {
        let mut dilation = 1;
        for _ in 0..config.num_residual_layers {
            let residual = Residual::load(config, &self.next(), width, dilation)?;
            self.push(Layer::Residual(residual));
            dilation *= config.dilation_growth_rate;
        }
        Ok(())
    }
}

impl Layer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::ConvTranspose(conv) => conv.forward(x),
            Self::Lstm(lstm) => lstm.forward(x),
            Self::Residual(residual) => residual.forward(x),
            Self::Elu(_) => elu(x),
        }
    }

    /// Output steps per input step, of the layers of a decoder.
    fn ratio(&self) -> usize {
        if let Self::ConvTranspose(conv) = self { conv.stride() } else { 1 }
    }

    /// Input steps that the output steps `range` are made from.
    fn inputs(&self, range: Range<isize>) -> Range<isize> {
        match self {
            Self::Conv(conv) => conv.inputs(range),
            Self::ConvTranspose(conv) => conv.inputs(range),
            Self::Residual(residual) => residual.spread.inputs(residual.join.inputs(range)),
            Self::Elu(_) => range,
            Self::Lstm(_) => unreachable!("a recurrent layer is made from all that was before"),
        }
    }
}

impl Residual {
    fn load(config: &EncodecConfig, weights: &Weights, width: usize, dilation: usize) -> Result<Self, LoadError> {
        let hidden = width / config.compress;
        let block = weights.sub("block");
        let spread = Shape { channels: [width, hidden], kernel: config.residual_kernel_size, stride: 1, dilation };
        let join = Shape { channels: [hidden, width], kernel: 1, stride: 1, dilation: 1 };
        Ok(Self { spread: Conv::load(&block.sub(1), spread)?, join: Conv::load(&block.sub(3), join)? })
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = self.spread.forward(elu(x.clone()));
        self.join.forward(elu(hidden)) + x
    }
}

/// `min(exp(x), 1) − 1 + max(x, 0)`: without the mask of Burn's own it takes two passes less, and `exp` first writes
/// the copy that the passes after it change in place.
fn elu(x: Tensor<3>) -> Tensor<3> {
    x.clone().exp().clamp_max(1.0) - 1.0 + relu(x)
}
