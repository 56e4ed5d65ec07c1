//! Writing WAV files.

use std::io::Cursor;

use hound::{Error, SampleFormat, WavSpec, WavWriter};

use super::{AudioError, Waveform};

/// How samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WavFormat {
    /// 16-bit integers: samples beyond ±1 are clipped.
    Pcm16,
    /// 32-bit floating point, sample for sample.
    Float32,
}

impl Waveform {
    /// The whole WAV file, ready to be written at once.
    ///
    /// Integers are rounded to the nearest and clipped.
    ///
    /// # Errors
    /// [`AudioError::TooLong`] if the sound does not fit into 4 GiB; [`AudioError::Channels`] beyond 65535 channels.
    pub fn to_wav_bytes(&self, format: WavFormat) -> Result<Vec<u8>, AudioError> {
        let found = self.channels.len();
        let channels = u16::try_from(found).map_err(|_| AudioError::Channels { expected: 65_535, found })?;
        let (bits_per_sample, sample_format) = match format {
            WavFormat::Pcm16 => (16, SampleFormat::Int),
            WavFormat::Float32 => (32, SampleFormat::Float),
        };
        let bytes = self.samples() * found * usize::from(bits_per_sample / 8);
        let too_long = || AudioError::TooLong { bytes };
        if u32::try_from(bytes).is_err() {
            return Err(too_long());
        }
        let mut file = Vec::with_capacity(bytes + 128);
        let spec = WavSpec { channels, sample_rate: self.sample_rate, bits_per_sample, sample_format };
        let mut write = || {
            let mut writer = WavWriter::new(Cursor::new(&mut file), spec)?;
            for sample in 0..self.samples() {
                for channel in &self.channels {
                    match format {
                        WavFormat::Pcm16 => writer.write_sample(to_i16(channel[sample]))?,
                        WavFormat::Float32 => writer.write_sample(channel[sample])?,
                    }
                }
            }
            writer.finalize()
        };
        // Memory does not fail; what is left is a size that the header cannot say.
        write().map_err(|_: Error| too_long())?;
        Ok(file)
    }
}

fn to_i16(sample: f32) -> i16 {
    (f64::from(sample) * 32768.0).round().clamp(-32768.0, 32767.0) as i16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wave(channels: &[&[f32]]) -> Waveform {
        Waveform::new(channels.iter().map(|channel| channel.to_vec()).collect(), 32_000).expect("sound")
    }

    fn written(bits_per_sample: u16, samples: &[i32]) -> Vec<u8> {
        let spec = WavSpec { channels: 1, sample_rate: 32_000, bits_per_sample, sample_format: SampleFormat::Int };
        let mut bytes = Vec::new();
        let mut writer = WavWriter::new(Cursor::new(&mut bytes), spec).expect("memory");
        for &sample in samples {
            writer.write_sample(sample).expect("memory");
        }
        writer.finalize().expect("memory");
        bytes
    }

    #[test]
    fn floats_come_back_as_they_were() {
        let wave = wave(&[&[0.0, 1.5, -0.25], &[1e-9, -3.0, f32::MIN_POSITIVE]]);
        let bytes = wave.to_wav_bytes(WavFormat::Float32).expect("small");
        assert_eq!(Waveform::decode(&bytes), Ok(wave));
    }

    #[test]
    fn integers_are_rounded_and_clipped() {
        let bytes = wave(&[&[0.0, 0.5, 1.0, -1.0, 7.0, -7.0, 0.6 / 32768.0]]).to_wav_bytes(WavFormat::Pcm16);
        let read = Waveform::decode(&bytes.expect("small")).expect("a WAV file");
        let most = 32767.0 / 32768.0;
        assert_eq!(read.channels(), [vec![0.0, 0.5, most, -1.0, most, -1.0, 1.0 / 32768.0]]);
    }

    #[test]
    fn every_width_of_integers_is_read() {
        for bits in [8, 16, 24, 32] {
            let full = 1i64 << (bits - 1);
            let samples = [0, -full, full / 2, -full / 4].map(|sample| i32::try_from(sample).expect("fits"));
            let read = Waveform::decode(&written(bits, &samples)).expect("a WAV file");
            assert_eq!(read.channels(), [vec![0.0, -1.0, 0.5, -0.25]], "{bits} bits");
        }
    }

    #[test]
    fn what_is_no_sound_is_refused() {
        let read = |bytes: &[u8]| Waveform::decode(bytes).expect_err("no sound").to_string();
        assert_eq!(read(b""), "not a sound file: it is empty");
        assert_eq!(read(b"RIFF"), "not a WAV file: it ends within its header");
        assert_eq!(read(b"A letter to a friend"), "not a sound file: it begins with `A letter to `");
        assert_eq!(read(b"wvpk and so on"), "this is WavPack, which is not read as sound");
        assert_eq!(read(&written(16, &[])), "audio has no samples");
        let float = wave(&[&[0.0; 8]]).to_wav_bytes(WavFormat::Float32).expect("small");
        let mut nan = float.clone();
        let last = nan.len() - 4;
        nan[last..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(read(&nan), "sample 7 of channel 0 is NaN, expected a finite number");
    }

    #[test]
    fn a_header_that_lies_is_believed_only_as_far_as_the_file_goes() {
        let mut bytes = written(16, &[1, 2, 3]);
        let length = bytes.len() - 3 * 2 - 4;
        bytes[length..length + 4].copy_from_slice(&0xffff_fffe_u32.to_le_bytes());
        let expected = AudioError::Truncated { promised: 0x7fff_ffff, found: 3 };
        assert_eq!(Waveform::decode(&bytes), Err(expected));
        bytes.truncate(bytes.len() - 3);
        let expected = AudioError::Truncated { promised: 0x7fff_ffff, found: 1 };
        assert_eq!(Waveform::decode(&bytes), Err(expected));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0usize..60, values in proptest::collection::vec(any::<u8>(), 1..24), cut in 0usize..90) {
            let mut bytes = wave(&[&[0.5; 9], &[0.25; 9]]).to_wav_bytes(WavFormat::Float32).expect("small");
            let end = (at + values.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&values[..end - at]);
            bytes.truncate(bytes.len().saturating_sub(cut));
            let _ = Waveform::decode(&bytes);
        }
    }
}
