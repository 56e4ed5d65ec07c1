//! Tables of values as colours.

use anyhow::{Result, ensure};

use super::{
    Figure,
    axis::{Axis, every},
    layout::{self, DOUBLE, Grid, LABEL, LINE, MARGIN, SINGLE, TICK, TICK_GAP},
    palette::{Ink, diverging, sequential},
    scene::{Anchor, Area, CAP_HEIGHT, Scene, shortened, text_width, wrapped},
    table,
};

/// Which colours stand for which values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Scale {
    /// Dark to light from the least to the largest value.
    #[default]
    Sequential,
    /// Blue below 0, orange above, as far on either side.
    Diverging,
}

/// Tables of the same rows and columns as colours on one scale.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeatMap {
    /// Name of the figure's files.
    pub(crate) name: String,
    /// What the figure shows, in sentences.
    pub(crate) caption: String,
    /// What the columns are.
    pub(crate) x_label: String,
    /// What the rows are.
    pub(crate) y_label: String,
    /// One per column; every one is written if there is room.
    pub(crate) x_ticks: Vec<String>,
    /// One per row, from above.
    pub(crate) y_ticks: Vec<String>,
    /// Which colours.
    pub(crate) scale: Scale,
    /// What the values are, with their unit.
    pub(crate) value_label: String,
    /// At least one.
    pub(crate) panels: Vec<HeatPanel>,
}

/// One table.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeatPanel {
    /// Above the panel; may be empty.
    pub(crate) title: String,
    /// Rows from above, each from the left. What is not finite is hatched.
    pub(crate) values: Vec<Vec<f64>>,
}

/// Width of the colour bar.
const BAR: f64 = 12.0;
/// Between the panels and the colour bar.
const BAR_GAP: f64 = 14.0;
/// Neighbouring cells cover each other by so much, so that no seam shows.
const SEAM: f64 = 0.36;

impl HeatMap {
    /// Draws the figure.
    ///
    /// # Errors
    /// If there is no panel, no finite value, or a table that does not fit the ticks.
    pub(crate) fn draw(&self) -> Result<Figure> {
        Figure::new(&self.name, &self.caption, &self.scene()?, self.csv()?)
    }

    fn check(&self) -> Result<()> {
        let (rows, columns) = (self.y_ticks.len(), self.x_ticks.len());
        ensure!(!self.panels.is_empty(), "figure `{}` has no panel", self.name);
        ensure!(rows > 0 && columns > 0, "figure `{}` has {rows} rows and {columns} columns", self.name);
        for panel in &self.panels {
            let fits = panel.values.len() == rows && panel.values.iter().all(|row| row.len() == columns);
            ensure!(fits, "panel `{}` of figure `{}` is not {rows} × {columns}", panel.title, self.name);
        }
        Ok(())
    }

    /// The values of the first and the last colour.
    fn limits(&self) -> Option<(f64, f64)> {
        let finite = self.panels.iter().flat_map(|panel| panel.values.iter().flatten()).copied();
        let finite = || finite.clone().filter(|value| value.is_finite()).map(|value| value.clamp(-1e300, 1e300));
        let (low, high) = (finite().reduce(f64::min)?, finite().reduce(f64::max)?);
        Some(match self.scale {
            Scale::Diverging => {
                let far = low.abs().max(high.abs());
                if far > 0.0 { (-far, far) } else { (-1.0, 1.0) }
            }
            Scale::Sequential if low < high => (low, high),
            Scale::Sequential => (low - 0.5, high + 0.5),
        })
    }

    pub(super) fn scene(&self) -> Result<Scene> {
        self.check()?;
        let Some((low, high)) = self.limits() else {
            anyhow::bail!("figure `{}` has no finite value in any panel", self.name)
        };
        let scale = Axis::between(low, high).expect("the limits are finite");
        let (rows, columns) = (self.y_ticks.len() as f64, self.x_ticks.len() as f64);
        let flat = columns / rows > 2.5;
        let (panel_columns, width) = match self.panels.len() {
            1 => (1, if flat && columns > 12.0 { DOUBLE } else { SINGLE }),
            panels if flat => (1, if panels > 0 { DOUBLE } else { SINGLE }),
            panels => layout::columns(panels, 3),
        };
        let names: Vec<String> = self.y_ticks.iter().map(|tick| shortened(tick, LABEL, width * 0.3)).collect();
        let widest = names.iter().map(|name| text_width(name, LABEL)).fold(0.0, f64::max);
        let mut grid = Grid {
            width,
            columns: panel_columns,
            panel_height: 0.0,
            titles: self.panels.iter().map(|panel| panel.title.as_str()).collect(),
            x_label: &self.x_label,
            y_label: &self.y_label,
            left: widest + TICK + TICK_GAP,
            below: 0.0,
            right: BAR_GAP + BAR + TICK + TICK_GAP + scale.widest(LABEL) + 2.0 + 2.0 * LINE,
            gap: 16.0,
        };
        let square = (0.6..=1.7).contains(&(rows / columns));
        let wide = grid.panel_width();
        // Names of rows, such as sites and heads, are all written; numbers can be left out.
        let named = self.y_ticks.iter().any(|tick| tick.trim().parse::<f64>().is_err());
        let least = if named { (rows * (LABEL + 2.5)).min(720.0) } else { 0.0 };
        let wanted = if square { (wide * rows / columns).min(330.0) } else { (rows * 22.0).clamp(66.0, 300.0) };
        grid.panel_height = wanted.max(least);
        let level = LevelTicks::new(&self.x_ticks, grid.panel_width() / columns);
        grid.below = TICK + TICK_GAP + level.height;
        let mut scene = Scene::default();
        let areas = grid.draw(&mut scene);
        for (index, (area, panel)) in areas.iter().zip(&self.panels).enumerate() {
            self.draw_cells(&mut scene, *area, panel, (low, high));
            level.draw(&mut scene, *area);
            if index % panel_columns == 0 {
                upright_ticks(&mut scene, *area, &self.y_ticks, &names);
            }
        }
        self.draw_bar(&mut scene, &areas, &scale, (low, high));
        Ok(scene)
    }

    fn colour(&self, value: f64, (low, high): (f64, f64)) -> Ink {
        // Halved first: the difference of the ends may be beyond the largest number.
        let share = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
        match self.scale {
            Scale::Sequential => sequential(share),
            Scale::Diverging => diverging(share),
        }
    }

    fn draw_cells(&self, scene: &mut Scene, area: Area, panel: &HeatPanel, limits: (f64, f64)) {
        let (rows, columns) = (panel.values.len() as f64, self.x_ticks.len() as f64);
        let (height, width) = (area.height / rows, area.width / columns);
        let cell = |row: usize, column: usize| Area {
            left: area.left + column as f64 * width,
            top: area.top + row as f64 * height,
            width,
            height,
        };
        let mut hatched = vec![];
        for (row, values) in panel.values.iter().enumerate() {
            for (column, value) in values.iter().enumerate() {
                let cell = cell(row, column);
                let to = ((cell.right() + SEAM).min(area.right()), (cell.bottom() + SEAM).min(area.bottom()));
                let ink = if value.is_finite() { self.colour(*value, limits) } else { Ink::PALE };
                scene.rect((cell.left, cell.top), to, ink);
                if !value.is_finite() {
                    hatched.push(cell);
                }
            }
        }
        // After all cells: a neighbour's seam would cover the ends of the lines.
        for cell in hatched {
            scene.hatch(cell, 4.0, 0.6, Ink::GREY);
        }
        let corners = [
            (area.left, area.top),
            (area.right(), area.top),
            (area.right(), area.bottom()),
            (area.left, area.bottom()),
        ];
        scene.path([corners.as_slice(), &corners[..1]].concat(), 0.8, Ink::DARK);
    }

    /// The colour bar with its ticks, at the right of all panels.
    fn draw_bar(&self, scene: &mut Scene, areas: &[Area], scale: &Axis, limits: (f64, f64)) {
        const STEPS: usize = 128;
        let (top, bottom) = (areas[0].top, areas[areas.len() - 1].bottom());
        let right = areas.iter().map(Area::right).fold(0.0, f64::max);
        let height = (bottom - top).min(260.0);
        let bar = Area { left: right + BAR_GAP, top: f64::midpoint(top, bottom) - height / 2.0, width: BAR, height };
        for step in 0..STEPS {
            let share = (STEPS - step) as f64 / STEPS as f64;
            let from = (bar.left, bar.top + bar.height * step as f64 / STEPS as f64);
            let to = (bar.right(), (from.1 + bar.height / STEPS as f64 + SEAM).min(bar.bottom()));
            let (low, high) = limits;
            let value = low + (high / 2.0 - low / 2.0) * 2.0 * (share - 0.5 / STEPS as f64);
            scene.rect(from, to, self.colour(value, limits));
        }
        let step = scale.ticks[1] - scale.ticks[0];
        let named = step * every(bar.height / scale.ticks.len() as f64, LINE) as f64;
        for tick in &scale.ticks {
            let y = bar.bottom() - scale.share(*tick) * bar.height;
            scene.path(vec![(bar.right(), y), (bar.right() + TICK, y)], 0.8, Ink::DARK);
            // Counted from 0, so that 0 is among those that are named.
            let steps = tick / named;
            if (steps - steps.round()).abs() < 1e-6 {
                let at = (bar.right() + TICK + TICK_GAP, y + CAP_HEIGHT * LABEL / 2.0);
                scene.text(scale.label(*tick), at, LABEL, Anchor::Start);
            }
        }
        let lines = wrapped(&self.value_label, LABEL, (bottom - top).max(90.0), 2);
        for (line, text) in lines.iter().enumerate() {
            let x = scene.width - MARGIN - 3.0 - (lines.len() - 1 - line) as f64 * LINE;
            let half = text_width(text, LABEL) / 2.0;
            let middle = f64::midpoint(top, bottom).max(MARGIN + half).min(scene.height - MARGIN - half);
            scene.turned_text(text, (x, middle), LABEL, Anchor::Middle);
        }
    }
}

/// Which rows to name so that names do not touch; of whole numbers, the multiples of a round one.
fn kept(ticks: &[String], gap: f64, extent: f64) -> Vec<bool> {
    let step = every(gap, extent);
    let numbers: Option<Vec<usize>> = ticks.iter().map(|tick| tick.trim().parse().ok()).collect();
    let by_place = || (0..ticks.len()).map(|index| index % step == 0).collect();
    match numbers {
        Some(numbers) if step > 1 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1) => {
            let kept: Vec<bool> = numbers.iter().map(|number| number % step == 0).collect();
            if kept.contains(&true) { kept } else { by_place() }
        }
        _ => by_place(),
    }
}

fn upright_ticks(scene: &mut Scene, area: Area, ticks: &[String], names: &[String]) {
    let gap = area.height / names.len() as f64;
    for (index, (name, kept)) in names.iter().zip(kept(ticks, gap, LABEL + 2.0)).enumerate() {
        if kept {
            let y = area.top + (index as f64 + 0.5) * gap;
            scene.path(vec![(area.left - TICK, y), (area.left, y)], 0.8, Ink::DARK);
            scene.text(name, (area.left - TICK - TICK_GAP, y + CAP_HEIGHT * LABEL / 2.0), LABEL, Anchor::End);
        }
    }
}

/// Names below columns or groups of bars: level if they fit, upright if they do not.
pub(super) struct LevelTicks {
    names: Vec<String>,
    kept: Vec<bool>,
    turned: bool,
    /// Room that the names take, points.
    pub(super) height: f64,
}

impl LevelTicks {
    /// For names that are `gap` points from each other.
    pub(super) fn new(ticks: &[String], gap: f64) -> Self {
        const LONGEST: f64 = 135.0;
        let widest = ticks.iter().map(|tick| text_width(tick, LABEL)).fold(0.0, f64::max);
        let numbers = ticks.iter().all(|tick| tick.trim().parse::<f64>().is_ok());
        let turned = widest + 5.0 > gap && !numbers && ticks.len() > 1;
        let names: Vec<String> = ticks.iter().map(|tick| shortened(tick, LABEL, LONGEST.max(gap))).collect();
        let kept = kept(ticks, gap, if turned { LABEL + 2.0 } else { widest + 5.0 });
        let height = if turned { widest.min(LONGEST) + 4.0 } else { LABEL };
        Self { names, kept, turned, height }
    }

    pub(super) fn draw(&self, scene: &mut Scene, area: Area) {
        let gap = area.width / self.names.len() as f64;
        for (index, (name, kept)) in self.names.iter().zip(&self.kept).enumerate() {
            if !*kept {
                continue;
            }
            let x = area.left + (index as f64 + 0.5) * gap;
            let below = area.bottom() + TICK + TICK_GAP;
            scene.path(vec![(x, area.bottom()), (x, area.bottom() + TICK)], 0.8, Ink::DARK);
            if self.turned {
                scene.turned_text(name, (x + CAP_HEIGHT * LABEL / 2.0, below), LABEL, Anchor::End);
            } else {
                scene.text(name, (x, below + CAP_HEIGHT * LABEL), LABEL, Anchor::Middle);
            }
        }
    }
}

impl HeatMap {
    fn csv(&self) -> Result<String> {
        let rows = self.panels.iter().flat_map(|panel| {
            panel.values.iter().zip(&self.y_ticks).flat_map(move |(values, row)| {
                let cell = move |(value, column): (&f64, &String)| {
                    vec![panel.title.clone(), row.clone(), column.clone(), value.to_string()]
                };
                values.iter().zip(&self.x_ticks).map(cell)
            })
        });
        table(&["panel", "row", "column", "value"], rows)
    }
}
