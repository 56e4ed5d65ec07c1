//! Where notes come from: a folder, a file, an archive, or Magenta's servers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tonoscope_core::musicologist::{Note, read_notes};
use tonoscope_hub::{HubConfig, fetch_url};

use crate::{
    archive::{Limits, unpack},
    failure::{Failed, Misuse},
    progress::{self, Transfer},
};

/// Where Magenta publishes `NSynth`.
const MAGENTA: &str = "http://download.magenta.tensorflow.org/datasets/nsynth";
/// What is said of the notes of a split.
const EXAMPLES: &str = "examples.json";

/// A part of `NSynth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Split {
    Train,
    Valid,
    Test,
}

impl Split {
    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }
}

/// Which notes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NotesArgs {
    /// Notes in NSynth's layout: a folder that holds `examples.json` and `audio/`, or that file; with `--archive` or
    /// `--fetch` the folder to unpack into
    #[arg(long, value_name = "PATH", default_value = "nsynth")]
    pub(crate) notes: PathBuf,
    /// Unpack this `.tar.gz` archive of NSynth first
    #[arg(long, value_name = "FILE", conflicts_with = "fetch")]
    archive: Option<PathBuf>,
    /// Fetch this part of NSynth first: 24 GB, 1 GB, 350 MB
    #[arg(long, value_name = "SPLIT")]
    fetch: Option<Split>,
    /// Address of the folder of the archives
    #[arg(long, value_name = "URL", default_value = MAGENTA, requires = "fetch")]
    fetch_from: String,
}

/// Notes that were found.
pub(crate) struct FoundNotes {
    /// In the order of the file.
    pub(crate) notes: Vec<Note>,
    /// `examples.json`.
    pub(crate) examples: PathBuf,
    /// Folder of their sound files.
    pub(crate) audio: PathBuf,
}

impl NotesArgs {
    /// Reads the notes, after fetching and unpacking them if that is asked for.
    pub(crate) fn find(&self) -> Result<FoundNotes> {
        let path = match (&self.archive, self.fetch) {
            (Some(archive), _) => self.unpacked(archive)?,
            (None, Some(split)) => self.fetched(split)?,
            (None, None) => self.notes.clone(),
        };
        let examples = if path.is_dir() { path.join(EXAMPLES) } else { path };
        if !examples.is_file() {
            let what = format!("there is no `{}`", examples.display());
            let hint = "fetch NSynth with `--fetch test`, make notes with `tonoscope data render notes`, or give a folder with \
                        `--notes`";
            return Err(Misuse::new(what).hint(hint).into());
        }
        let bytes = fs::read(&examples).with_context(|| format!("cannot read `{}`", examples.display()))?;
        let notes = read_notes(&bytes).with_context(|| format!("`{}`", examples.display()))?;
        let audio = examples.with_file_name("audio");
        Ok(FoundNotes { notes, examples, audio })
    }

    /// The folder of an archive that is unpacked now or was already.
    fn unpacked(&self, archive: &Path) -> Result<PathBuf> {
        let name = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = [".jsonwav.tar.gz", ".tar.gz", ".tgz"].iter().find_map(|end| name.strip_suffix(end));
        let stem = stem.filter(|stem| !stem.is_empty() && !stem.starts_with('.')).ok_or_else(|| {
            Misuse::new(format!("`{}` is no archive that is unpacked", archive.display()))
                .hint("expected a `.tar.gz` file")
        })?;
        let target = self.notes.join(stem);
        if target.join(EXAMPLES).is_file() {
            progress::note(&format!("`{}` is unpacked already; remove it to unpack it again", target.display()));
            return Ok(target);
        }
        let size = archive.metadata().with_context(|| format!("cannot read `{}`", archive.display()))?.len();
        let bar = progress::bytes(size, &format!("unpacking {name}"));
        let count = unpack(archive, &target, &Limits::NSYNTH, &mut |done| bar.set_position(done));
        bar.finish_and_clear();
        progress::note(&format!("{} files were unpacked into `{}`", count?, target.display()));
        Ok(target)
    }

    fn fetched(&self, split: Split) -> Result<PathBuf> {
        let name = format!("nsynth-{}.jsonwav.tar.gz", split.name());
        let path = self.notes.join(&name);
        let unpacked = self.notes.join(format!("nsynth-{}", split.name()));
        if unpacked.join(EXAMPLES).is_file() {
            return Ok(unpacked);
        }
        if !path.is_file() {
            let config = HubConfig::from_env()?;
            if config.offline {
                let what = format!("`{name}` is not in `{}`, and offline mode is set", self.notes.display());
                return Err(Failed::new(what, "unset `HF_HUB_OFFLINE` to fetch it").into());
            }
            let url = format!("{}/{name}", self.fetch_from.trim_end_matches('/'));
            crate::interrupt::listen();
            fetch_url(&config, &url, &path, &mut Transfer::new())?;
        }
        self.unpacked(&path)
    }
}
