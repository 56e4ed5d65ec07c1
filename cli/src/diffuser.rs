//! The diffusion model: from a name to a Stable Audio on a device.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tonoscope_backends::Opened;
use tonoscope_core::models::{
    stable_audio::{Layout, StableAudio, StableAudioFiles},
    t5::T5Tokenizer,
};
use tonoscope_hub::{BuiltIn, Checkpoint, HubConfig, ModelRef, STABLE_AUDIO, Store, T5};

use crate::{
    progress::{self, Transfer},
    session::{AdapterArgs, Provenance, adapter_checksums, announce, sha256, tell_wrapping},
};

/// The text encoder of Stable Audio Open, which its own repository does not have in this layout.
const T5_BASE: &str = "google-t5/t5-base";

/// Whether `model` is meant to be a diffusion model: the files of a folder say so, of others the name.
pub(crate) fn is_diffuser(model: &str) -> bool {
    let has = |file: &str| Path::new(model).join(file).is_file();
    has("model_index.json") || has("model_config.json") || model.contains("stable-audio")
}

/// Which diffusion model.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DiffuserArgs {
    /// Model: `stable-audio-open-1.0`, the published one, a Hub id `org/name[@revision]`, or a folder as diffusers or stable-audio-tools
    /// writes it
    #[arg(long, default_value = "stable-audio-nano")]
    pub(crate) model: String,
    /// Folder of the T5 text encoder, for stable-audio-tools' layout [default: `t5-base` inside the model's folder, else
    /// from the Hub]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) text_encoder: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) adapter: AdapterArgs,
}

/// A checkpoint that was found, its configuration read.
pub(crate) struct FoundDiffuser {
    pub(crate) files: StableAudioFiles,
    pub(crate) tokenizer: T5Tokenizer,
    /// Folders of the weights.
    folders: Vec<Place>,
    adapter: Option<PathBuf>,
    commit: Option<String>,
    asked: String,
}

/// Where weights lie.
enum Place {
    Folder(PathBuf),
    Hub(Checkpoint),
}

impl DiffuserArgs {
    /// Finds the files, fetching them if they are on the Hub and not here yet.
    pub(crate) fn find(&self) -> Result<FoundDiffuser> {
        let store = Store::new(HubConfig::from_env()?);
        let (name, adapter) = self.adapter.resolve(&self.model)?;
        announce(&name);
        let model = store.parse(&name)?;
        let (folder, mut folders, commit) = match &model {
            ModelRef::Folder(folder) => (folder.clone(), vec![Place::Folder(folder.clone())], None),
            ModelRef::Hub { .. } => {
                let checkpoint = store.open(&model, &STABLE_AUDIO, &mut Transfer::new())?;
                (checkpoint.folder.clone(), vec![Place::Hub(checkpoint.clone())], checkpoint.commit)
            }
        };
        // Only stable-audio-tools keeps the text encoder elsewhere; what is no model at all is refused as it is.
        let has = |file: &str| folder.join(file).is_file();
        let is_tools = has("model_config.json") && !has("transformer/config.json");
        let t5 = if is_tools { self.text_encoder(&store, &folder, &mut folders)? } else { None };
        let mut files = StableAudioFiles::open(&folder, t5.as_deref())?;
        if let Some(adapter) = &adapter {
            files = files.with_adapter(adapter)?;
        }
        tell_wrapping(files.wrapping());
        let tokenizer = files.tokenizer()?;
        Ok(FoundDiffuser { files, tokenizer, folders, adapter, commit, asked: self.model.clone() })
    }

    /// The text encoder's folder, where it is not as in diffusers' layout.
    fn text_encoder(&self, store: &Store, folder: &Path, folders: &mut Vec<Place>) -> Result<Option<PathBuf>> {
        if let Some(given) = &self.text_encoder {
            folders.push(Place::Folder(given.clone()));
            return Ok(Some(given.clone()));
        }
        let beside = folder.join("t5-base");
        if beside.is_dir() {
            return Ok(Some(beside));
        }
        if folder.join("text_encoder/config.json").is_file() {
            return Ok(None);
        }
        let checkpoint = store.open(&store.parse(T5_BASE)?, &T5, &mut Transfer::new());
        let checkpoint = checkpoint.context("the text encoder; `--text-encoder` takes a folder of it")?;
        let found = checkpoint.folder.clone();
        folders.push(Place::Hub(checkpoint));
        Ok(Some(found))
    }
}

impl FoundDiffuser {
    /// Places the weights on the device.
    pub(crate) fn load(self, opened: &Opened) -> Result<LoadedDiffuser> {
        let spinner = progress::spinner(&format!("loading {}", self.asked));
        let layout = self.files.layout;
        let model = self.files.load(opened.placement.clone())?;
        spinner.finish_and_clear();
        let Self { folders, adapter, commit, asked, .. } = self;
        Ok(LoadedDiffuser { model, folders, adapter, commit, asked, layout })
    }
}

/// A model that is ready, and where it came from.
pub(crate) struct LoadedDiffuser {
    pub(crate) model: StableAudio,
    folders: Vec<Place>,
    adapter: Option<PathBuf>,
    commit: Option<String>,
    asked: String,
    layout: Layout,
}

impl LoadedDiffuser {
    /// Name, revision and checksums of all weights. Files outside the Hub's cache are read for it.
    pub(crate) fn provenance(&self) -> Result<Provenance> {
        let mut checksums = vec![];
        for place in &self.folders {
            match place {
                Place::Folder(folder) if BuiltIn::at(folder).is_some() => {
                    let files = BuiltIn::at(folder).into_iter().flat_map(BuiltIn::files);
                    let mut names: Vec<&str> = files.map(|(name, _)| *name).collect();
                    names.retain(|name| is_weights(Path::new(name)));
                    names.sort_unstable();
                    for name in names {
                        checksums.push((name.to_owned(), sha256(&folder.join(name))?));
                    }
                }
                Place::Folder(folder) => {
                    let mut files = vec![];
                    weights(folder, &mut files)?;
                    files.sort();
                    for file in files {
                        let name = file.strip_prefix(folder).unwrap_or(&file).to_string_lossy().into_owned();
                        checksums.push((name, sha256(&file)?));
                    }
                }
                Place::Hub(checkpoint) => {
                    for file in checkpoint.files.iter().filter(|file| is_weights(Path::new(file))) {
                        let sum = match checkpoint.checksum(file) {
                            Some(sum) => sum,
                            None => sha256(&checkpoint.folder.join(file))?,
                        };
                        checksums.push((file.clone(), sum));
                    }
                }
            }
        }
        checksums.extend(adapter_checksums(self.adapter.as_deref())?);
        Ok(Provenance {
            model: self.asked.clone(),
            revision: self.commit.clone(),
            layout: match self.layout {
                Layout::Diffusers => "diffusers",
                Layout::StableAudioTools => "stable-audio-tools",
            },
            checksums,
        })
    }
}

/// Files of weights in `folder` and the folders in it.
fn weights(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    const DEEPEST: usize = 2;
    fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() && depth < DEEPEST {
                walk(&path, depth + 1, found)?;
            } else if path.is_file() && is_weights(&path) {
                found.push(path);
            }
        }
        Ok(())
    }
    walk(folder, 1, found).with_context(|| format!("cannot read `{}`", folder.display()))
}

fn is_weights(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("safetensors" | "bin" | "ckpt" | "pt"))
}
