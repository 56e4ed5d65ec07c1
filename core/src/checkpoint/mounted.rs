//! Folders in memory, which loaders find under a path as they find those on disk: models inside a program need no disk.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

/// Path of a file → its content.
static MOUNTED: RwLock<BTreeMap<PathBuf, &'static [u8]>> = RwLock::new(BTreeMap::new());

/// Lets loaders find `files` (name with `/`, content) in `folder`, before they look on disk.
///
/// # Example
/// ```
/// use std::path::Path;
///
/// let folder = Path::new("built-in/tiny");
/// tonoscope_core::checkpoint::mount(folder, &[("config.json", b"{}")]);
/// ```
pub fn mount(folder: &Path, files: &[(&'static str, &'static [u8])]) {
    let mut mounted = MOUNTED.write().unwrap_or_else(PoisonError::into_inner);
    mounted.extend(files.iter().map(|(name, content)| (folder.join(name), *content)));
}

/// The content of the file at `path`, if it lies in memory.
pub(crate) fn in_memory(path: &Path) -> Option<&'static [u8]> {
    MOUNTED.read().unwrap_or_else(PoisonError::into_inner).get(path).copied()
}

/// Whether there is a file at `path`, in memory or on disk.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn exists(path: &Path) -> bool {
    in_memory(path).is_some() || path.exists()
}
