//! Files that appear whole or not at all.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// A folder for results, made if need be.
#[derive(Debug)]
pub(crate) struct OutputFolder(PathBuf);

impl OutputFolder {
    /// Makes sure that `path` is a folder that can be written to, before hours are spent on what goes there.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make the folder `{}`", path.display()))?;
        tempfile::tempfile_in(path).with_context(|| format!("cannot write into `{}`", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// Writes `bytes` as `name` and returns its path.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.0.join(name);
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(".tonoscope-").tempfile_in(&self.0)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                // Temporary files are private; results are for everybody who may read the folder.
                file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
            }
            file.persist(&path)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(path)
    }
}
