//! Sound in memory and in files.

use std::{
    fs,
    io::{BufReader, Write},
    path::Path,
};

use tonoscope_core::audio::{WavFormat, Waveform};

use crate::{Error, Result};

/// Sound: at least one channel of at least one sample, all finite.
///
/// ```
/// use tonoscope::prelude::*;
///
/// let tone = (0..32_000).map(|sample| (sample as f32 * 0.05).sin() * 0.5).collect();
/// let audio = Audio::new(vec![tone], 32_000)?;
/// assert_eq!(audio.seconds(), 1.0);
/// # let folder = std::env::temp_dir().join(format!("tonoscope-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let path = folder.join("tone.wav");
/// audio.save(&path)?;
/// assert_eq!(Audio::open(&path)?.sample_rate(), 32_000);
/// # std::fs::remove_dir_all(folder).unwrap();
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Audio(Waveform);

impl Audio {
    /// Sound of channels, −1 to 1.
    ///
    /// # Errors
    /// [`Error::Audio`] if there is no sample, a sample is not finite, channels differ in length, or the rate is absurd.
    pub fn new(channels: Vec<Vec<f32>>, sample_rate: u32) -> Result<Self> {
        Ok(Self(Waveform::new(channels, sample_rate)?))
    }

    /// Reads a file of sound.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::AudioFile`] if it is no sound.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = fs::File::open(path).map_err(Error::io("read", path))?;
        let wave = Waveform::from_wav(BufReader::new(file));
        wave.map(Self).map_err(|source| Error::AudioFile { path: path.to_owned(), source })
    }

    /// Writes a 16-bit WAV file; samples beyond ±1 are clipped. The file appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written, [`Error::Audio`] if the sound is too long for a WAV file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write_whole(path.as_ref(), &self.0.to_wav_bytes(WavFormat::Pcm16)?)
    }

    /// As [`Self::save`], with 32-bit floats: sample for sample.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_float(&self, path: impl AsRef<Path>) -> Result<()> {
        write_whole(path.as_ref(), &self.0.to_wav_bytes(WavFormat::Float32)?)
    }

    /// The channels, all of one length.
    pub fn channels(&self) -> &[Vec<f32>] {
        self.0.channels()
    }

    /// Samples of the first channel: all there is of mono sound.
    pub fn samples(&self) -> &[f32] {
        &self.0.channels()[0]
    }

    /// Samples per second.
    pub fn sample_rate(&self) -> u32 {
        self.0.sample_rate()
    }

    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.0.seconds()
    }

    /// The first `seconds` of it; all of it if it is shorter.
    ///
    /// # Errors
    /// [`Error::Audio`] if nothing is left.
    pub fn cut(self, seconds: f64) -> Result<Self> {
        let keep = (seconds * f64::from(self.sample_rate())).round().max(0.0) as usize;
        if keep >= self.0.samples() {
            return Ok(self);
        }
        Self::new(self.channels().iter().map(|channel| channel[..keep].to_vec()).collect(), self.sample_rate())
    }

    /// As core knows it.
    pub fn waveform(&self) -> &Waveform {
        &self.0
    }

    /// As core knows it.
    pub fn into_waveform(self) -> Waveform {
        self.0
    }
}

impl From<Waveform> for Audio {
    fn from(wave: Waveform) -> Self {
        Self(wave)
    }
}

impl AsRef<Audio> for Audio {
    fn as_ref(&self) -> &Audio {
        self
    }
}

/// Writes a file that appears whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".tonoscope-").tempfile_in(folder)?;
        file.write_all(bytes)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // Temporary files are private; results are for everybody who may read the folder.
            file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        file.persist(path)?;
        Ok(())
    };
    write().map_err(Error::io("write", path))
}
