//! The convolutional stacks at both ends.

use std::ops::Range;

use burn::{module::Module, tensor::Tensor};

use super::{
    EncodecConfig, PadMode,
    lstm::{Lstm, LstmState},
};
use crate::{
    checkpoint::{Ends, LoadError, Weights},
    nn::{Conv, ConvShape, ConvTranspose, Local, Preceding, elu, in_tiles, lengths, one_tile, reach},
};

/// Layers one after another, numbered as in the checkpoint.
#[derive(Module, Debug)]
pub(super) struct Seanet {
    layers: Vec<Layer>,
    /// Numbers that a buffer of the device holds.
    buffer: usize,
}

#[derive(Module, Debug)]
#[cfg_attr(target_pointer_width = "64", expect(clippy::large_enum_variant, reason = "a model has a few dozen"))]
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

/// `x` above zero, `exp(x) − 1` below. The convolution after it computes it: in the checkpoint it has a number.
#[derive(Module, Debug)]
struct Elu;

impl Seanet {
    /// Takes `layers.*` of an encoder.
    pub(super) fn encoder(config: &EncodecConfig, weights: &Weights) -> Result<Self, LoadError> {
        let mut stack = Stack::new(weights);
        let mut width = config.num_filters;
        stack.conv(config, [config.audio_channels, width], config.kernel_size, 1)?;
        for &ratio in config.upsampling_ratios.iter().rev() {
            stack.residuals(config, width)?;
            stack.push(Layer::Elu(Elu));
            stack.conv(config, [width, 2 * width], 2 * ratio, ratio)?;
            width *= 2;
        }
        stack.lstm(config, width)?;
        stack.push(Layer::Elu(Elu));
        stack.conv(config, [width, config.hidden_size], config.last_kernel_size, 1)?;
        Ok(Self { layers: stack.layers, buffer: weights.limits().buffer })
    }

    /// Takes `layers.*` of a decoder.
    pub(super) fn decoder(config: &EncodecConfig, weights: &Weights) -> Result<Self, LoadError> {
        let mut stack = Stack::new(weights);
        let mut width = config.num_filters << config.upsampling_ratios.len();
        stack.conv(config, [config.hidden_size, width], config.kernel_size, 1)?;
        stack.lstm(config, width)?;
        for &stride in &config.upsampling_ratios {
            stack.push(Layer::Elu(Elu));
            let shape = ConvShape { channels: [width, width / 2], kernel: 2 * stride, stride, dilation: 1 };
            let transposed = ConvTranspose::load(&stack.next().sub("conv"), shape, &stack.before())?;
            stack.push(Layer::ConvTranspose(transposed));
            width /= 2;
            stack.residuals(config, width)?;
        }
        stack.push(Layer::Elu(Elu));
        stack.conv(config, [width, config.audio_channels], config.last_kernel_size, 1)?;
        Ok(Self { layers: stack.layers, buffer: weights.limits().buffer })
    }

    /// # Shapes
    /// - `x`: `[batch, time, in]`; result: `[batch, time, channel]`
    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.layers.iter().fold(x, |x, layer| layer.forward(x))
    }

    /// What each layer puts out in [`Self::forward`], the last one's being its result.
    pub(super) fn outputs(&self, mut x: Tensor<3>) -> Vec<Tensor<3>> {
        let output = |layer: &Layer| {
            x = layer.forward(x.clone());
            if matches!(layer, Layer::Elu(_)) { elu(x.clone()) } else { x.clone() }
        };
        self.layers.iter().map(output).collect()
    }

    /// [`Self::forward`] of a signal of `time` steps that comes in pieces.
    pub(super) fn stream(&self, time: usize) -> SeanetStream<'_> {
        let at = self.recurrent();
        let before = Part::new(&self.layers[..at], time);
        let after = Part::new(&self.layers[at + 1..], before.total());
        let Layer::Lstm(lstm) = &self.layers[at] else { unreachable!("this is where it is") };
        SeanetStream { local: [before, after], lstm, state: LstmState::default() }
    }

    /// Index of the recurrent layer, which every stack has.
    fn recurrent(&self) -> usize {
        let found = self.layers.iter().rposition(|layer| matches!(layer, Layer::Lstm(_)));
        found.expect("both constructors push one")
    }

    /// As [`Self::forward`], but what comes after the recurrent layer is computed for `chunk` of its steps at a time.
    pub(super) fn forward_chunked(&self, x: Tensor<3>, chunk: usize) -> Tensor<3> {
        let (whole, local) = self.layers.split_at(self.recurrent() + 1);
        let x = whole.iter().fold(x, |x, layer| layer.forward(x));
        let hop: usize = local.iter().map(|layer| layer.ratio()[0]).product();
        in_tiles(local, &x, chunk.max(1).saturating_mul(hop), self.buffer)
    }
}

/// A decoder's stack on its way through a signal whose length is known before its steps are.
#[derive(Debug)]
pub(super) struct SeanetStream<'a> {
    /// Before and after the recurrent layer.
    local: [Part<'a>; 2],
    lstm: &'a Lstm,
    state: LstmState,
}

/// Layers of a stream that look a few steps around them.
#[derive(Debug)]
struct Part<'a> {
    layers: &'a [Layer],
    /// Of the whole signal, see [`lengths`].
    lengths: Vec<usize>,
    /// What has come in.
    seen: Option<Tensor<3>>,
    /// Steps that were given out.
    given: usize,
}

impl<'a> Part<'a> {
    fn new(layers: &'a [Layer], time: usize) -> Self {
        Self { layers, lengths: lengths(layers, time), seen: None, given: 0 }
    }

    /// Steps of the whole output.
    fn total(&self) -> usize {
        self.lengths[self.layers.len()]
    }

    fn push(&mut self, x: Tensor<3>) -> Option<Tensor<3>> {
        let seen = match self.seen.take() {
            Some(seen) => Tensor::cat(vec![seen, x], 1),
            None => x,
        };
        let known = seen.dims()[1];
        assert!(known <= self.lengths[0], "{known} steps of a signal of {}", self.lengths[0]);
        let range = self.given..reach(self.layers, &self.lengths, known);
        let output = (!range.is_empty()).then(|| one_tile(self.layers, &self.lengths, &seen, range.clone()));
        self.seen = Some(seen);
        self.given = range.end.max(self.given);
        output
    }
}

impl SeanetStream<'_> {
    /// Takes the next steps; those of the output that are certain now, if there are any.
    ///
    /// # Shapes
    /// - `x`: `[batch, time, in]`; result: `[batch, time, channel]`
    pub(super) fn push(&mut self, x: Tensor<3>) -> Option<Tensor<3>> {
        let [before, after] = &mut self.local;
        let x = before.push(x)?;
        after.push(self.lstm.go_on(&mut self.state, x))
    }
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

    /// What the next layer, a convolution, does with its input first.
    fn before(&self) -> Preceding {
        if matches!(self.layers.last(), Some(Layer::Elu(_))) { Preceding::Elu } else { Preceding::Nothing }
    }

    fn push(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    fn conv(
        &mut self,
        config: &EncodecConfig,
        channels: [usize; 2],
        kernel: usize,
        stride: usize,
    ) -> Result<(), LoadError> {
        let shape = ConvShape { channels, kernel, stride, dilation: 1 };
        let conv = conv(config, &self.next().sub("conv"), shape, &self.before())?;
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

impl Local for Layer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::ConvTranspose(conv) => conv.forward(x),
            Self::Lstm(lstm) => lstm.forward(x),
            Self::Residual(residual) => residual.forward(x),
            Self::Elu(_) => x,
        }
    }

    fn ratio(&self) -> [usize; 2] {
        match self {
            Self::Conv(conv) => [1, conv.stride()],
            Self::ConvTranspose(conv) => [conv.stride(), 1],
            Self::Lstm(_) | Self::Residual(_) | Self::Elu(_) => [1, 1],
        }
    }

    fn steps(&self, time: usize) -> usize {
        match self {
            Self::Conv(conv) => conv.steps(time),
            Self::ConvTranspose(conv) => time * conv.stride(),
            Self::Lstm(_) | Self::Residual(_) | Self::Elu(_) => time,
        }
    }

    fn inputs(&self, range: Range<isize>) -> Range<isize> {
        match self {
            Self::Conv(conv) => conv.inputs(range),
            Self::ConvTranspose(conv) => conv.inputs(range),
            Self::Residual(residual) => residual.spread.inputs(residual.join.inputs(range)),
            Self::Elu(_) => range,
            Self::Lstm(_) => unreachable!("a recurrent layer is made from all that was before"),
        }
    }

    fn numbers(&self) -> [usize; 2] {
        match self {
            Self::Conv(conv) => conv.numbers(),
            Self::ConvTranspose(conv) => conv.numbers(),
            Self::Residual(residual) => residual.spread.numbers(),
            // Computed in place by the layer after it; a recurrent layer is not tiled.
            Self::Elu(_) | Self::Lstm(_) => [0, 0],
        }
    }
}

impl Residual {
    fn load(config: &EncodecConfig, weights: &Weights, width: usize, dilation: usize) -> Result<Self, LoadError> {
        let hidden = width / config.compress;
        let block = weights.sub("block");
        let spread = ConvShape { channels: [width, hidden], kernel: config.residual_kernel_size, stride: 1, dilation };
        let join = ConvShape { channels: [hidden, width], kernel: 1, stride: 1, dilation: 1 };
        let conv = |index, shape| conv(config, &block.sub(index).sub("conv"), shape, &Preceding::Elu);
        Ok(Self { spread: conv(1, spread)?, join: conv(3, join)? })
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.join.forward(self.spread.forward(x.clone())) + x
    }
}

/// A convolution whose ends are as the configuration says.
fn conv(config: &EncodecConfig, weights: &Weights, shape: ConvShape, before: &Preceding) -> Result<Conv, LoadError> {
    let ends = match config.pad_mode {
        PadMode::Reflect => Ends::Reflected,
        PadMode::Constant => Ends::Zero,
    };
    Conv::covering(weights, shape, before, ends)
}
