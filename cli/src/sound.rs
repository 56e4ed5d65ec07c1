//! Sound from files of any kind that is read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use tonoscope_core::audio::{AudioError, SoundFormat, Waveform};

/// The sound of a file; its content says which kind it is.
pub(crate) fn read_sound(path: &Path) -> Result<Waveform> {
    let bytes = fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Waveform::decode(&bytes).map_err(|error| Refused::new(path, error).into())
}

/// A sound file that is refused, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("`{path}`: {error}")]
pub(crate) struct Refused {
    path: String,
    error: AudioError,
}

impl Refused {
    fn new(path: &Path, error: AudioError) -> Self {
        Self { path: path.display().to_string(), error }
    }

    /// How to convert the file, where that helps.
    pub(crate) fn hint(&self) -> Option<String> {
        let convert = format!("make a WAV file of it: `ffmpeg -i \"{}\" converted.wav`", self.path);
        match self.error {
            AudioError::Unread { .. } | AudioError::Unsupported { .. } | AudioError::Malformed { .. } => Some(convert),
            AudioError::Unknown { .. } => Some(format!("if it is sound, {convert}")),
            _ => None,
        }
    }
}

/// Whether a file's name is that of a sound.
pub(crate) fn is_sound(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    SoundFormat::EXTENSIONS.iter().any(|known| extension == *known)
}

/// The sound file in `folder` that is called `name`, with any ending of a sound file; `name.wav` if there is none.
pub(crate) fn find_sound(folder: &Path, name: &str) -> PathBuf {
    // Names may contain dots, which `with_extension` would take for an ending.
    let named = |extension: &str| folder.join(format!("{name}.{extension}"));
    SoundFormat::EXTENSIONS
        .iter()
        .map(|extension| named(extension))
        .find(|path| path.is_file())
        .unwrap_or_else(|| named("wav"))
}

/// The sound file in `folder` that answers to the file `like`: of the same name, or of the same name with another ending.
pub(crate) fn counterpart(folder: &Path, like: &Path) -> Result<PathBuf> {
    let same = folder.join(like);
    if same.is_file() {
        return Ok(same);
    }
    let mut others = vec![];
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read `{}`", folder.display()))?.path();
        if path.file_stem() == like.file_stem() && is_sound(&path) {
            others.push(path);
        }
    }
    others.sort();
    ensure!(others.len() < 2, "`{}` and `{}` have one name", others[0].display(), others[1].display());
    // Without one, reading the same name says what is missing.
    Ok(others.pop().unwrap_or(same))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_is_found_whatever_its_ending() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a.wav", "a.flac", "b.mp3", "b.txt", "c.1.ogg", "d.mp3", "d.flac"] {
            fs::write(path(name), b"").unwrap();
        }
        for (name, found) in [("a", "a.wav"), ("b", "b.mp3"), ("c.1", "c.1.ogg"), ("c", "c.wav")] {
            assert_eq!(find_sound(folder.path(), name), path(found));
        }
        for (like, found) in [("a.flac", "a.flac"), ("a.mp3", "a.wav"), ("b.wav", "b.mp3"), ("e.wav", "e.wav")] {
            if like == "a.mp3" {
                assert!(counterpart(folder.path(), Path::new(like)).unwrap_err().to_string().contains("have one name"));
            } else {
                assert_eq!(counterpart(folder.path(), Path::new(like)).unwrap(), path(found));
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_no_utf_8_is_shown_and_its_sound_compared() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

        let folder = tempfile::tempdir().unwrap();
        let name = Path::new(OsStr::from_bytes(b"caf\xe9.WAV"));
        let path = folder.path().join(name);
        fs::write(&path, b"wvpk").unwrap();
        let error = read_sound(&path).unwrap_err();
        assert!(
            error.to_string().ends_with("caf\u{fffd}.WAV`: this is WavPack, which is not read as sound"),
            "{error}"
        );
        assert!(is_sound(&path));
        assert_eq!(counterpart(folder.path(), name).unwrap(), path);
    }
}
