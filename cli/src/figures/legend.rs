//! The key of a figure, below its panels, where it covers nothing.

use super::{
    layout::{LABEL, LINE, MARGIN},
    palette::{Ink, Marker},
    scene::{Anchor, Area, CAP_HEIGHT, Scene, shortened, text_width},
};

/// What stands beside a name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sample {
    Line { ink: Ink, dashes: &'static [f64], marker: Option<Marker> },
    Bar { ink: Ink, hatched: bool },
    Point { ink: Ink, marker: Marker },
}

/// A name and how it looks in the figure.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) sample: Sample,
}

const LINE_WIDTH: f64 = 26.0;
const POINT_WIDTH: f64 = 12.0;

impl Sample {
    fn width(self) -> f64 {
        if matches!(self, Self::Line { .. }) { LINE_WIDTH } else { POINT_WIDTH }
    }

    fn draw(self, scene: &mut Scene, x: f64, y: f64) {
        match self {
            Self::Line { ink, dashes, marker } => {
                scene.dashed(&[(x, y), (x + LINE_WIDTH, y)], dashes, 1.6, ink);
                if let Some(marker) = marker {
                    scene.marker(marker, (x + LINE_WIDTH / 2.0, y), 2.6, ink);
                }
            }
            Self::Bar { ink, hatched } => {
                let half = POINT_WIDTH / 2.0 - 1.0;
                scene.rect((x, y - half), (x + POINT_WIDTH - 1.0, y + half), ink);
                if hatched {
                    let area = Area { left: x, top: y - half, width: POINT_WIDTH - 1.0, height: 2.0 * half };
                    scene.hatch(area, 3.5, 0.9, Ink::WHITE);
                }
            }
            Self::Point { ink, marker } => scene.marker(marker, (x + POINT_WIDTH / 2.0, y), 3.2, ink),
        }
    }
}

/// Adds `entries` at the bottom of the scene, in columns.
pub(super) fn draw(scene: &mut Scene, entries: &[Entry]) {
    const GAP: f64 = 6.0;
    const BETWEEN: f64 = 16.0;
    if entries.is_empty() {
        return;
    }
    let available = scene.width - 2.0 * MARGIN;
    let sample = entries.iter().map(|entry| entry.sample.width()).fold(0.0, f64::max);
    let names: Vec<String> =
        entries.iter().map(|entry| shortened(&entry.name, LABEL, available - sample - GAP)).collect();
    let widths: Vec<f64> = names.iter().map(|name| sample + GAP + text_width(name, LABEL)).collect();
    let (columns, cells) = cells(&widths, available, BETWEEN);
    let rows = entries.len().div_ceil(columns);
    let left = (scene.width - cells.iter().sum::<f64>() - BETWEEN * (columns - 1) as f64) / 2.0;
    let top = scene.height + 2.0;
    for (index, (entry, name)) in entries.iter().zip(names).enumerate() {
        let (row, column) = (index / columns, index % columns);
        let before = cells[..column].iter().sum::<f64>() + BETWEEN * column as f64;
        let (x, y) = (left + before, top + (row as f64 + 0.5) * (LINE + 1.0));
        entry.sample.draw(scene, x + (sample - entry.sample.width()) / 2.0, y);
        scene.text(name, (x + sample + GAP, y + CAP_HEIGHT * LABEL / 2.0), LABEL, Anchor::Start);
    }
    scene.height = top + rows as f64 * (LINE + 1.0) + MARGIN;
}

/// The most columns in which entries of these widths fit, spread evenly over their rows, and how wide each column is.
fn cells(widths: &[f64], available: f64, between: f64) -> (usize, Vec<f64>) {
    let widest = |columns: usize| -> Vec<f64> {
        let column = |column| widths.iter().skip(column).step_by(columns).copied().fold(0.0, f64::max);
        (0..columns).map(column).collect()
    };
    let fits =
        |columns: &usize| widest(*columns).iter().sum::<f64>() + between * (*columns - 1) as f64 <= available + 1e-9;
    let most = (1..=widths.len()).rev().find(fits).unwrap_or(1);
    let even = widths.len().div_ceil(widths.len().div_ceil(most));
    let columns = if fits(&even) { even } else { most };
    (columns, widest(columns))
}
