//! Every layer's residual stream through the final norm and heads.

use burn::tensor::{DType, ExecutionError, Int, Tensor, TensorData};

use super::{LensError, Translators, check_layers};
use crate::{
    hooks::{Capture, EditTensors, HookPoint, Hooks, Reduce, Selector, Site, Spec, read_floats},
    metrics::log_softmax,
    models::musicgen::{Columns, DecoderState, DelayPattern, Generate, MusicGen, SequenceKey, Text, guided},
};

/// What one layer says about one token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenReading {
    /// The likeliest tokens and their probabilities, the likeliest first.
    pub top: Vec<(u32, f64)>,
    /// Entropy of the layer's distribution in nats.
    pub entropy: f64,
    /// How many tokens the layer finds likelier than the one that the whole model chose.
    pub rank: usize,
    /// `KL(last layer ‖ this layer)` in nats.
    pub kl: f64,
}

/// What one layer says along the tokens of the whole model.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerReading {
    /// Layers that have run.
    pub layer: usize,
    /// What the layer would have chosen at each step, by the random numbers of the run: `[codebook][frame]`.
    pub codes: Vec<Vec<u32>>,
    /// `[codebook][frame]`
    pub tokens: Vec<Vec<TokenReading>>,
}

/// Residual streams after every layer along given tokens: one pass over them serves all readings.
pub struct ResidualStreams<'a> {
    model: &'a MusicGen,
    how: &'a Generate,
    codes: &'a [Vec<u32>],
    pattern: DelayPattern,
    /// By layer, from the first: `[branch, step, width]`.
    after: Vec<Tensor<3>>,
}

impl<'a> ResidualStreams<'a> {
    /// Runs the decoder once over `codes` (`[codebook][frame]`), which `model` wrote for the only text in `text`.
    ///
    /// # Errors
    /// [`LensError::TooLong`] if they do not fit into one window.
    ///
    /// # Panics
    /// If `text` holds several.
    pub fn of(model: &'a MusicGen, text: &Text, codes: &'a [Vec<u32>], how: &'a Generate) -> Result<Self, LensError> {
        assert_eq!(text.mask.len(), 1, "one text at a time");
        let config = &model.config().decoder;
        let frames = codes[0].len();
        if frames > how.window.frames {
            return Err(LensError::TooLong { frames, window: how.window.frames });
        }
        let pattern = DelayPattern { codebooks: config.num_codebooks, channels: config.audio_channels, frames };
        let points: Vec<HookPoint> = (0..config.num_hidden_layers).map(|layer| Site::RESID_POST.of(layer)).collect();
        let capture = |&point: &HookPoint| Capture { points: Selector::point(point), reduce: Reduce::Everything };
        let spec = Spec { captures: points.iter().map(capture).collect(), edits: vec![] };
        let mut hooks = Hooks::new(&spec, &model.decoder().points(), &EditTensors::new())?;
        let guided = how.guidance != 1.0;
        let columns = pattern.columns() - 1;
        let mut state = DecoderState::new(model.decoder(), &mut hooks, text, guided, columns);
        let branches = if guided { 2 } else { 1 };
        let by_column: Vec<Vec<u32>> =
            (0..columns).map(|column| pattern.column(codes, column, config.pad_token_id)).collect();
        let flat: Vec<i64> = (0..pattern.codebooks)
            .flat_map(|codebook| by_column.iter().map(move |column| i64::from(column[codebook])))
            .collect();
        let input = TensorData::new(flat.repeat(branches), [branches, pattern.codebooks, columns]);
        let input = Tensor::<3, Int>::from_data(input, &model.device());
        // The logits of this pass are those of the last layer, which are computed from its stream when asked for.
        model.decoder().forward(&mut hooks, &mut state, input, Columns::Last);
        let cache = hooks.finish()?;
        let width = config.hidden_size;
        let stream = |&point: &HookPoint| {
            cache.get(point).map(|captured| captured.tensor.clone().reshape([branches, columns, width]))
        };
        Ok(Self { model, how, codes, pattern, after: points.iter().map(stream).collect::<Result<_, _>>()? })
    }

    /// `[branch, step, width]` after `layer` layers, 1 or more.
    pub(super) fn after(&self, layer: usize) -> Tensor<3> {
        self.after[layer - 1].clone()
    }

    /// The conditional branch's stream after every layer, averaged over time.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn mean_over_time(&self) -> Result<Vec<Vec<f32>>, ExecutionError> {
        let mut means = vec![];
        for stream in &self.after {
            let mean = stream.clone().slice([0..1]).cast(DType::F32).mean_dim(1);
            means.push(read_floats(mean).await?);
        }
        Ok(means)
    }

    /// What each of `layers` says about every token, guided as the run was; `top` tokens are kept of each reading.
    ///
    /// `translators` move the streams of all layers but the last one first. `key` is that of the run, whose random numbers
    /// choose every layer's tokens. The last layer's reading is that of the whole model.
    ///
    /// # Errors
    /// [`LensError`].
    pub async fn readings(
        &self,
        key: &SequenceKey,
        layers: &[usize],
        translators: Option<&Translators>,
        top: usize,
    ) -> Result<Vec<LayerReading>, LensError> {
        check_layers(self.model, layers)?;
        let all = self.after.len();
        let vocabulary = self.model.config().decoder.vocab_size;
        let last = log_probabilities(&self.logits(all, None).await?, vocabulary);
        let mut readings = vec![];
        for &layer in layers {
            let logits = self.logits(layer, translators.filter(|_| layer < all)).await?;
            readings.push(self.reading(key, layer, &logits, &last, top));
        }
        Ok(readings)
    }

    /// Guided logits that `layer` gives, `[codebook, step, vocabulary]` in row-major order; those of a step are about the
    /// next column.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn logits(&self, layer: usize, translators: Option<&Translators>) -> Result<Vec<f32>, ExecutionError> {
        let stream = self.after(layer);
        let stream = match translators {
            Some(translators) => translators.apply(self.model.decoder().kernels(), layer, stream),
            None => stream,
        };
        let logits = self.model.decoder().read_out(&mut Hooks::none(), stream);
        let logits = guided(self.model.decoder().kernels(), logits.split(1, 0), self.how.guidance);
        read_floats(logits).await
    }

    fn reading(&self, key: &SequenceKey, layer: usize, logits: &[f32], last: &[Vec<f64>], top: usize) -> LayerReading {
        let vocabulary = self.model.config().decoder.vocab_size;
        let steps = self.pattern.columns() - 1;
        let (mut codes, mut tokens) = (vec![], vec![]);
        for codebook in 0..self.pattern.codebooks {
            let (mut chosen, mut read) = (vec![], vec![]);
            for step in 0..steps {
                // The logits of a step are about the next column.
                let Some(frame) = self.pattern.frame(codebook, step + 1) else { continue };
                let row = codebook * steps + step;
                let logits = &logits[row * vocabulary..][..vocabulary];
                chosen.push(self.how.sampling.choose(logits, key, codebook, step + 1).token);
                read.push(read_token(logits, &last[row], self.codes[codebook][frame], top));
            }
            codes.push(chosen);
            tokens.push(read);
        }
        LayerReading { layer, codes, tokens }
    }
}

/// Log-probabilities of rows of `vocabulary` logits.
fn log_probabilities(logits: &[f32], vocabulary: usize) -> Vec<Vec<f64>> {
    let wide = |row: &[f32]| row.iter().map(|&logit| f64::from(logit)).collect::<Vec<f64>>();
    logits.chunks_exact(vocabulary).map(|row| log_softmax(&wide(row))).collect()
}

pub(super) fn read_token(logits: &[f32], last: &[f64], chosen: u32, top: usize) -> TokenReading {
    let wide: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
    let log = log_softmax(&wide);
    let mut order: Vec<u32> = (0..log.len() as u32).collect();
    let likelier = |a: &u32, b: &u32| log[*b as usize].total_cmp(&log[*a as usize]).then(a.cmp(b));
    let top = top.min(order.len());
    if top > 0 && top < order.len() {
        order.select_nth_unstable_by(top - 1, likelier);
    }
    order.truncate(top);
    order.sort_unstable_by(likelier);
    TokenReading {
        top: order.into_iter().map(|token| (token, log[token as usize].exp())).collect(),
        entropy: -log.iter().map(|log| log.exp() * log).sum::<f64>(),
        rank: log.iter().filter(|&&other| other > log[chosen as usize]).count(),
        kl: last.iter().zip(&log).map(|(last, this)| last.exp() * (last - this)).sum(),
    }
}
