//! How far apart two sounds are, in mel bands of several resolutions; differentiable.

use burn::tensor::{Device, Tensor, TensorData};

/// Added to magnitudes before the logarithm: what is 80 dB below full scale counts as silence.
const FLOOR: f64 = 1e-4;
/// Added to powers, whose root has no slope at zero.
const LEAST_POWER: f64 = 1e-9;

/// The longest window that hears all frequencies; one twice as long hears their lower half, and so on. What is high is told
/// apart well enough by short windows, and half of the work of windows of 256 to 2048 samples is left out.
const LONGEST_WHOLE: usize = 512;

/// Short-time spectra as products with a table of windowed sines, since a gradient passes through those.
#[derive(Debug, Clone)]
pub struct Spectra {
    scales: Vec<Scale>,
}

#[derive(Debug, Clone)]
struct Scale {
    size: usize,
    bins: usize,
    /// `[size, 2 · bins]`: cosines, then sines, under a Hann window of sum 1.
    waves: Tensor<2>,
    /// `[bins, bands]`; the weights of a band sum to 1.
    bands: Tensor<2>,
}

impl Spectra {
    /// Windows of `sizes` samples, every quarter of one, each seen in `size / 16` mel bands, at most 64, up to half the sample
    /// rate; of windows longer than 512 samples, up to so much less as they are longer.
    pub fn new(sizes: &[usize], sample_rate: u32, device: &Device) -> Self {
        let device = device.clone().inner();
        Self { scales: sizes.iter().map(|&size| Scale::new(size, sample_rate, &device)).collect() }
    }

    /// Mean absolute difference of the natural logarithms of all bands at all times; 1 is 8.7 dB. 0 without
    /// windows.
    ///
    /// # Shapes
    /// - `heard`, `wanted`: `[batch, sample]`, −1 to 1, at least one window long; result: `[1]`
    pub fn distance(&self, heard: &Tensor<2>, wanted: &Tensor<2>) -> Tensor<1> {
        let count = self.scales.len().max(1) as f64;
        let scale = |scale: &Scale| (scale.log_bands(heard.clone()) - scale.log_bands(wanted.clone())).abs().mean();
        let sum = self.scales.iter().map(scale).reduce(|sum, next| sum + next);
        sum.unwrap_or_else(|| Tensor::zeros([1], &heard.device())) / count
    }
}

impl Scale {
    fn new(size: usize, sample_rate: u32, device: &Device) -> Self {
        let bins = (size / 2).min(LONGEST_WHOLE / 2) + 1;
        let step = std::f64::consts::TAU / size as f64;
        let mut waves = Vec::with_capacity(size * 2 * bins);
        for sample in 0..size {
            let window = (1.0 - (step * sample as f64).cos()) / size as f64;
            // The angle of whole turns is left out, so that large products keep their precision.
            let angle = |bin: usize| step * (bin * sample % size) as f64;
            waves.extend((0..bins).map(|bin| (window * angle(bin).cos()) as f32));
            waves.extend((0..bins).map(|bin| (window * angle(bin).sin()) as f32));
        }
        let count = (size / 16).clamp(4, 64);
        let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
        let top = mel(f64::from(sample_rate) * (bins - 1) as f64 / size as f64);
        let place = |bin: usize| mel(bin as f64 * f64::from(sample_rate) / size as f64) / top * (count + 1) as f64;
        let mut bands = vec![0.0f32; bins * count];
        for band in 0..count {
            let weight = |bin: usize| (1.0 - (place(bin) - (band + 1) as f64).abs()).max(0.0);
            let sum: f64 = (0..bins).map(weight).sum();
            // A band narrower than a bin takes the nearest one.
            let nearest = (0..bins).min_by(|&a, &b| {
                let off = |bin: usize| (place(bin) - (band + 1) as f64).abs();
                off(a).total_cmp(&off(b))
            });
            for bin in 0..bins {
                let share = if sum > 1e-3 { weight(bin) / sum } else { f64::from(u8::from(nearest == Some(bin))) };
                bands[bin * count + band] = share as f32;
            }
        }
        Self {
            size,
            bins,
            waves: Tensor::from_data(TensorData::new(waves, [size, 2 * bins]), device),
            bands: Tensor::from_data(TensorData::new(bands, [bins, count]), device),
        }
    }

    /// `[batch, sample]` → `[batch · frame, band]`; a rest shorter than a hop is left out.
    fn log_bands(&self, x: Tensor<2>) -> Tensor<2> {
        let [batch, samples] = x.dims();
        let hop = self.size / 4;
        let hops = samples / hop;
        let hopped = x.narrow(1, 0, hops * hop).reshape([batch, hops, hop]);
        let frames = hops - 3;
        let quarters = (0..4).map(|quarter| hopped.clone().narrow(1, quarter, frames)).collect();
        let framed = Tensor::cat(quarters, 2).reshape([batch * frames, self.size]);
        let waves = framed.matmul(self.waves.clone());
        let [real, imaginary] = [0, self.bins].map(|from| waves.clone().narrow(1, from, self.bins));
        let power = real.clone() * real + imaginary.clone() * imaginary;
        ((power + LEAST_POWER).sqrt().matmul(self.bands.clone()) + FLOOR).log()
    }
}
