//! Stable Audio: text to sound, by diffusion.

mod output;
mod sample;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tonoscope_backends::{DeviceInfo, Opened};
use tonoscope_core::{
    hooks::HookPoint,
    models::{
        stable_audio::{self, Layout, StableAudioFiles},
        t5::T5Tokenizer,
    },
};
use tonoscope_hub::{ModelRef, STABLE_AUDIO, T5};

pub use output::{Diffused, Snapshot};
pub use sample::{Denoised, Diffuse};

use crate::{
    Error, Result,
    load::{Builder, Found, Origin, Place, Pretrained, Search},
};

/// The text encoder of Stable Audio Open, which its own repository does not have in the layout of stable-audio-tools.
const T5_BASE: &str = "google-t5/t5-base";

/// A Stable Audio on a device. Cheap to clone.
///
/// ```
/// use tonoscope::prelude::*;
///
/// let model = StableAudio::from_pretrained("stable-audio-nano")?;
/// let run = model.generate("a slow piano melody").seconds(1.0).latent_length(64).steps(8).snapshots([2, 5]).seed(1);
/// let made = run.run()?;
/// assert_eq!(made.snapshots().len(), 2);
/// assert_eq!(made.seconds(), 1.0);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct StableAudio {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    model: stable_audio::StableAudio,
    tokenizer: T5Tokenizer,
    origin: Origin,
    device: DeviceInfo,
}

/// What is known of a Stable Audio before its weights are read.
pub struct DiffusionParts {
    /// Configurations, and where the weights lie.
    pub files: StableAudioFiles,
    /// Text to ids.
    pub tokenizer: T5Tokenizer,
}

impl Pretrained for StableAudio {
    type Parts = DiffusionParts;

    fn find(search: &mut Search<'_>) -> Result<Found<Self>> {
        let model = search.model()?;
        let (folder, mut places, revision) = match &model {
            ModelRef::Folder(folder) => (folder.clone(), vec![Place::Folder(folder.clone())], None),
            ModelRef::Hub { .. } => {
                let checkpoint = search.store.open(&model, &STABLE_AUDIO, search.progress)?;
                (checkpoint.folder.clone(), vec![Place::Checkpoint(checkpoint.clone())], checkpoint.commit)
            }
        };
        // Only stable-audio-tools keeps the text encoder elsewhere; what is no model at all is refused as it is.
        let has = |file: &str| folder.join(file).is_file();
        let is_tools = has("model_config.json") && !has("transformer/config.json");
        let t5 = if is_tools { text_encoder(search, &folder, &mut places)? } else { None };
        let files = StableAudioFiles::open(&folder, t5.as_deref())?;
        let tokenizer = files.tokenizer()?;
        let layout = match files.layout {
            Layout::Diffusers => "diffusers",
            Layout::StableAudioTools => "stable-audio-tools",
        };
        let origin = Origin { name: search.name.to_owned(), revision, layout, places };
        Ok(Found { parts: DiffusionParts { files, tokenizer }, origin })
    }

    fn place(found: Found<Self>, opened: &Opened) -> Result<Self> {
        let Found { parts: DiffusionParts { files, tokenizer }, origin } = found;
        let model = files.load(opened.placement.clone())?;
        Ok(Self { shared: Arc::new(Shared { model, tokenizer, origin, device: opened.info.clone() }) })
    }
}

/// The text encoder's folder, where it is not as in diffusers' layout.
fn text_encoder(search: &mut Search<'_>, folder: &Path, places: &mut Vec<Place>) -> Result<Option<PathBuf>> {
    if let Some(given) = search.text_encoder {
        places.push(Place::Folder(given.to_owned()));
        return Ok(Some(given.to_owned()));
    }
    let beside = folder.join("t5-base");
    if beside.is_dir() {
        return Ok(Some(beside));
    }
    if folder.join("text_encoder/config.json").is_file() {
        return Ok(None);
    }
    let model = search.store.parse(T5_BASE)?;
    let checkpoint = search.store.open(&model, &T5, search.progress).map_err(Error::TextEncoder)?;
    let found = checkpoint.folder.clone();
    places.push(Place::Checkpoint(checkpoint));
    Ok(Some(found))
}

impl StableAudio {
    /// The model `name` on the best device: built in, such as `stable-audio-nano`; on the Hub, `org/name[@revision]` or a
    /// short name such as `stable-audio-open-1.0`; or a folder, as diffusers or stable-audio-tools writes it.
    ///
    /// # Errors
    /// [`Error`] if there is none, or it is of another kind.
    pub fn from_pretrained(name: &str) -> Result<Self> {
        Self::builder(name).load()
    }

    /// A model that is to be loaded, with a device, a type or a weight format of one's choice.
    pub fn builder(name: impl Into<String>) -> Builder<Self> {
        Builder::new(name)
    }

    /// Sound for `prompt`; an empty one is no prompt at all.
    pub fn generate(&self, prompt: impl Into<String>) -> Diffuse<'_, Diffused> {
        Diffuse::new(self, vec![prompt.into()])
    }

    /// Sound for each of `prompts`. The same text twice becomes two different pieces.
    pub fn generate_all<T: AsRef<str>>(&self, prompts: impl IntoIterator<Item = T>) -> Diffuse<'_, Vec<Diffused>> {
        Diffuse::new(self, prompts.into_iter().map(|prompt| prompt.as_ref().to_owned()).collect())
    }

    /// Every hook point, those of the text encoder first, in the order of the computation.
    pub fn points(&self) -> Vec<HookPoint> {
        self.shared.model.points()
    }

    /// Where it computes.
    pub fn device(&self) -> &DeviceInfo {
        &self.shared.device
    }

    /// Where it came from.
    pub fn origin(&self) -> &Origin {
        &self.shared.origin
    }

    /// The model behind this handle, for what has no verb here.
    pub fn core(&self) -> &stable_audio::StableAudio {
        &self.shared.model
    }

    /// Text to ids.
    pub fn tokenizer(&self) -> &T5Tokenizer {
        &self.shared.tokenizer
    }
}
