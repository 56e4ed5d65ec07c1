//! `tonoscope report`

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    failure::Misuse,
    files::{Inputs, OutputFolder},
    report,
};

/// Make one HTML page of folders of results
///
/// It holds players with waveforms and spectrograms, figures, tables and settings, opens from disk and loads nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// Folders that `generate`, `lens`, `intervene`, `diffuse` or `probe` wrote. Where `intervene` wrote several, of different models, the page
    /// begins with effect against precision by model size, also written as `figures/effect_precision_by_size.*` beside it
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// The page [default: `report.html` in the first folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Megabytes of audio that are embedded at most; what is beyond is linked
    #[arg(long, value_name = "MB", default_value_t = 80)]
    max_audio_mb: u64,
}

impl ReportArgs {
    /// Files of the folders, of which none becomes the page; but for earlier pages.
    fn inputs(&self) -> Result<Inputs> {
        let mut files = vec![];
        for folder in
            self.folders.iter().flat_map(|folder| [folder.clone(), folder.join("figures"), folder.join("audio")])
        {
            if folder.is_dir() {
                let listed = std::fs::read_dir(&folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
                let listed = listed.with_context(|| format!("cannot read the folder `{}`", folder.display()))?;
                files.extend(listed.iter().map(std::fs::DirEntry::path));
            }
        }
        let page = |path: &PathBuf| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("html"));
        Ok(Inputs::new(files.iter().filter(|path| path.is_file() && !page(path))))
    }
}

pub(crate) fn run(args: &ReportArgs, out: &mut dyn Write) -> Result<()> {
    for folder in &args.folders {
        if !folder.is_dir() {
            return Err(Misuse::new(format!("`{}` is not a folder", folder.display())).into());
        }
    }
    let page = args.out.clone().unwrap_or_else(|| args.folders[0].join("report.html"));
    let name = page.file_name().and_then(|name| name.to_str());
    let Some(name) = name.filter(|_| !page.is_dir()) else {
        return Err(Misuse::new(format!("`{}` is not the name of a file", page.display())).into());
    };
    let beside = page.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Before the work: links start from the folder, and it must be possible to write there.
    let folder = OutputFolder::begin(beside, &args.inputs()?)?;
    folder.refuse_inputs([name])?;
    let made = report::page(&args.folders, beside, args.max_audio_mb.saturating_mul(1_000_000))?;
    if let Some(figure) = &made.by_size {
        figure.write(beside)?;
    }
    let written = folder.write(name, made.html.as_bytes()).context("cannot write the report")?;
    writeln!(out, "{}", written.display())?;
    Ok(())
}
