//! Models inside the program: small ones of our own, so that everything runs with no download.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{HubError, hex};

/// A model inside the program, trained by `tonoscope train` with the settings in `data/training`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    /// What `--model` calls it.
    pub name: &'static str,
    /// The published model that it stands for.
    pub instead_of: &'static str,
    /// Name within the folder, and content.
    files: &'static [(&'static str, &'static [u8])],
}

macro_rules! built_in {
    ($name:literal, $instead_of:literal, [$($file:literal),+]) => {
        BuiltIn {
            name: $name,
            instead_of: $instead_of,
            files: &[$(($file, include_bytes!(concat!("../../data/models/", $name, "/", $file)))),+],
        }
    };
}

/// All of them.
pub(super) const ALL: &[BuiltIn] = &[
    built_in!(
        "musicgen-nano",
        "musicgen-small",
        ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors", "README.md"]
    ),
    built_in!("passt-nano", "passt", ["config.json", "model.safetensors", "README.md"]),
    built_in!(
        "clap-nano",
        "larger_clap_general",
        ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors", "README.md"]
    ),
    built_in!(
        "stable-audio-nano",
        "stable-audio-open-1.0",
        [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
            "tokenizer/tokenizer_config.json",
            "tokenizer/tokenizer.json",
            "projection_model/config.json",
            "projection_model/diffusion_pytorch_model.safetensors",
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
            "transformer/config.json",
            "transformer/diffusion_pytorch_model.safetensors",
            "README.md"
        ]
    ),
];

impl BuiltIn {
    /// The model called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|model| model.name == name)
    }

    /// One line about what it is.
    #[must_use]
    pub fn note(&self) -> String {
        let Self { name, instead_of, .. } = self;
        format!(
            "{name}: a small model inside the program, trained on synthetic music; `{instead_of}` is a published one"
        )
    }

    /// A folder with its files, written into `cache` if it is not there yet.
    ///
    /// # Errors
    /// [`HubError::Io`], [`HubError::DiskFull`] where it cannot be written.
    pub fn folder(&self, cache: &Path) -> Result<PathBuf, HubError> {
        let mut hash = Sha256::new();
        for (name, content) in self.files {
            hash.update(name);
            hash.update((content.len() as u64).to_le_bytes());
            hash.update(content);
        }
        let parent = cache.join("built-in");
        let folder = parent.join(format!("{}-{}", self.name, hex(&hash.finalize()[..8])));
        let is_there = |(name, content): &(&str, &[u8])| {
            folder.join(name).metadata().is_ok_and(|found| found.is_file() && found.len() == content.len() as u64)
        };
        if self.files.iter().all(is_there) {
            return Ok(folder);
        }
        fs::create_dir_all(&parent).map_err(HubError::io("create", &parent))?;
        let beside = tempfile::Builder::new().prefix(".unpacked-").tempdir_in(&parent);
        let beside = beside.map_err(HubError::io("write into", &parent))?;
        for (name, content) in self.files {
            let path = beside.path().join(name);
            if let Some(part) = path.parent() {
                fs::create_dir_all(part).map_err(HubError::io("create", part))?;
            }
            fs::write(&path, content).map_err(HubError::write(&path, content.len() as u64))?;
        }
        // What is not whole is nobody's: another process may have come first with the same.
        if folder.exists() {
            let old = parent.join(format!(".old-{}", std::process::id()));
            let _ = fs::rename(&folder, &old);
            let _ = fs::remove_dir_all(&old);
        }
        let made = beside.keep();
        if let Err(error) = fs::rename(&made, &folder) {
            let _ = fs::remove_dir_all(&made);
            if !self.files.iter().all(is_there) {
                return Err(HubError::io("write", &folder)(error));
            }
        }
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_unpacked_once_and_mended_when_it_is_damaged() {
        let cache = tempfile::tempdir().unwrap();
        for model in ALL {
            let folder = model.folder(cache.path()).unwrap();
            let (name, content) = *model.files.iter().find(|(name, _)| name.ends_with(".safetensors")).unwrap();
            let weights = folder.join(name);
            let time = || weights.metadata().unwrap().modified().unwrap();
            let written = time();
            assert_eq!(model.folder(cache.path()).unwrap(), folder);
            assert_eq!(time(), written, "nothing is written twice");
            fs::write(&weights, "damaged").unwrap();
            assert_eq!(model.folder(cache.path()).unwrap(), folder);
            assert_eq!(fs::read(&weights).unwrap(), content);
        }
        let entries = fs::read_dir(cache.path().join("built-in")).unwrap().count();
        assert_eq!(entries, ALL.len(), "nothing half-written is left");
    }
}
