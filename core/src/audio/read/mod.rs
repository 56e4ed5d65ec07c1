//! The one reader of sound files.
//!
//! Uncompressed sound (WAV, RF64, BW64, Wave64, AIFF, AIFC) is read here, so that every sample is the file's own.
//! Compressed sound (FLAC, MP3, Ogg Vorbis, Opus, AAC, ALAC) is decoded by symphonia and ropus, with the feature `formats`.

mod aiff;
#[cfg(feature = "formats")]
mod compressed;
mod format;
mod pcm;
mod wav;
mod wave64;

#[cfg(test)]
mod tests;

pub use format::SoundFormat;

use super::{AudioError, Waveform};

impl Waveform {
    /// The sound of a file whose content is `bytes`, whatever its name; see [`SoundFormat`] for what is read.
    ///
    /// Integers are scaled by half their range, so that 16-bit samples are multiples of 1/32768. What an encoder added
    /// before and after the sound is cut off where the file says how much it is. Memory is bounded by the file's size.
    ///
    /// # Errors
    /// [`AudioError`] if it is no sound file, is of a kind that is not read, is damaged or cut short, or holds no sound.
    pub fn decode(bytes: &[u8]) -> Result<Self, AudioError> {
        match SoundFormat::of(bytes)? {
            SoundFormat::Wav => wav::read(bytes)?.decode(),
            SoundFormat::Wave64 => wave64::read(bytes)?.decode(),
            SoundFormat::Aiff => aiff::read(bytes)?.decode(),
            #[cfg(feature = "formats")]
            format => compressed::decode(bytes, format),
            #[cfg(not(feature = "formats"))]
            format => Err(AudioError::Unread { format: format.name().to_owned() }),
        }
    }

    /// The sound of a file that `reader` reads, as [`Self::decode`].
    ///
    /// # Errors
    /// [`AudioError`], also if it cannot be read to its end.
    pub fn from_wav(mut reader: impl std::io::Read) -> Result<Self, AudioError> {
        let mut bytes = vec![];
        reader.read_to_end(&mut bytes).map_err(|error| AudioError::Read { reason: error.to_string() })?;
        Self::decode(&bytes)
    }
}

/// Reads numbers from the front of some bytes; `None` past their end.
trait Take<'a> {
    fn take_bytes(&mut self, count: usize) -> Option<&'a [u8]>;

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take_bytes(N)?.try_into().ok()
    }
}

impl<'a> Take<'a> for &'a [u8] {
    fn take_bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.split_at_checked(count)?;
        *self = rest;
        Some(taken)
    }
}
