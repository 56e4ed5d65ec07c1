//! Where a model came from.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use serde::Serialize;
use sha2::{Digest, Sha256};
use tonoscope_hub::{BuiltIn, Checkpoint, hex};

use crate::{Error, Result};

/// Where a model came from: what it was asked for as, and which files hold its weights.
#[derive(Debug, Clone)]
pub struct Origin {
    /// As it was asked for.
    pub name: String,
    /// Commit of the Hub's repository.
    pub revision: Option<String>,
    /// Layout of the files.
    pub layout: &'static str,
    /// Where the weights lie.
    pub places: Vec<Place>,
}

/// Where weights lie.
#[derive(Debug, Clone)]
pub enum Place {
    /// In one file.
    File(PathBuf),
    /// In a folder and the folders in it.
    Folder(PathBuf),
    /// In the listed files of a checkpoint.
    Checkpoint(Checkpoint),
}

/// Where a model came from, for the record of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Provenance {
    /// As it was asked for.
    pub model: String,
    /// Commit of the Hub's repository.
    pub revision: Option<String>,
    /// Layout of the files.
    pub layout: &'static str,
    /// File of weights → sha256.
    pub checksums: Vec<(String, String)>,
}

impl Origin {
    /// Name, revision and checksums of all weights. Files outside the Hub's cache are read for it.
    ///
    /// # Errors
    /// [`Error::Io`] if a file can no longer be read.
    pub fn provenance(&self) -> Result<Provenance> {
        let Self { name, revision, layout, .. } = self.clone();
        Ok(Provenance { model: name, revision, layout, checksums: self.checksums()? })
    }

    /// File of weights → sha256. Files outside the Hub's cache are read for it.
    ///
    /// # Errors
    /// [`Error::Io`] if a file can no longer be read.
    pub fn checksums(&self) -> Result<Vec<(String, String)>> {
        let mut checksums = vec![];
        for place in &self.places {
            match place {
                Place::File(path) => {
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    checksums.push((name, sha256(path)?));
                }
                Place::Folder(folder) if BuiltIn::at(folder).is_some() => {
                    let files = BuiltIn::at(folder).into_iter().flat_map(BuiltIn::files);
                    let mut names: Vec<&str> = files.map(|(name, _)| *name).collect();
                    names.retain(|name| holds_weights(Path::new(name)));
                    names.sort_unstable();
                    for name in names {
                        checksums.push((name.to_owned(), sha256(&folder.join(name))?));
                    }
                }
                Place::Folder(folder) => {
                    let mut files = vec![];
                    walk(folder, 1, &mut files).map_err(Error::io("read", folder))?;
                    files.sort();
                    for file in files {
                        let name = file.strip_prefix(folder).unwrap_or(&file).to_string_lossy().into_owned();
                        checksums.push((name, sha256(&file)?));
                    }
                }
                Place::Checkpoint(checkpoint) => {
                    for file in checkpoint.files.iter().filter(|file| holds_weights(Path::new(file))) {
                        let sum = match checkpoint.checksum(file) {
                            Some(sum) => sum,
                            None => sha256(&checkpoint.folder.join(file))?,
                        };
                        checksums.push((file.clone(), sum));
                    }
                }
            }
        }
        Ok(checksums)
    }
}

/// Checksum of a file.
///
/// # Errors
/// [`Error::Io`] if it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    if let Some(content) = BuiltIn::content(path) {
        return Ok(hex(&Sha256::digest(content)));
    }
    let read = || -> std::io::Result<String> {
        let mut file = fs::File::open(path)?;
        let mut hasher = Sha256::new();
        let mut block = vec![0; 1 << 20];
        loop {
            match file.read(&mut block)? {
                0 => break,
                len => hasher.update(&block[..len]),
            }
        }
        Ok(hex(&hasher.finalize()))
    };
    read().map_err(Error::io("read", path))
}

/// Files of weights in `folder` and the folders in it.
fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    const DEEPEST: usize = 2;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && depth < DEEPEST {
            walk(&path, depth + 1, found)?;
        } else if path.is_file() && holds_weights(&path) {
            found.push(path);
        }
    }
    Ok(())
}

fn holds_weights(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("safetensors" | "bin" | "ckpt" | "pt"))
}
