//! Grouped bars with intervals.

use anyhow::{Result, ensure};

use super::{
    Figure, ReferenceLine,
    axis::Axis,
    heat::LevelTicks,
    layout::{self, Grid, LABEL, TICK, TICK_GAP, error_bar, finite},
    legend::{self, Entry, Sample},
    palette::{Ink, REFERENCE_DASHES, ink},
    scene::{Area, Scene},
    table,
};

/// Bars in groups, in panels that share the upright axis. Bars begin at 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct BarPlot {
    /// Name of the figure's files.
    pub(crate) name: String,
    /// What the figure shows, in sentences.
    pub(crate) caption: String,
    /// What the groups are.
    pub(crate) x_label: String,
    /// What the upright axis is, with its unit.
    pub(crate) y_label: String,
    /// Names of the groups, the same in every panel.
    pub(crate) groups: Vec<String>,
    /// Side by side, two to a row.
    pub(crate) panels: Vec<BarPanel>,
    /// Level lines through all panels.
    pub(crate) reference_lines: Vec<ReferenceLine>,
}

/// One system of axes.
#[derive(Debug, Clone, Default)]
pub(crate) struct BarPanel {
    /// Above the panel; may be empty.
    pub(crate) title: String,
    /// One bar of every group each.
    pub(crate) series: Vec<BarSeries>,
}

/// Bars of one colour. The same name means the same colour in every panel.
#[derive(Debug, Clone, Default)]
pub(crate) struct BarSeries {
    /// In the key.
    pub(crate) name: String,
    /// Height and interval, one per group. What is not finite leaves a gap.
    pub(crate) values: Vec<(f64, Option<(f64, f64)>)>,
}

impl BarPlot {
    /// Draws the figure.
    ///
    /// # Errors
    /// If there is no group, no series, no finite value, or a series that does not have one value per group.
    pub(crate) fn draw(&self) -> Result<Figure> {
        Figure::new(&self.name, &self.caption, &self.scene()?, self.csv()?)
    }

    pub(super) fn scene(&self) -> Result<Scene> {
        let all = || self.panels.iter().flat_map(|panel| &panel.series);
        let values = || all().flat_map(|series| &series.values).filter(|(value, _)| value.is_finite());
        ensure!(!self.groups.is_empty(), "figure `{}` has no group of bars", self.name);
        ensure!(all().next().is_some(), "figure `{}` has no series", self.name);
        for series in all() {
            let (found, expected) = (series.values.len(), self.groups.len());
            ensure!(
                found == expected,
                "`{}` of figure `{}` has {found} bars for {expected} groups",
                series.name,
                self.name
            );
        }
        ensure!(values().next().is_some(), "figure `{}` has no finite value in any series", self.name);
        let many = self.groups.len() > 12;
        let (columns, mut width) = layout::columns(self.panels.len(), if many { 1 } else { 2 });
        if many || self.groups.len() * all().count() > 24 {
            width = layout::DOUBLE;
        }
        let ends = values().filter_map(|(_, interval)| finite(*interval)).flat_map(|(low, high)| [low, high]);
        let references = self.reference_lines.iter().map(|line| line.value);
        let y = Axis::rounded(values().map(|(value, _)| *value).chain(ends).chain(references).chain([0.0]), 5)
            .expect("0 is finite");
        let mut grid = Grid {
            width,
            columns,
            panel_height: 180.0,
            titles: self.panels.iter().map(|panel| panel.title.as_str()).collect(),
            x_label: &self.x_label,
            y_label: &self.y_label,
            left: y.widest(LABEL) + TICK + TICK_GAP,
            below: 0.0,
            right: 4.0,
            gap: 18.0,
        };
        let level = LevelTicks::new(&self.groups, grid.panel_width() / self.groups.len() as f64);
        grid.below = TICK + TICK_GAP + level.height;
        let names = super::distinct(all().map(|series| series.name.as_str()));
        let mut scene = Scene::default();
        for (index, (area, panel)) in grid.draw(&mut scene).into_iter().zip(&self.panels).enumerate() {
            layout::y_ticks(&mut scene, area, &y, index % columns == 0);
            draw_bars(&mut scene, area, &y, panel, &names);
            let zero = area.bottom() - y.share(0.0) * area.height;
            scene.path(vec![(area.left, zero), (area.right(), zero)], 0.8, Ink::DARK);
            for (index, line) in self.reference_lines.iter().enumerate().filter(|(_, line)| line.value.is_finite()) {
                let at = area.bottom() - y.share(line.value) * area.height;
                let dashes = REFERENCE_DASHES[index % REFERENCE_DASHES.len()];
                scene.dashed(&[(area.left, at), (area.right(), at)], dashes, 1.2, Ink::GREY);
            }
            scene.path(vec![(area.left, area.top), (area.left, area.bottom())], 0.8, Ink::DARK);
            level.draw(&mut scene, area);
        }
        let alone = names.len() == 1 && names[0].is_empty();
        let bar = |(index, name): (usize, &&str)| Entry {
            name: (*name).to_owned(),
            sample: Sample::Bar { ink: ink(index), hatched: index % 2 == 1 },
        };
        let bars = names.iter().enumerate().map(bar).filter(|_| !alone);
        let key: Vec<Entry> = bars.chain(super::reference_key(&self.reference_lines)).collect();
        legend::draw(&mut scene, &key);
        Ok(scene)
    }

    fn csv(&self) -> Result<String> {
        let rows = self.panels.iter().flat_map(|panel| panel.series.iter().map(move |series| (panel, series)));
        let rows = rows.flat_map(|(panel, series)| {
            series.values.iter().zip(&self.groups).map(move |((mean, interval), group)| {
                let (low, high) = super::ends(*interval);
                vec![panel.title.clone(), group.clone(), series.name.clone(), mean.to_string(), low, high]
            })
        });
        table(&["panel", "group", "series", "mean", "low", "high"], rows)
    }
}

fn draw_bars(scene: &mut Scene, area: Area, y: &Axis, panel: &BarPanel, names: &[&str]) {
    let groups = panel.series.first().map_or(0, |series| series.values.len());
    let gap = area.width / groups as f64;
    let width = (gap * 0.8 / panel.series.len() as f64).min(40.0);
    let place = |value: f64| area.bottom() - y.share(value) * area.height;
    for (index, series) in panel.series.iter().enumerate() {
        let look = names.iter().position(|name| *name == series.name).unwrap_or(index);
        for (group, (value, interval)) in series.values.iter().enumerate().filter(|(_, (value, _))| value.is_finite()) {
            let middle = area.left + (group as f64 + 0.5) * gap;
            let left = middle + (index as f64 - panel.series.len() as f64 / 2.0) * width;
            let (top, bottom) = (place(value.max(0.0)), place(value.min(0.0)));
            let bar = Area { left, top, width: width * 0.94, height: bottom - top };
            scene.rect((bar.left, bar.top), (bar.right(), bar.bottom()), ink(look));
            if look % 2 == 1 && width > 4.0 {
                scene.hatch(bar, 5.5, 0.8, Ink::WHITE);
            }
            if let Some((low, high)) = finite(*interval) {
                let x = bar.left + bar.width / 2.0;
                if width > 5.0 {
                    error_bar(scene, (x, place(low)), (x, place(high)), Ink::BLACK);
                } else {
                    scene.path(vec![(x, place(low)), (x, place(high))], 0.8, Ink::BLACK);
                }
            }
        }
    }
}
