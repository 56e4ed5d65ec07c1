//! Folders of results as one HTML page that needs nothing else: it opens from disk and loads nothing.
//!
//! What was read from files is shown as text, never as markup; figures and sounds are embedded as data.

mod clips;
mod folder;
mod markup;
mod sizes;
mod sound;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use clips::Budget;
use folder::{Drawing, Run};
use markup::escaped;

use crate::figures::Figure;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A page and what belongs to it.
#[derive(Debug)]
pub(crate) struct Page {
    /// The page itself.
    pub(crate) html: String,
    /// Interventions on models of several sizes, which the page shows first; `None` if the folders hold none.
    pub(crate) by_size: Option<Figure>,
}

/// The page about `folders`.
///
/// It will be put into the folder `beside`, which links to files that are not embedded start from. Of the audio, at most
/// `max_audio_bytes` are embedded, in the order of the folders and of their tables.
///
/// # Errors
/// If a folder has no `run.json`, if that or `audio.csv` is damaged, or if one of them names a file outside its folder. Other
/// files that cannot be shown are named on the page.
pub(crate) fn page(folders: &[PathBuf], beside: &Path, max_audio_bytes: u64) -> Result<Page> {
    let mut runs: Vec<Run> = folders.iter().map(|folder| Run::read(folder)).collect::<Result<_>>()?;
    let by_size = sizes::figure(&mut runs, folders)?;
    let models = by_size.as_ref().map_or_else(String::new, |figure| markup::models(&Drawing::new(figure)));
    let mut budget = Budget::new(beside, max_audio_bytes);
    let mut sections = String::new();
    for (index, run) in runs.iter().enumerate() {
        sections.push_str(&markup::section(index, run, &mut budget)?);
    }
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let title = escaped(&format!("tonoscope: {}", names.join(", ")));
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    // Nothing is loaded, and no script or style but these two runs, whatever the files held.
    let policy = format!(
        "default-src 'none'; img-src data:; media-src data:; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; \
         form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    let version = env!("CARGO_PKG_VERSION");
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#content\">Skip to the content</a>\n\
         <header><h1>tonoscope report</h1>\n{}{}</header>\n<main id=\"content\">\n{models}{sections}</main>\n\
         <footer><p>Written by tonoscope {version}. This page is complete: it loads nothing.</p></footer>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        markup::contents(&runs, by_size.is_some()),
        budget.notice()
    );
    Ok(Page { html, by_size })
}
