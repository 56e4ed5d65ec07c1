//! `PaSST`: what can be heard in a recording.

mod find;

use std::{path::PathBuf, sync::Arc};

use tonoscope_backends::{DeviceInfo, Opened};
use tonoscope_core::{
    checkpoint::Source,
    models::passt::{self, Classified, Label, Labels, PasstConfig},
};
use tonoscope_hub::BuiltIn;

use crate::{
    Audio, Error, Result,
    load::{Builder, Found, Origin, Place, Pretrained, Search},
};

/// A `PaSST` on a device. Cheap to clone.
///
/// ```
/// use tonoscope::prelude::*;
///
/// let passt = Passt::from_pretrained("passt-nano")?;
/// let tone = (0..32_000).map(|sample| (sample as f32 * 0.05).sin() * 0.5).collect();
/// let heard = passt.classify(Audio::new(vec![tone], 32_000)?)?;
/// for (label, probability) in heard.top(3) {
///     println!("{}: {probability:.2}", label.name);
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Passt {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    passt: passt::Passt,
    labels: Arc<Labels>,
    origin: Origin,
    path: PathBuf,
    device: DeviceInfo,
}

/// What is known of a `PaSST` before its weights are read.
pub struct PasstParts {
    /// The file of its weights.
    pub path: PathBuf,
    /// Its shape.
    pub config: PasstConfig,
    /// Names of its classes.
    pub labels: Labels,
    source: Box<dyn Source>,
}

/// What is heard in one recording.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Scores and features.
    pub classified: Classified,
    labels: Arc<Labels>,
}

impl Heard {
    /// The likeliest classes, each with its own probability: several may be present.
    pub fn top(&self, classes: usize) -> Vec<(Label, f64)> {
        let probabilities = self.classified.sigmoid();
        let class = |index: usize| Some((self.labels.get(index)?.clone(), probabilities[index]));
        self.classified.ranking().into_iter().take(classes).filter_map(class).collect()
    }

    /// Probability of the class called `name`; `None` if there is none.
    pub fn probability(&self, name: &str) -> Option<f64> {
        let index = self.labels.iter().position(|label| label.name == name)?;
        self.classified.sigmoid().get(index).copied()
    }
}

impl Pretrained for Passt {
    type Parts = PasstParts;

    fn find(search: &mut Search<'_>) -> Result<Found<Self>> {
        let path = find::weights(search)?;
        let source = passt::Passt::source(&path)?;
        let beside = path.with_file_name("config.json");
        let text = match BuiltIn::content(&beside) {
            Some(text) => Some(Ok(String::from_utf8_lossy(text).into_owned())),
            None => beside.is_file().then(|| std::fs::read_to_string(&beside)),
        };
        let text = text.transpose();
        let text = text.map_err(Error::io("read", &beside))?;
        let (config, labels) = PasstConfig::described(source.as_ref(), text.as_deref())
            .map_err(|source| Error::NoPasst { path: path.clone(), source })?;
        let places = vec![Place::File(path.clone())];
        let origin = Origin { name: search.name.to_owned(), revision: None, layout: "hear21passt", places };
        Ok(Found { parts: PasstParts { path, config, labels, source }, origin })
    }

    fn place(found: Found<Self>, opened: &Opened) -> Result<Self> {
        let Found { parts: PasstParts { path, config, labels, source }, origin } = found;
        let passt = passt::Passt::from_source(source, &config, opened.placement.clone())?;
        let (labels, device) = (Arc::new(labels), opened.info.clone());
        Ok(Self { shared: Arc::new(Shared { passt, labels, origin, path, device }) })
    }
}

impl Passt {
    /// The classifier `name` on the best device: built in, such as `passt-nano`; `passt`, the published one; its release file
    /// (`.pt`) or a `.safetensors` of the same names; a folder with one of them; or the address of such a file.
    ///
    /// # Errors
    /// [`Error`] if there is none, or it is of another kind.
    pub fn from_pretrained(name: &str) -> Result<Self> {
        Self::builder(name).load()
    }

    /// A classifier that is to be loaded, with a device, a type or a weight format of one's choice.
    pub fn builder(name: impl Into<String>) -> Builder<Self> {
        Builder::new(name)
    }

    /// What is heard in a recording of any rate and number of channels; of more than 10 s, the mean over windows.
    ///
    /// # Errors
    /// If it is too short, or the device fails.
    pub fn classify(&self, audio: impl AsRef<Audio>) -> Result<Heard> {
        pollster::block_on(self.classify_async(audio))
    }

    /// [`Self::classify`], without blocking.
    ///
    /// # Errors
    /// As [`Self::classify`].
    pub async fn classify_async(&self, audio: impl AsRef<Audio>) -> Result<Heard> {
        let mut heard = self.classify_all_async(&[audio.as_ref()]).await?;
        Ok(heard.remove(0))
    }

    /// What is heard in each recording; the result of one does not depend on the others.
    ///
    /// # Errors
    /// As [`Self::classify`].
    pub fn classify_all<A: AsRef<Audio>>(&self, recordings: &[A]) -> Result<Vec<Heard>> {
        pollster::block_on(self.classify_all_async(recordings))
    }

    /// [`Self::classify_all`], without blocking.
    ///
    /// # Errors
    /// As [`Self::classify`].
    pub async fn classify_all_async<A: AsRef<Audio>>(&self, recordings: &[A]) -> Result<Vec<Heard>> {
        let Shared { passt, .. } = &*self.shared;
        let clip = |audio: &A| Ok(passt.config().as_heard(audio.as_ref().waveform().clone())?);
        let clips = recordings.iter().map(clip).collect::<Result<Vec<_>>>()?;
        let watch = &mut |_| std::ops::ControlFlow::Continue(());
        let classified = passt.classify_watched(&clips, watch).await?.unwrap_or_default();
        let heard = |classified| Heard { classified, labels: Arc::clone(&self.shared.labels) };
        Ok(classified.into_iter().map(heard).collect())
    }

    /// Names of its classes.
    pub fn labels(&self) -> &Labels {
        &self.shared.labels
    }

    /// The file of its weights.
    pub fn path(&self) -> &std::path::Path {
        &self.shared.path
    }

    /// Where it computes.
    pub fn device(&self) -> &DeviceInfo {
        &self.shared.device
    }

    /// Where it came from.
    pub fn origin(&self) -> &Origin {
        &self.shared.origin
    }

    /// The model behind this handle.
    pub fn core(&self) -> &passt::Passt {
        &self.shared.passt
    }
}
