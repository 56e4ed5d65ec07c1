//! Figures of experiments: one description becomes SVG, PNG and CSV.
//!
//! A plot is laid out once, in points, as a [`scene::Scene`] of plain shapes; both drawings are made of it, so that they
//! cannot differ. Text is at least 12 pt on a figure 5 or 7 inches wide, colours are told apart with any colour vision,
//! and what is not a finite number is a gap or a hatched cell.

mod animation;
mod axis;
mod bar;
mod heat;
mod layout;
mod legend;
mod line;
mod palette;
mod region;
mod render;
mod scatter;
mod scene;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Context, Result, ensure};

pub(crate) use bar::{BarPanel, BarPlot, BarSeries};
pub(crate) use heat::{HeatMap, HeatPanel, Scale};
pub(crate) use line::{LinePlot, Panel, Series};
pub(crate) use region::{PointKind, RegionGroup, RegionPanel, RegionPlot};
pub(crate) use scatter::{ScatterPlot, ScatterPoint};

use crate::files::OutputFolder;
use legend::{Entry, Sample};
use scene::Scene;

/// A figure, ready to be written.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// Name of its files, without extension.
    pub(crate) name: String,
    /// What it shows, in sentences.
    pub(crate) caption: String,
    /// The drawing as SVG, sized in points.
    pub(crate) svg: String,
    /// The same drawing as PNG, 300 pixels per inch.
    pub(crate) png: Vec<u8>,
    /// The numbers drawn, all of them.
    pub(crate) csv: String,
}

/// A level line with a name, such as chance or the clean run.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReferenceLine {
    /// In the key.
    pub(crate) name: String,
    /// Where it crosses the upright axis.
    pub(crate) value: f64,
}

impl Figure {
    fn new(name: &str, caption: &str, scene: &Scene, csv: String) -> Result<Self> {
        let drawn = || Ok::<_, anyhow::Error>((render::svg(scene)?, render::png(scene)?));
        let (svg, png) = drawn().with_context(|| format!("figure `{name}`"))?;
        Ok(Self { name: name.to_owned(), caption: caption.to_owned(), svg, png, csv })
    }

    /// Writes `figures/NAME.svg`, `.png`, `.csv`, and the caption as `.txt`, into `folder`.
    ///
    /// # Errors
    /// If a file cannot be written, or the name is not made of letters, digits, `-`, `_` and `%`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let folder = folder_for(&self.name, folder)?;
        for (extension, bytes) in [
            ("svg", self.svg.as_bytes()),
            ("png", &self.png),
            ("csv", self.csv.as_bytes()),
            ("txt", self.caption.as_bytes()),
        ] {
            folder.write(&format!("{}.{extension}", self.name), bytes)?;
        }
        Ok(())
    }
}

/// The folder of the figures inside `folder`, if `name` can be that of a figure.
fn folder_for(name: &str, folder: &Path) -> Result<OutputFolder> {
    // As `file_name` makes them of names from outside.
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '%');
    let named = !name.is_empty() && name.chars().all(plain);
    ensure!(named, "`{name}` cannot be the name of a figure: letters, digits, `-`, `_` and `%` only");
    OutputFolder::open(&folder.join("figures"))
}

/// Writes an animation as `figures/NAME.gif` into `folder`.
///
/// # Errors
/// As [`Figure::write`].
pub(crate) fn write_animation(name: &str, gif: &[u8], folder: &Path) -> Result<()> {
    folder_for(name, folder)?.write(&format!("{name}.gif"), gif)?;
    Ok(())
}

/// Red, green and blue at `share` of the way, 0 to 1, along the sequential colours of heat maps.
pub(crate) fn sequential(share: f64) -> [u8; 3] {
    palette::sequential(share).rgb
}

/// A CSV file of `rows` below `header`.
fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<String> {
    let mut writer = csv::Writer::from_writer(vec![]);
    writer.write_record(header)?;
    for row in rows {
        writer.write_record(row)?;
    }
    Ok(String::from_utf8(writer.into_inner().context("cannot finish a CSV table")?)?)
}

/// Both ends of an interval as cells, empty if there is none.
fn ends(interval: Option<(f64, f64)>) -> (String, String) {
    interval.map_or_else(Default::default, |(low, high)| (low.to_string(), high.to_string()))
}

/// Every text once, in the order of first appearance.
pub(crate) fn distinct<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen: Vec<&str> = vec![];
    for text in texts {
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    seen
}

fn reference_key(lines: &[ReferenceLine]) -> impl Iterator<Item = Entry> {
    let named = lines.iter().enumerate().filter(|(_, line)| !line.name.is_empty() && line.value.is_finite());
    named.map(|(index, line)| Entry {
        name: line.name.clone(),
        sample: Sample::Line {
            ink: palette::Ink::GREY,
            dashes: palette::REFERENCE_DASHES[index % palette::REFERENCE_DASHES.len()],
            marker: None,
        },
    })
}
