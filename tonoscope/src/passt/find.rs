//! From the name of a classifier to the file of its weights.

use std::path::{Path, PathBuf};

use tonoscope_core::hooks::edit_distance;
use tonoscope_hub::BuiltIn;
#[cfg(feature = "hub")]
use {
    sha2::{Digest, Sha256},
    tonoscope_hub::{check_address, fetch_url, hex},
};

use crate::{Error, Result, load::Search};

/// Name of `passt_s_swa_p16_128_ap476`, and what hear21passt calls its file and where it takes it from.
const PASST: &str = "passt";
const RELEASE: &str = "passt-s-f128-p16-s10-ap.476-swa.pt";
const RELEASE_FOLDER: &str = "https://github.com/kkoutini/PaSST/releases/download/v0.0.1-audioset";

/// The file that the name stands for.
pub(super) fn weights(search: &mut Search<'_>) -> Result<PathBuf> {
    let name = search.name;
    let path = PathBuf::from(name);
    if path.is_dir() {
        return in_folder(&path);
    }
    if path.is_file() {
        return Ok(path);
    }
    if let Some(model) = BuiltIn::named(name) {
        search.model()?;
        let weights = |(file, _): &&(&str, &[u8])| holds_weights(Path::new(file));
        if let Some((file, _)) = model.files().iter().find(weights) {
            return Ok(model.folder().join(file));
        }
    }
    if name == PASST {
        return release_file(search);
    }
    if name.starts_with("https://") || name.starts_with("http://") {
        return at_address(search);
    }
    let what = format!("no classifier, file or folder `{name}`");
    Err(if edit_distance(name, PASST) <= 2 {
        Error::request(what, "did you mean `passt`?")
    } else {
        Error::request(what, "pass `passt`, a `.pt` or `.safetensors` file, or a folder that holds one")
    })
}

/// Whether a file of this name may be a classifier's.
fn holds_weights(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("pt" | "safetensors"))
}

fn in_folder(folder: &Path) -> Result<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if holds_weights(&path) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    if let [only] = found.as_slice() {
        return Ok(only.clone());
    }
    let what = format!("`{}` holds {} `.pt` and `.safetensors` files, expected one", folder.display(), found.len());
    Err(Error::request(what, "pass the file itself"))
}

/// The release file where hear21passt has put it, in the cache of models, or in the current folder.
fn release_file(search: &mut Search<'_>) -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let torch = variable("TORCH_HOME").or_else(|| cache().map(|cache| cache.join("torch")));
    let hub = search.store.config().clone();
    let fetched = hub.cache.join(RELEASE);
    let folders = [torch.map(|torch| torch.join("hub").join("checkpoints")), Some(PathBuf::new())];
    let mut places: Vec<PathBuf> = folders.into_iter().flatten().map(|folder| folder.join(RELEASE)).collect();
    places.push(fetched.clone());
    if let Some(path) = places.iter().find(|path| path.is_file()) {
        return Ok(path.clone());
    }
    #[cfg(feature = "hub")]
    if !hub.offline {
        fetch_url(&hub, &format!("{RELEASE_FOLDER}/{RELEASE}"), &fetched, search.progress)?;
        return Ok(fetched);
    }
    let listed: Vec<String> = places.iter().map(|path| format!("`{}`", path.display())).collect();
    let what = format!("the weights of `{PASST}` are not here: looked for {}", listed.join(", "));
    let place = places[0].display();
    let hint = format!(
        "unset `HF_HUB_OFFLINE` to fetch them (340 MB), or `curl -L --create-dirs -o {place} {RELEASE_FOLDER}/{RELEASE}`"
    );
    Err(Error::Missing { what, hint })
}

/// The file at an address, from the cache of models if it has been fetched before.
#[cfg(feature = "hub")]
fn at_address(search: &mut Search<'_>) -> Result<PathBuf> {
    let address = check_address("the classifier's address", search.name, None)?;
    let file = Path::new(address.rsplit('/').next().unwrap_or_default());
    if !holds_weights(file) {
        let what = format!("`{address}` is not the address of a `.pt` or `.safetensors` file");
        return Err(Error::request(what, "pass the address of the file itself"));
    }
    let hub = search.store.config().clone();
    let folder = hex(&Sha256::digest(&address)[..8]);
    let path = hub.cache.join("judges").join(folder).join(file);
    if path.is_file() {
        return Ok(path);
    }
    if hub.offline {
        let what = format!("`{address}` was not fetched yet, and offline mode is set");
        return Err(Error::Missing { what, hint: "unset `HF_HUB_OFFLINE` to fetch it".to_owned() });
    }
    fetch_url(&hub, &address, &path, search.progress)?;
    Ok(path)
}

#[cfg(not(feature = "hub"))]
fn at_address(search: &mut Search<'_>) -> Result<PathBuf> {
    let what = format!("`{}` cannot be fetched: this build has no downloads", search.name);
    Err(Error::request(what, "build with the feature `hub`, or pass a file"))
}
