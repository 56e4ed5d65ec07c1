//! The classifier that judges audio: from a name to a `PaSST`, and from any sound to what it says.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tonoscope_core::{
    audio::Waveform,
    checkpoint::{LoadError, Placement, Source},
    hooks::edit_distance,
    models::passt::{Classified, Labels, Passt, PasstConfig},
};
use tonoscope_hub::{BuiltIn, HubConfig, check_address, fetch_url, hex};

use crate::{
    failure::{Failed, Misuse},
    interrupt::{self, Interrupted},
    progress::{self, Transfer},
    session::{announce, sha256},
};

/// Name of `passt_s_swa_p16_128_ap476`, and what hear21passt calls its file and where it takes it from.
const PASST: &str = "passt";
const RELEASE: &str = "passt-s-f128-p16-s10-ap.476-swa.pt";
const RELEASE_FOLDER: &str = "https://github.com/kkoutini/PaSST/releases/download/v0.0.1-audioset";
/// Clips between two looks at progress and Ctrl-C.
const CLIPS_AT_ONCE: usize = 16;

/// Which classifier.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct JudgeArgs {
    /// Classifier: `passt-nano` inside the program, `passt`, its release file (`.pt`), a `.safetensors` of the same names, a
    /// folder with one of them, or the address of such a file. What has to be fetched is kept in the cache of models
    #[arg(long, value_name = "JUDGE", default_value = "passt-nano")]
    pub(crate) judge: String,
}

/// A classifier that was found, its shape known, its tensors not read yet.
pub(crate) struct FoundJudge {
    /// The file of its weights.
    pub(crate) path: PathBuf,
    /// Its shape.
    pub(crate) config: PasstConfig,
    /// Names of its classes.
    pub(crate) labels: Labels,
    source: Box<dyn Source>,
}

/// A classifier that is ready.
pub(crate) struct Judge {
    /// The file of its weights.
    pub(crate) path: PathBuf,
    /// Names of its classes.
    pub(crate) labels: Labels,
    /// Front end and network.
    pub(crate) passt: Passt,
}

impl JudgeArgs {
    /// Finds the weights and reads their shape.
    ///
    /// A `config.json` beside the weights says what a checkpoint does not, see [`PasstConfig::described`].
    pub(crate) fn find(&self) -> Result<FoundJudge> {
        let path = find_weights(&self.judge)?;
        let source = Passt::source(&path)?;
        let beside = path.with_file_name("config.json");
        let text = match BuiltIn::content(&beside) {
            Some(text) => Some(Ok(String::from_utf8_lossy(text).into_owned())),
            None => beside.is_file().then(|| std::fs::read_to_string(&beside)),
        };
        let text = text.transpose();
        let text = text.map_err(|source| LoadError::Read { path: beside.clone(), source })?;
        let found = PasstConfig::described(source.as_ref(), text.as_deref());
        let (config, labels) = found.with_context(|| format!("`{}` is not a PaSST's", path.display()))?;
        Ok(FoundJudge { path, config, labels, source })
    }
}

impl FoundJudge {
    /// Checksum of the weights.
    pub(crate) fn sha256(&self) -> Result<String> {
        sha256(&self.path)
    }

    /// Places the weights on a device.
    pub(crate) fn load(self, placement: Placement) -> Result<Judge> {
        let passt = Passt::from_source(self.source, &self.config, placement)
            .with_context(|| format!("`{}`", self.path.display()))?;
        Ok(Judge { path: self.path, labels: self.labels, passt })
    }
}

/// A waveform as the judge takes it: mono (the mean of all channels), at its sample rate.
pub(crate) fn as_heard(config: &PasstConfig, wave: Waveform) -> Result<Vec<f32>> {
    let rate = u32::try_from(config.mel.sr).context("the sample rate of the classifier")?;
    let wave = wave.to_mono().resample(rate)?;
    let (samples, least) = (wave.samples(), config.least_samples());
    if samples < least {
        bail!(
            "{:.0} ms of audio are too little for PaSST, which needs {} ms",
            wave.seconds() * 1000.0,
            (least * 1000).div_ceil(config.mel.sr)
        );
    }
    Ok(wave.channels()[0].clone())
}

/// Classifies clips that [`as_heard`] has made; those of one length go through the network together.
///
/// `watch` is told how many are done, and may stop it.
pub(crate) fn classify_clips(
    passt: &Passt,
    clips: &[Vec<f32>],
    watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<Classified>> {
    let mut order: Vec<usize> = (0..clips.len()).collect();
    order.sort_by_key(|clip| clips[*clip].len());
    let mut classified: Vec<Option<Classified>> = vec![None; clips.len()];
    for (batch, indices) in order.chunks(CLIPS_AT_ONCE).enumerate() {
        let batched: Vec<&[f32]> = indices.iter().map(|clip| clips[*clip].as_slice()).collect();
        for (clip, said) in indices.iter().zip(pollster::block_on(passt.classify(&batched))?) {
            classified[*clip] = Some(said);
        }
        if watch(batch * CLIPS_AT_ONCE + indices.len()).is_break() {
            bail!(Interrupted::NothingWritten);
        }
    }
    Ok(classified.into_iter().flatten().collect())
}

/// The file that `name` stands for.
fn find_weights(name: &str) -> Result<PathBuf> {
    let path = PathBuf::from(name);
    if path.is_dir() {
        return in_folder(&path);
    }
    if path.is_file() {
        return Ok(path);
    }
    if let Some(model) = BuiltIn::named(name) {
        announce(name);
        let weights = |(file, _): &&(&str, &[u8])| holds_weights(Path::new(file));
        if let Some((file, _)) = model.files().iter().find(weights) {
            return Ok(model.folder().join(file));
        }
    }
    if name == PASST {
        return release_file();
    }
    if name.starts_with("https://") || name.starts_with("http://") {
        return at_address(name);
    }
    let hint = if edit_distance(name, PASST) <= 2 {
        format!("did you mean `{PASST}`?")
    } else {
        format!("pass `{PASST}`, a `.pt` or `.safetensors` file, or a folder that holds one")
    };
    Err(Misuse::new(format!("no classifier, file or folder `{name}`")).hint(hint).into())
}

/// Whether a file of this name may be a classifier's.
fn holds_weights(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("pt" | "ckpt" | "safetensors"))
}

fn in_folder(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut found = vec![];
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read `{}`", folder.display()))?.path();
        if holds_weights(&path) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    if let [only] = found.as_slice() {
        return Ok(only.clone());
    }
    let what = format!("`{}` holds {} `.pt` and `.safetensors` files, expected one", folder.display(), found.len());
    Err(Misuse::new(what).hint("pass the file itself").into())
}

/// The release file where hear21passt has put it, in the cache of models, or in the current folder.
fn release_file() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let torch = variable("TORCH_HOME").or_else(|| cache().map(|cache| cache.join("torch")));
    let hub = HubConfig::from_env()?;
    let fetched = hub.cache.join(RELEASE);
    let folders = [torch.map(|torch| torch.join("hub").join("checkpoints")), Some(PathBuf::new())];
    let mut places: Vec<PathBuf> = folders.into_iter().flatten().map(|folder| folder.join(RELEASE)).collect();
    places.push(fetched.clone());
    if let Some(path) = places.iter().find(|path| path.is_file()) {
        return Ok(path.clone());
    }
    if !hub.offline {
        progress::note(&format!("fetching the weights of `{PASST}`, 340 MB, into `{}`", hub.cache.display()));
        fetch(&hub, &format!("{RELEASE_FOLDER}/{RELEASE}"), &fetched)?;
        return Ok(fetched);
    }
    let listed: Vec<String> = places.iter().map(|path| format!("`{}`", path.display())).collect();
    let what = format!("the weights of `{PASST}` are not here: looked for {}", listed.join(", "));
    let place = places[0].display();
    let hint = format!(
        "unset `HF_HUB_OFFLINE` to fetch them (340 MB), or `curl -L --create-dirs -o {place} {RELEASE_FOLDER}/{RELEASE}`"
    );
    Err(Failed::new(what, hint).into())
}

/// The file at an address, from the cache of models if it has been fetched before.
fn at_address(address: &str) -> Result<PathBuf> {
    let address = check_address("the classifier's address", address, None)?;
    let file = Path::new(address.rsplit('/').next().unwrap_or_default());
    if !holds_weights(file) {
        return Err(Misuse::new(format!("`{address}` is not the address of a `.pt` or `.safetensors` file")).into());
    }
    let hub = HubConfig::from_env()?;
    let folder = hex(&Sha256::digest(&address)[..8]);
    let path = hub.cache.join("judges").join(folder).join(file);
    if path.is_file() {
        return Ok(path);
    }
    if hub.offline {
        let what = format!("`{address}` was not fetched yet, and offline mode is set");
        return Err(Failed::new(what, "unset `HF_HUB_OFFLINE` to fetch it").into());
    }
    fetch(&hub, &address, &path)?;
    Ok(path)
}

fn fetch(hub: &HubConfig, address: &str, path: &Path) -> Result<()> {
    interrupt::listen();
    fetch_url(hub, address, path, &mut Transfer::new()).with_context(|| format!("cannot fetch `{address}`"))
}
