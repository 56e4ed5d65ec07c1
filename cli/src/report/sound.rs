//! Pictures of a sound: its outline and its spectrogram.

use std::fmt::Write;

use anyhow::Result;
use rustfft::{FftPlanner, num_complex::Complex};
use tonoscope_core::audio::Waveform;

use crate::{figures, png};

/// Samples under the window.
const WINDOW: usize = 2048;
/// Least samples between columns.
const HOP: usize = 256;
/// Most columns of a picture.
const COLUMNS: usize = 640;
/// Rows of the spectrogram, evenly spread over the logarithm of the frequency.
const ROWS: usize = 120;
/// Edges of the spectrogram, Hz. Fixed, so that pictures can be compared; the page's style sheet knows them too.
const EDGES: (f64, f64) = (50.0, 16_000.0);
/// From the loudest point of a spectrogram down to its darkest colour, dB.
const RANGE: f64 = 80.0;

/// The outline as the data of an SVG path in a box `columns` wide and 2 high, the zero line in its middle; and `columns`.
pub(super) fn outline(wave: &Waveform) -> (String, usize) {
    let samples = wave.samples();
    let columns = samples.min(COLUMNS);
    let extremes = |column: usize| {
        let (from, to) =
            (column * samples / columns, ((column + 1) * samples / columns).max(column * samples / columns + 1));
        let inside = wave.channels().iter().flat_map(|channel| &channel[from..to]);
        inside.fold((0.0f32, 0.0f32), |(low, high), sample| (low.min(*sample), high.max(*sample)))
    };
    let extremes: Vec<(f32, f32)> = (0..columns).map(extremes).collect();
    let mut path = String::from("M0 1");
    let place = |sample: f32| 1.0 - sample.clamp(-1.0, 1.0);
    for (column, (_, high)) in extremes.iter().enumerate() {
        let _ = write!(path, "L{column} {:.3}", place(*high));
    }
    for (column, (low, _)) in extremes.iter().enumerate().rev() {
        let _ = write!(path, "L{column} {:.3}", place(*low));
    }
    path.push('Z');
    (path, columns)
}

/// The spectrogram of all channels' mean as PNG: time from the left, the logarithm of the frequency from below.
pub(super) fn spectrogram(wave: &Waveform) -> Result<Vec<u8>> {
    let mono = mean(wave);
    let hop = HOP.max(mono.len().div_ceil(COLUMNS));
    let columns = mono.len().div_ceil(hop).max(1);
    let bands = bands(f64::from(wave.sample_rate()));
    let window: Vec<f32> =
        (0..WINDOW).map(|i| (std::f32::consts::PI * i as f32 / WINDOW as f32).sin().powi(2)).collect();
    let transform = FftPlanner::new().plan_fft_forward(WINDOW);
    let mut scratch = vec![Complex::default(); transform.get_inplace_scratch_len()];
    let mut frame = vec![Complex::default(); WINDOW];
    let mut power = vec![0.0f32; ROWS * columns];
    for column in 0..columns {
        // Centred: half a window before the first sample is silence.
        for (i, (value, weight)) in frame.iter_mut().zip(&window).enumerate() {
            let sample = (column * hop + i).checked_sub(WINDOW / 2).and_then(|at| mono.get(at)).copied().unwrap_or(0.0);
            *value = Complex::new(sample * weight, 0.0);
        }
        transform.process_with_scratch(&mut frame, &mut scratch);
        for (row, band) in bands.iter().enumerate() {
            power[row * columns + column] = band.power(&frame);
        }
    }
    let loudest = power.iter().copied().fold(0.0f32, f32::max);
    let byte = |power: &f32| {
        // Silence is dark, not undefined.
        let decibels = 10.0 * f64::from((power / loudest.max(f32::MIN_POSITIVE)).max(1e-30)).log10();
        #[expect(clippy::cast_sign_loss, reason = "clamped")]
        let byte = (255.0 * (1.0 + decibels / RANGE).clamp(0.0, 1.0)).round() as u8;
        byte
    };
    let pixels: Vec<u8> = power.chunks(columns).rev().flatten().map(byte).collect();
    Ok(encode(&pixels, u32::try_from(columns)?, ROWS as u32))
}

fn mean(wave: &Waveform) -> Vec<f32> {
    let scale = 1.0 / wave.channels().len() as f32;
    (0..wave.samples()).map(|at| wave.channels().iter().map(|channel| channel[at]).sum::<f32>() * scale).collect()
}

/// What a row of the spectrogram shows, in bins of the transform.
enum Band {
    /// Beyond half the sample rate.
    Nothing,
    /// Narrower than a bin: between the bin below and the one above, with the weight of the latter.
    Between(usize, f32),
    /// The loudest of these.
    Loudest(usize, usize),
}

impl Band {
    fn power(&self, bins: &[Complex<f32>]) -> f32 {
        match self {
            Self::Nothing => 0.0,
            Self::Between(below, weight) => {
                bins[*below].norm_sqr() * (1.0 - weight) + bins[below + 1].norm_sqr() * weight
            }
            Self::Loudest(first, last) => bins[*first..=*last].iter().map(Complex::norm_sqr).fold(0.0, f32::max),
        }
    }
}

fn bands(sample_rate: f64) -> Vec<Band> {
    let (low, high) = EDGES;
    let edge = |row: f64| low * (high / low).powf(row / ROWS as f64) * WINDOW as f64 / sample_rate;
    let last = (WINDOW / 2) as f64;
    let band = |row: usize| {
        let (from, to) = (edge(row as f64), edge(row as f64 + 1.0));
        let middle = f64::midpoint(from, to);
        #[expect(clippy::cast_sign_loss, reason = "frequencies are positive")]
        let (first, end, below) = (from.ceil() as usize, to.floor() as usize, middle.floor() as usize);
        if middle >= last {
            Band::Nothing
        } else if first < end {
            Band::Loudest(first, end.min(WINDOW / 2))
        } else {
            Band::Between(below, (middle - below as f64) as f32)
        }
    };
    (0..ROWS).map(band).collect()
}

fn encode(pixels: &[u8], width: u32, height: u32) -> Vec<u8> {
    let palette: Vec<u8> = (0..=255u8).flat_map(|byte| figures::sequential(f64::from(byte) / 255.0)).collect();
    png::encode(pixels, width, height, &png::Colours::Palette(&palette), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hertz: f32, sample_rate: u32, samples: usize) -> Waveform {
        let sample = |i: usize| 0.5 * (std::f32::consts::TAU * hertz * i as f32 / sample_rate as f32).sin();
        Waveform::new(vec![(0..samples).map(sample).collect()], sample_rate).unwrap()
    }

    fn brightest_row(wave: &Waveform) -> (usize, u32, u32) {
        let image = png::decode(&spectrogram(wave).unwrap());
        let (width, height) = (image.width, image.height);
        let row = (0..height).max_by_key(|row| image.pixels[row * width + width / 2]).unwrap();
        (row, width as u32, height as u32)
    }

    #[test]
    fn a_sine_is_a_line_at_its_frequency() {
        for (hertz, rate) in [(440.0, 32_000), (4_000.0, 32_000), (1_000.0, 8_000), (100.0, 48_000)] {
            let (row, width, height) = brightest_row(&sine(hertz, rate, rate as usize));
            let share = (f64::from(hertz) / EDGES.0).ln() / (EDGES.1 / EDGES.0).ln();
            let expected = (1.0 - share) * f64::from(height);
            assert!((row as f64 + 0.5 - expected).abs() < 4.0, "{hertz} Hz at {rate}: row {row}, expected {expected}");
            assert!(width as usize <= COLUMNS && width > 30);
        }
    }

    #[test]
    fn silence_and_a_single_sample_are_drawn() {
        for samples in [1, 5, 40_000] {
            let silence = Waveform::new(vec![vec![0.0; samples]; 2], 32_000).unwrap();
            assert!(spectrogram(&silence).unwrap().starts_with(b"\x89PNG"));
            let (path, columns) = outline(&silence);
            assert!(path.starts_with("M0 1L0 1.000") && path.ends_with('Z'));
            assert_eq!(columns, samples.min(COLUMNS));
        }
    }

    #[test]
    fn the_outline_reaches_the_peaks_of_any_channel() {
        let mut loud = vec![0.0; 1000];
        loud[500] = 0.75;
        loud[501] = -2.0;
        let (path, _) = outline(&Waveform::new(vec![vec![0.1; 1000], loud], 32_000).unwrap());
        assert!(path.contains(" 0.250") && path.contains(" 2.000") && path.contains(" 0.900"), "{path}");
    }
}
