//! What a folder of results holds.

use std::{
    fs::{self, File},
    io::Read,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::figures::Figure;

/// Rows of a table that are shown.
pub(super) const MOST_ROWS: usize = 200;

/// Longest file that is read, but for sounds.
const LONGEST: u64 = 256 << 20;

/// One folder, read.
#[derive(Debug)]
pub(super) struct Run {
    /// The folder's name.
    pub(super) name: String,
    /// `run.json`.
    pub(super) record: Map<String, Value>,
    pub(super) tables: Vec<Table>,
    pub(super) drawings: Vec<Drawing>,
    pub(super) clips: Vec<Clip>,
    /// What could not be shown, and why.
    pub(super) notices: Vec<String>,
}

/// The beginning of a CSV file.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) header: Vec<String>,
    /// The first [`MOST_ROWS`].
    pub(super) rows: Vec<Vec<String>>,
    /// Rows in the file.
    pub(super) total: usize,
}

/// A figure as it was written.
#[derive(Debug)]
pub(super) struct Drawing {
    pub(super) name: String,
    pub(super) caption: String,
    /// As it is shown.
    pub(super) picture: Picture,
    pub(super) png: Option<Vec<u8>>,
    pub(super) csv: Option<Vec<u8>>,
}

/// A picture of any size, or one that moves.
#[derive(Debug)]
pub(super) enum Picture {
    Svg(Vec<u8>),
    Gif(Vec<u8>),
}

/// One sound; a row of `audio.csv`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Clip {
    /// Path below the folder.
    pub(super) file: String,
    /// What it is, such as `layer 12` or `clean`.
    #[serde(default)]
    pub(super) group: String,
    #[serde(default)]
    pub(super) label: String,
    /// Clips of one prompt are compared with each other.
    #[serde(default)]
    pub(super) prompt: String,
    #[serde(default)]
    pub(super) details: String,
    /// Where the file is; checked to be inside the folder.
    #[serde(skip)]
    pub(super) path: PathBuf,
}

impl Drawing {
    /// A figure that has just been made.
    pub(super) fn new(figure: &Figure) -> Self {
        Self {
            name: figure.name.clone(),
            caption: figure.caption.clone(),
            picture: Picture::Svg(figure.svg.clone().into_bytes()),
            png: Some(figure.png.clone()),
            csv: Some(figure.csv.clone().into_bytes()),
        }
    }
}

impl Run {
    /// Reads the folder at `path`.
    ///
    /// # Errors
    /// If there is no `run.json`, it or `audio.csv` is damaged, or one of them names a file outside the folder. A damaged table
    /// or figure is a notice.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = path.join("run.json");
        let bytes = read_inside(path, &file)
            .with_context(|| format!("cannot read `{}`: no folder of results", file.display()))?;
        let record: Map<String, Value> =
            serde_json::from_slice(&bytes).with_context(|| format!("`{}` is damaged", file.display()))?;
        let clips = read_clips(path, &record)?;
        let whole = fs::canonicalize(path).with_context(|| format!("cannot find `{shown}`"))?;
        let name = whole.file_name().map_or_else(|| shown.to_string(), |name| name.to_string_lossy().into_owned());
        let mut run = Self { name, record, tables: vec![], drawings: vec![], clips, notices: vec![] };
        for file in files(path, "csv")?.iter().filter(|file| !file.ends_with("audio.csv")) {
            match read_table(path, file) {
                Ok(table) => run.tables.push(table),
                Err(error) => run.notices.push(format!("table left out: {error:#}")),
            }
        }
        let figures = path.join("figures");
        if figures.is_dir()
            && let Err(error) = contained(path, &figures)
        {
            run.notices.push(format!("figures left out: {error:#}"));
        } else if figures.is_dir() {
            // That of several models was written beside an earlier page.
            let own = |file: &PathBuf| file.file_stem().is_none_or(|stem| stem != super::sizes::NAME);
            let still = files(&figures, "svg")?.into_iter().filter(own);
            for file in still.chain(files(&figures, "gif")?) {
                match read_drawing(path, &file) {
                    Ok(drawing) => run.drawings.push(drawing),
                    Err(error) => run.notices.push(format!("figure left out: {error:#}")),
                }
            }
        }
        Ok(run)
    }

    /// Which command made the folder, as far as its record says.
    pub(super) fn command(&self) -> &str {
        self.record.get("command").and_then(Value::as_str).unwrap_or("generate")
    }
}

/// Files of a folder with this extension, by name.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let unread = || format!("cannot read the folder `{}`", folder.display());
    let mut found = vec![];
    for entry in fs::read_dir(folder).with_context(unread)? {
        let path = entry.with_context(unread)?.path();
        if path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension)) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// `relative` below `folder`; symbolic links are followed first.
///
/// # Errors
/// If it leads out of the folder.
pub(super) fn inside(folder: &Path, relative: &str) -> Result<PathBuf> {
    let below = Path::new(relative);
    let plain = below.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    // Backslashes separate on Windows only; nobody needs them elsewhere.
    ensure!(plain && !relative.is_empty() && !relative.contains('\\'), "`{relative}` is not a path inside the folder");
    let path = folder.join(below);
    contained(folder, &path)?;
    Ok(path)
}

/// Makes sure that the file at `path`, below `folder`, lies inside it once symbolic links are followed: the folder may be
/// somebody else's, and the page must hold nothing that is not in it.
///
/// # Errors
/// If it leads out of the folder.
fn contained(folder: &Path, path: &Path) -> Result<()> {
    if let (Ok(real), Ok(whole)) = (fs::canonicalize(path), fs::canonicalize(folder)) {
        let shown = path.strip_prefix(folder).unwrap_or(path).display();
        ensure!(real.starts_with(&whole), "`{shown}` leads out of the folder");
    }
    Ok(())
}

/// The content of the file at `path`, which lies inside `folder` and is no longer than [`LONGEST`].
pub(super) fn read_inside(folder: &Path, path: &Path) -> Result<Vec<u8>> {
    contained(folder, path)?;
    let mut bytes = vec![];
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= LONGEST, "it is longer than {} MB", LONGEST >> 20);
    Ok(bytes)
}

fn read_clips(folder: &Path, record: &Map<String, Value>) -> Result<Vec<Clip>> {
    let table = folder.join("audio.csv");
    let mut clips = vec![];
    if table.exists() {
        let damaged = || format!("`{}` is damaged", table.display());
        let bytes = read_inside(folder, &table).with_context(|| format!("cannot read `{}`", table.display()))?;
        for clip in csv::Reader::from_reader(bytes.as_slice()).deserialize() {
            clips.push(clip.with_context(damaged)?);
        }
    } else if let Some(pieces) = record.get("pieces").and_then(Value::as_array) {
        for (index, piece) in pieces.iter().enumerate() {
            let text = |key: &str| piece.get(key).and_then(Value::as_str).map(str::to_owned);
            let Some(file) = text("audio") else {
                bail!("piece {index} of `run.json` in `{}` has no audio", folder.display())
            };
            clips.push(Clip {
                label: file.clone(),
                file,
                group: piece.get("sample").map_or_else(String::new, |sample| format!("sample {sample}")),
                prompt: text("prompt").unwrap_or_default(),
                details: String::new(),
                path: PathBuf::new(),
            });
        }
    }
    for clip in &mut clips {
        clip.path = inside(folder, &clip.file).with_context(|| format!("audio of `{}`", folder.display()))?;
    }
    Ok(clips)
}

fn name_of(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn read_table(folder: &Path, file: &Path) -> Result<Table> {
    let name = name_of(file);
    let read = || -> Result<Table> {
        let bytes = read_inside(folder, file)?;
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let header: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
        ensure!(!header.is_empty(), "it is empty");
        let (mut rows, mut total) = (vec![], 0);
        for row in reader.records() {
            let row = row?;
            if rows.len() < MOST_ROWS {
                rows.push(row.iter().map(str::to_owned).collect());
            }
            total += 1;
        }
        Ok(Table { name: name.clone(), header, rows, total })
    };
    read().with_context(|| format!("`{name}`"))
}

fn read_drawing(folder: &Path, file: &Path) -> Result<Drawing> {
    let name = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let bytes = read_inside(folder, file).with_context(|| format!("`{}`", name_of(file)))?;
    let picture = if bytes.starts_with(b"GIF8") {
        Picture::Gif(bytes)
    } else {
        ensure!(bytes.trim_ascii_start().starts_with(b"<"), "`{}` is not an SVG file", name_of(file));
        Picture::Svg(bytes)
    };
    // What is not there is not offered.
    let beside = |extension: &str| -> Result<Option<Vec<u8>>> {
        let path = file.with_extension(extension);
        let there = path.is_file().then(|| read_inside(folder, &path).with_context(|| format!("`{}`", name_of(&path))));
        there.transpose()
    };
    let caption = beside("txt")?.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()).unwrap_or_default();
    Ok(Drawing { name, caption, picture, png: beside("png")?, csv: beside("csv")? })
}
