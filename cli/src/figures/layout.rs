//! Where panels, titles, axes and their labels go.

use super::{
    axis::Axis,
    palette::Ink,
    scene::{Anchor, Area, CAP_HEIGHT, Scene, text_width, wrapped},
};

/// Size of all labels, points.
pub(super) const LABEL: f64 = 12.0;
/// Size of panel titles, points.
pub(super) const TITLE: f64 = 13.0;
/// From one line of labels to the next, points.
pub(super) const LINE: f64 = 15.0;
/// Length of a tick and the room between it and its label, points.
pub(super) const TICK: f64 = 3.5;
pub(super) const TICK_GAP: f64 = 4.2;
/// Width of a figure with one panel: 5 inch.
pub(super) const SINGLE: f64 = 360.0;
/// Width of a figure with several: 7 inch, both columns of a paper.
pub(super) const DOUBLE: f64 = 504.0;
/// Around everything, points.
pub(super) const MARGIN: f64 = 6.0;

/// Panels in a grid with what is written around them.
#[derive(Debug)]
pub(super) struct Grid<'a> {
    /// Width of the figure, points.
    pub(super) width: f64,
    pub(super) columns: usize,
    pub(super) panel_height: f64,
    /// Titles of the panels; as many as there are panels.
    pub(super) titles: Vec<&'a str>,
    pub(super) x_label: &'a str,
    pub(super) y_label: &'a str,
    /// Room for ticks and their labels left of the first column.
    pub(super) left: f64,
    /// Room for ticks and their labels below every row.
    pub(super) below: f64,
    /// Room for what is at the right of all panels.
    pub(super) right: f64,
    /// Room between columns.
    pub(super) gap: f64,
}

/// How many columns `panels` panels get, and how wide their figure is.
pub(super) fn columns(panels: usize, most: usize) -> (usize, f64) {
    let columns = match panels {
        0 | 1 => 1,
        4 => most.min(2),
        panels => most.min(panels),
    };
    (columns, if panels > 1 { DOUBLE } else { SINGLE })
}

impl Grid<'_> {
    fn rows(&self) -> usize {
        self.titles.len().div_ceil(self.columns)
    }

    /// Lines of the label at the left: as long as the panels are high at most.
    fn y_lines(&self) -> Vec<String> {
        let rows = self.rows() as f64;
        wrapped(self.y_label, LABEL, (self.panel_height * rows + (rows - 1.0) * LINE).max(90.0), 2)
    }

    fn start(&self) -> f64 {
        let lines = self.y_lines().len() as f64;
        MARGIN + lines * LINE + if lines > 0.0 { 2.0 } else { 0.0 } + self.left
    }

    pub(super) fn panel_width(&self) -> f64 {
        let columns = self.columns as f64;
        ((self.width - self.start() - self.right - MARGIN - (columns - 1.0) * self.gap) / columns).max(20.0)
    }

    /// Draws titles and labels, and makes the scene as high as they need; the places of the panels, row by row.
    pub(super) fn draw(&self, scene: &mut Scene) -> Vec<Area> {
        scene.width = self.width;
        let (left, width) = (self.start(), self.panel_width());
        let mut top = MARGIN;
        let mut areas = vec![];
        for titles in self.titles.chunks(self.columns) {
            let lines: Vec<_> = titles.iter().map(|title| wrapped(title, TITLE, width + self.gap * 0.5, 3)).collect();
            let most = lines.iter().map(Vec::len).max().unwrap_or(0);
            top += if most > 0 { most as f64 * LINE + 4.0 } else { 4.0 };
            for (column, lines) in lines.iter().enumerate() {
                let area =
                    Area { left: left + column as f64 * (width + self.gap), top, width, height: self.panel_height };
                for (line, text) in lines.iter().rev().enumerate() {
                    let at = (area.left + width / 2.0, top - 6.0 - line as f64 * LINE);
                    scene.text(text, at, TITLE, Anchor::Middle);
                }
                areas.push(area);
            }
            top += self.panel_height + self.below + if self.rows() > 1 { 8.0 } else { 0.0 };
        }
        let bottom = areas.last().map_or(top, Area::bottom);
        let first = areas.first().map_or(top, |area| area.top);
        for (line, text) in self.y_lines().iter().enumerate() {
            let at = (MARGIN + CAP_HEIGHT * LABEL + 2.0 + line as f64 * LINE, f64::midpoint(first, bottom));
            scene.turned_text(text, at, LABEL, Anchor::Middle);
        }
        let all = width * self.columns as f64 + self.gap * (self.columns - 1) as f64;
        top -= if self.rows() > 1 { 8.0 } else { 0.0 };
        for text in wrapped(self.x_label, LABEL, self.width - 2.0 * MARGIN, 2) {
            let half = text_width(&text, LABEL) / 2.0;
            // Below the middle of the panels, moved if it would leave the figure.
            let middle = (left + all / 2.0).min(self.width - MARGIN - half).max(MARGIN + half);
            scene.text(text, (middle, top + LINE - 1.0), LABEL, Anchor::Middle);
            top += LINE;
        }
        scene.height = top + MARGIN;
        areas
    }
}

/// Spines at the left and below.
pub(super) fn spines(scene: &mut Scene, area: Area) {
    let points = vec![(area.left, area.top), (area.left, area.bottom()), (area.right(), area.bottom())];
    scene.path(points, 0.8, Ink::DARK);
}

/// Grid lines and ticks of the upright axis, with labels if this is the first column.
pub(super) fn y_ticks(scene: &mut Scene, area: Area, axis: &Axis, labelled: bool) {
    for tick in &axis.ticks {
        let y = area.bottom() - axis.share(*tick) * area.height;
        scene.path(vec![(area.left, y), (area.right(), y)], 0.5, Ink::GRID);
        scene.path(vec![(area.left - TICK, y), (area.left, y)], 0.8, Ink::DARK);
        if labelled {
            let at = (area.left - TICK - TICK_GAP, y + CAP_HEIGHT * LABEL / 2.0);
            scene.text(axis.label(*tick), at, LABEL, Anchor::End);
        }
    }
}

/// Ticks of the level axis with their labels; `place` says where along the panel a value is.
pub(super) fn x_ticks(scene: &mut Scene, area: Area, axis: &Axis, place: impl Fn(f64) -> f64) {
    for tick in &axis.ticks {
        let x = place(*tick);
        scene.path(vec![(x, area.bottom()), (x, area.bottom() + TICK)], 0.8, Ink::DARK);
        let at = (x, area.bottom() + TICK + TICK_GAP + CAP_HEIGHT * LABEL);
        scene.text(axis.label(*tick), at, LABEL, Anchor::Middle);
    }
}

/// Room below a panel for ticks with one line of labels.
pub(super) const BELOW: f64 = TICK + TICK_GAP + LABEL;

/// An interval around a point, with caps at its ends.
pub(super) fn error_bar(scene: &mut Scene, from: (f64, f64), to: (f64, f64), ink: Ink) {
    const CAP: f64 = 2.2;
    let level = (from.1 - to.1).abs() < 1e-9;
    scene.path(vec![from, to], 1.0, ink);
    for (x, y) in [from, to] {
        let cap = if level { vec![(x, y - CAP), (x, y + CAP)] } else { vec![(x - CAP, y), (x + CAP, y)] };
        scene.path(cap, 1.0, ink);
    }
}

/// Both ends, if they are numbers.
pub(super) fn finite(interval: Option<(f64, f64)>) -> Option<(f64, f64)> {
    interval.filter(|(low, high)| low.is_finite() && high.is_finite())
}
