//! Lines over layers or steps, with bands.

use anyhow::{Result, ensure};

use super::{
    Figure, ReferenceLine,
    axis::Axis,
    layout::{self, BELOW, Grid, LABEL, TICK, TICK_GAP, error_bar, finite},
    legend::{self, Entry, Sample},
    palette::{REFERENCE_DASHES, dashes, ink, marker},
    scene::{Area, Scene, Xy},
    table,
};

/// A place on the level axis, the value there, and the ends of its interval.
pub(crate) type Point = (f64, f64, Option<(f64, f64)>);

/// Lines with bands, in panels that share the upright axis.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinePlot {
    /// Name of the figure's files.
    pub(crate) name: String,
    /// What the figure shows, in sentences.
    pub(crate) caption: String,
    /// What the level axis is, with its unit.
    pub(crate) x_label: String,
    /// What the upright axis is, with its unit.
    pub(crate) y_label: String,
    /// Side by side, three to a row.
    pub(crate) panels: Vec<Panel>,
    /// Whether the upright axis begins at 0 even if no value is near.
    pub(crate) y_from_zero: bool,
    /// Level lines through all panels.
    pub(crate) reference_lines: Vec<ReferenceLine>,
}

/// One system of axes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Panel {
    /// Above the panel; may be empty.
    pub(crate) title: String,
    /// Its lines.
    pub(crate) series: Vec<Series>,
}

/// One line. The same name means the same colour in every panel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    /// In the key.
    pub(crate) name: String,
    /// In any order. Values that are not finite leave a gap.
    pub(crate) points: Vec<Point>,
}

/// From values to places in one panel.
struct Frame<'a> {
    area: Area,
    x: &'a Axis,
    y: &'a Axis,
}

/// Between the ends of the level axis and the panel's sides, points.
const INSET: f64 = 7.0;

impl Frame<'_> {
    fn x(&self, value: f64) -> f64 {
        self.area.left + INSET + self.x.share(value) * (self.area.width - 2.0 * INSET)
    }

    fn y(&self, value: f64) -> f64 {
        self.area.bottom() - self.y.share(value) * self.area.height
    }
}

impl LinePlot {
    /// Draws the figure.
    ///
    /// # Errors
    /// If there is no panel, no series, or no finite value.
    pub(crate) fn draw(&self) -> Result<Figure> {
        self.draw_with(&[])
    }

    /// The same with level lines of some panels alone: `panel_lines` are those of the panels, in order. The same name means
    /// the same dashes in every panel; the lines of all panels come first in the key.
    ///
    /// # Errors
    /// As [`Self::draw`].
    pub(crate) fn draw_with(&self, panel_lines: &[Vec<ReferenceLine>]) -> Result<Figure> {
        Figure::new(&self.name, &self.caption, &self.scene_with(panel_lines)?, self.csv()?)
    }

    #[cfg(test)]
    pub(super) fn scene(&self) -> Result<Scene> {
        self.scene_with(&[])
    }

    pub(super) fn scene_with(&self, panel_lines: &[Vec<ReferenceLine>]) -> Result<Scene> {
        let all = || self.panels.iter().flat_map(|panel| &panel.series);
        let points = || all().flat_map(|series| &series.points).filter(|(x, y, _)| x.is_finite() && y.is_finite());
        ensure!(!self.panels.is_empty(), "figure `{}` has no panel", self.name);
        ensure!(all().next().is_some(), "figure `{}` has no series", self.name);
        ensure!(points().next().is_some(), "figure `{}` has no finite value in any series", self.name);
        let (columns, width) = layout::columns(self.panels.len(), 3);
        let panel_height = if columns == 1 { 190.0 } else { 160.0 };
        let ends = points().filter_map(|(_, _, interval)| finite(*interval)).flat_map(|(low, high)| [low, high]);
        let lines = self.distinct_lines(panel_lines);
        let references = self.reference_lines.iter().chain(panel_lines.iter().flatten()).map(|line| line.value);
        let zero = self.y_from_zero.then_some(0.0);
        let values = points().map(|(_, y, _)| *y).chain(ends).chain(references).chain(zero);
        let y = Axis::rounded(values, if columns == 1 { 5 } else { 4 }).expect("a finite value was found");
        let grid = Grid {
            width,
            columns,
            panel_height,
            titles: self.panels.iter().map(|panel| panel.title.as_str()).collect(),
            x_label: &self.x_label,
            y_label: &self.y_label,
            left: y.widest(LABEL) + TICK + TICK_GAP,
            below: BELOW,
            right: 4.0,
            gap: 18.0,
        };
        let places: Vec<f64> = points().map(|(x, ..)| *x).collect();
        let x = Axis::exact(&places, grid.panel_width() - 2.0 * INSET, LABEL).expect("a finite value was found");
        let names = super::distinct(all().map(|series| series.name.as_str()));
        let mut scene = Scene::default();
        for (index, (area, panel)) in grid.draw(&mut scene).into_iter().zip(&self.panels).enumerate() {
            let frame = Frame { area, x: &x, y: &y };
            layout::y_ticks(&mut scene, area, &y, index % columns == 0);
            layout::x_ticks(&mut scene, area, &x, |value| frame.x(value));
            let own = panel_lines.get(index).into_iter().flatten();
            for line in self.reference_lines.iter().chain(own).filter(|line| line.value.is_finite()) {
                let at = frame.y(line.value);
                let look = lines.iter().position(|known| known.name == line.name).unwrap_or(0);
                let dashes = REFERENCE_DASHES[look % REFERENCE_DASHES.len()];
                scene.dashed(&[(area.left, at), (area.right(), at)], dashes, 1.2, super::palette::Ink::GREY);
            }
            layout::spines(&mut scene, area);
            let looks: Vec<(usize, &Series)> = panel
                .series
                .iter()
                .map(|series| (names.iter().position(|name| *name == series.name).unwrap_or(0), series))
                .collect();
            for (look, series) in &looks {
                draw_bands(&mut scene, &frame, *look, series);
            }
            // All lines above all bands.
            for (look, series) in &looks {
                draw_line(&mut scene, &frame, *look, series);
            }
        }
        legend::draw(&mut scene, &Self::key(&names, &lines));
        Ok(scene)
    }

    /// The level lines, each name once; of a name that is not finite everywhere, one that is.
    fn distinct_lines(&self, panel_lines: &[Vec<ReferenceLine>]) -> Vec<ReferenceLine> {
        let mut lines: Vec<ReferenceLine> = vec![];
        for line in self.reference_lines.iter().chain(panel_lines.iter().flatten()) {
            match lines.iter_mut().find(|known| known.name == line.name && !line.name.is_empty()) {
                Some(known) if !known.value.is_finite() => known.value = line.value,
                Some(_) => {}
                None => lines.push(line.clone()),
            }
        }
        lines
    }

    fn key(names: &[&str], reference_lines: &[ReferenceLine]) -> Vec<Entry> {
        let line = |(index, name): (usize, &&str)| Entry {
            name: (*name).to_owned(),
            sample: Sample::Line { ink: ink(index), dashes: dashes(index), marker: Some(marker(index)) },
        };
        let alone = names.len() == 1 && names[0].is_empty();
        let lines = names.iter().enumerate().map(line).filter(|_| !alone);
        lines.chain(super::reference_key(reference_lines)).collect()
    }

    fn csv(&self) -> Result<String> {
        let rows = self.panels.iter().flat_map(|panel| panel.series.iter().map(move |series| (panel, series)));
        let rows = rows.flat_map(|(panel, series)| {
            series.points.iter().map(move |(x, mean, interval)| {
                let (low, high) = super::ends(*interval);
                vec![panel.title.clone(), series.name.clone(), x.to_string(), mean.to_string(), low, high]
            })
        });
        table(&["panel", "series", "x", "mean", "low", "high"], rows)
    }
}

/// Neighbouring points with finite values, in order.
fn runs(series: &Series) -> Vec<Vec<Point>> {
    let mut points: Vec<Point> = series.points.iter().copied().filter(|(x, ..)| x.is_finite()).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points.split(|(_, y, _)| !y.is_finite()).filter(|run| !run.is_empty()).map(<[Point]>::to_vec).collect()
}

fn draw_bands(scene: &mut Scene, frame: &Frame, look: usize, series: &Series) {
    for run in runs(series) {
        for banded in run.split(|(_, _, interval)| finite(*interval).is_none()) {
            let ends = |(x, _, interval): &Point| finite(*interval).map(|(low, high)| (frame.x(*x), low, high));
            let ends: Vec<(f64, f64, f64)> = banded.iter().filter_map(ends).collect();
            match ends.as_slice() {
                [] => {}
                // A band needs two points.
                [(x, low, high)] => error_bar(scene, (*x, frame.y(*low)), (*x, frame.y(*high)), ink(look)),
                ends => {
                    let above = ends.iter().map(|(x, _, high)| (*x, frame.y(*high)));
                    let below = ends.iter().rev().map(|(x, low, _)| (*x, frame.y(*low)));
                    scene.polygon(above.chain(below).collect(), ink(look).faint(0.17));
                }
            }
        }
    }
}

fn draw_line(scene: &mut Scene, frame: &Frame, look: usize, series: &Series) {
    let runs = runs(series);
    let count: usize = runs.iter().map(Vec::len).sum();
    // Markers closer than that would hide the line.
    let every = super::axis::every(frame.area.width / count.max(1) as f64, 6.5);
    let mut index = 0;
    for run in runs {
        let places: Vec<Xy> = run.iter().map(|(x, y, _)| (frame.x(*x), frame.y(*y))).collect();
        scene.dashed(&places, dashes(look), 1.6, ink(look));
        for place in &places {
            if index % every == 0 || places.len() == 1 {
                scene.marker(marker(look), *place, 2.5, ink(look));
            }
            index += 1;
        }
    }
}
