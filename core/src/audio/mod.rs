//! Sound: samples, their files, their rates.

mod fidelity;
mod read;
mod resample;
mod sinc;
mod spectrum;
mod wav;

pub use fidelity::{mel_distance, si_sdr};
pub use read::SoundFormat;
pub(crate) use spectrum::{Banks, ShortTime, mirrored};
pub use wav::WavFormat;

/// Sound that cannot be read, written or changed as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AudioError {
    /// No sound file.
    #[error("not a sound file: {begins}")]
    Unknown {
        /// How it begins.
        begins: String,
    },
    /// A kind of file that is not read.
    #[error("this is {format}, which is not read as sound")]
    Unread {
        /// Which kind.
        format: String,
    },
    /// A damaged file, or one whose header contradicts itself.
    #[error("not {format} file: {reason}")]
    Malformed {
        /// The kind that it seems to be, with an article.
        format: String,
        /// What the reader stumbled over.
        reason: String,
    },
    /// A file whose sound is stored in a way that is not read.
    #[error("{format} file of an unsupported kind: {reason}")]
    Unsupported {
        /// The kind of file.
        format: String,
        /// How its sound is stored.
        reason: String,
    },
    /// The file ends before its header says so.
    #[error("the file is cut short: its header promises {promised} samples, there are {found}")]
    Truncated {
        /// Samples of all channels by the header.
        promised: usize,
        /// Samples of all channels in the file.
        found: usize,
    },
    /// The file cannot be read to its end.
    #[error("cannot read the file: {reason}")]
    Read {
        /// Why not.
        reason: String,
    },
    /// No sound at all.
    #[error("audio has no samples")]
    Empty,
    /// A sample that is not a number, or infinite.
    #[error("sample {sample} of channel {channel} is {value}, expected a finite number")]
    NotFinite {
        /// Channel, from 0.
        channel: usize,
        /// Place in the channel, from 0.
        sample: usize,
        /// `NaN`, `inf` or `-inf`.
        value: String,
    },
    /// Channels of different lengths.
    #[error("channel {channel} has {found} samples, channel 0 has {expected}")]
    Ragged {
        /// The other channel.
        channel: usize,
        /// Its length.
        found: usize,
        /// Length of the first.
        expected: usize,
    },
    /// A number of channels that cannot be made of what there is.
    #[error("audio has {found} channels, which cannot be made {expected}")]
    Channels {
        /// Channels asked for.
        expected: usize,
        /// Channels there are.
        found: usize,
    },
    /// A sample rate outside [`Waveform::RATES`].
    #[error("sample rate {rate} Hz is outside {} to {} Hz", Waveform::RATES.start(), Waveform::RATES.end())]
    Rate {
        /// The rate.
        rate: u32,
    },
    /// More samples than a WAV file can hold (4 GiB).
    #[error("audio is too long for a WAV file: {bytes} bytes")]
    TooLong {
        /// Size of the samples.
        bytes: usize,
    },
}

/// Sound in memory: at least one channel of at least one sample, all finite, all of one length.
#[derive(Debug, Clone, PartialEq)]
pub struct Waveform {
    channels: Vec<Vec<f32>>,
    sample_rate: u32,
}

impl Waveform {
    /// Sample rates that sound can have, in Hz.
    pub const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;

    /// Sound of `channels`; what lies beyond ±1 is clipped when it is written as integers.
    ///
    /// # Errors
    /// [`AudioError`] if there is no sample, a sample is not finite, channels differ in length, or the rate is absurd.
    pub fn new(channels: Vec<Vec<f32>>, sample_rate: u32) -> Result<Self, AudioError> {
        if !Self::RATES.contains(&sample_rate) {
            return Err(AudioError::Rate { rate: sample_rate });
        }
        let expected = channels.first().map_or(0, Vec::len);
        if expected == 0 {
            return Err(AudioError::Empty);
        }
        for (channel, samples) in channels.iter().enumerate() {
            if samples.len() != expected {
                return Err(AudioError::Ragged { channel, found: samples.len(), expected });
            }
            if let Some(sample) = samples.iter().position(|value| !value.is_finite()) {
                return Err(AudioError::NotFinite { channel, sample, value: samples[sample].to_string() });
            }
        }
        Ok(Self { channels, sample_rate })
    }

    /// The channels, all of the same length.
    pub fn channels(&self) -> &[Vec<f32>] {
        &self.channels
    }

    /// Samples of one channel; never 0.
    pub fn samples(&self) -> usize {
        self.channels[0].len()
    }

    /// Samples per second.
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples() as f64 / f64::from(self.sample_rate)
    }

    /// The largest absolute sample.
    pub fn peak(&self) -> f32 {
        self.channels.iter().flatten().fold(0.0, |peak, sample| sample.abs().max(peak))
    }

    /// Scales all channels together so that the largest sample lies `headroom_db` below full scale, as audiocraft's
    /// `audio_write` does with `strategy="peak"` and a headroom of 1 dB. Silence stays silence, also where a peak is so
    /// small (below 1e-38) that its inverse is not a number.
    #[must_use]
    pub fn normalise_peak(mut self, headroom_db: f32) -> Self {
        let scale = 10f32.powf(-headroom_db / 20.0) / self.peak();
        if scale.is_finite() {
            self.channels.iter_mut().flatten().for_each(|sample| *sample *= scale);
        }
        self
    }

    /// The mean of all channels.
    #[must_use]
    pub fn to_mono(self) -> Self {
        if self.channels.len() == 1 {
            return self;
        }
        let share = 1.0 / self.channels.len() as f32;
        let mean = |sample: usize| self.channels.iter().map(|channel| channel[sample] * share).sum();
        Self { channels: vec![(0..self.samples()).map(mean).collect()], sample_rate: self.sample_rate }
    }

    /// As many channels as asked for: one is the mean of all, many of one are copies.
    ///
    /// # Errors
    /// [`AudioError::Channels`] for any other change.
    pub fn with_channels(self, channels: usize) -> Result<Self, AudioError> {
        match (self.channels.len(), channels) {
            (found, expected) if found == expected => Ok(self),
            (_, 1) => Ok(self.to_mono()),
            (1, 2..) => Ok(Self { channels: vec![self.channels[0].clone(); channels], ..self }),
            (found, expected) => Err(AudioError::Channels { expected, found }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sound_is_a_waveform() {
        let new = |channels: &[&[f32]], rate| Waveform::new(channels.iter().map(|c| c.to_vec()).collect(), rate);
        assert_eq!(new(&[], 32_000), Err(AudioError::Empty));
        assert_eq!(new(&[&[], &[]], 32_000), Err(AudioError::Empty));
        assert_eq!(new(&[&[0.0]], 0), Err(AudioError::Rate { rate: 0 }));
        let ragged = AudioError::Ragged { channel: 1, found: 1, expected: 2 };
        assert_eq!(new(&[&[0.0, 1.0], &[0.0]], 32_000), Err(ragged));
        let error = new(&[&[0.0, 1.0], &[0.0, f32::NEG_INFINITY]], 32_000).expect_err("not finite");
        assert_eq!(error.to_string(), "sample 1 of channel 1 is -inf, expected a finite number");
    }

    #[test]
    fn peak_is_normalised_as_audiocraft_does() {
        let wave = Waveform::new(vec![vec![0.1, -0.5], vec![0.25, 0.0]], 32_000).expect("sound");
        let normal = wave.normalise_peak(1.0);
        let expected = 10f32.powf(-0.05);
        assert!((normal.peak() - expected).abs() < 1e-6);
        assert!((normal.channels()[1][0] - expected / 2.0).abs() < 1e-6);
        let silence = Waveform::new(vec![vec![0.0; 3]], 32_000).expect("sound");
        assert_eq!(silence.clone().normalise_peak(1.0), silence);
    }

    #[test]
    fn channels_are_mixed_or_copied() {
        let stereo = Waveform::new(vec![vec![0.5, 1.0], vec![0.25, -1.0]], 32_000).expect("sound");
        let mono = stereo.clone().with_channels(1).expect("a mix");
        assert_eq!(mono.channels(), [vec![0.375, 0.0]]);
        assert_eq!(mono.with_channels(2).expect("copies").channels(), [vec![0.375, 0.0], vec![0.375, 0.0]]);
        let error = stereo.with_channels(3).expect_err("no way");
        assert_eq!(error, AudioError::Channels { expected: 3, found: 2 });
    }
}
