//! Models inside the program: small ones of our own, so that everything runs with no download.

use std::path::{Path, PathBuf};

use super::wanted::{Wanted, Weights};
use super::{Checkpoint, HubError};

/// In front of the names of all of them, where a path is needed.
const PLACE: &str = "built-in:";

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

    /// The folder in which its files are found in memory. There is nothing at this path on disk.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        Path::new(PLACE).join(self.name)
    }

    /// Its files: name within the folder, and content.
    #[must_use]
    pub fn files(&self) -> &'static [(&'static str, &'static [u8])] {
        self.files
    }

    /// The model whose folder is `folder`.
    #[must_use]
    pub fn at(folder: &Path) -> Option<&'static Self> {
        ALL.iter().find(|model| folder.strip_prefix(PLACE) == Ok(Path::new(model.name)))
    }

    /// The content of the file at `path`, if it is a model's inside the program.
    #[must_use]
    pub fn content(path: &Path) -> Option<&'static [u8]> {
        let within = path.strip_prefix(PLACE).ok()?;
        let (model, name) = ALL.iter().find_map(|model| Some((model, within.strip_prefix(model.name).ok()?)))?;
        model.files.iter().find(|(file, _)| Path::new(file) == name).map(|(_, content)| *content)
    }

    /// The model as a checkpoint of the kind `wanted`.
    pub(super) fn checkpoint(&self, wanted: &Wanted) -> Result<Checkpoint, HubError> {
        #[derive(serde::Deserialize)]
        struct Config {
            model_type: Option<String>,
        }
        let folder = self.folder();
        let has = |name: &str| Self::content(&folder.join(name)).is_some();
        let config = Self::content(&folder.join(wanted.config)).and_then(|text| serde_json::from_slice(text).ok());
        if let Some(Config { model_type: Some(found) }) = config
            && !wanted.model_types.contains(&found.as_str())
        {
            let expected = wanted.model_types.join("` or `");
            return Err(HubError::ModelType { place: self.name.to_owned(), found, expected });
        }
        let weights = |weights: &Weights| match *weights {
            Weights::Sharded { single, .. } => has(single),
            Weights::Files(names) => names.iter().all(|name| has(name)),
        };
        if !has(wanted.config) || !wanted.weights.iter().any(weights) {
            let (place, missing) = (self.name.to_owned(), vec![wanted.config.to_owned()]);
            return Err(HubError::Incomplete { place, missing, consists_of: wanted.consists_of });
        }
        let files = self.files.iter().map(|(name, _)| *name).filter(|name| *name != "README.md").map(str::to_owned);
        let without = wanted.optional.iter().copied().filter(|name| !has(name));
        Ok(Checkpoint {
            folder: folder.clone(),
            id: None,
            commit: None,
            files: files.collect(),
            without: without.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CLAP, HubConfig, MUSICGEN, ModelRef, Store};
    use super::*;

    #[test]
    fn a_model_inside_the_program_is_found_without_any_folder() {
        let nowhere = Path::new("/dev/null/no/such/cache");
        let store = Store::new(HubConfig::new(nowhere.to_owned()));
        for model in ALL {
            let parsed = store.parse(model.name).unwrap();
            assert_eq!(parsed, ModelRef::Folder(model.folder()));
            assert_eq!(BuiltIn::at(&model.folder()), Some(model));
            for (name, content) in model.files() {
                assert_eq!(BuiltIn::content(&model.folder().join(name)), Some(*content), "{name}");
            }
            assert!(!model.folder().exists() && BuiltIn::content(&model.folder().join("no.json")).is_none());
        }
        let model = store.parse("musicgen-nano").unwrap();
        let found = store.locate(&model, &MUSICGEN).unwrap();
        assert_eq!(found.files, ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"]);
        assert_eq!(found.checksum("model.safetensors").map(|sum| sum.len()), Some(64));
        let error = store.locate(&model, &CLAP).unwrap_err();
        assert!(error.to_string().contains("model type `musicgen`, expected `clap`"), "{error}");
        let checks = store.verify(&model, &MUSICGEN, &mut |_: super::super::Event<'_>| {}).unwrap();
        assert!(checks.len() == 4 && super::super::all_sound(&checks), "{checks:?}");
    }
}
