//! Points of two values each, with intervals both ways and names.

use anyhow::{Result, ensure};

use super::{
    Figure, ReferenceLine,
    axis::Axis,
    layout::{self, BELOW, Grid, LABEL, TICK, TICK_GAP, error_bar, finite},
    legend::{self, Entry, Sample},
    palette::{Ink, Marker, REFERENCE_DASHES, ink, marker},
    scene::{Anchor, Area, Scene, Text, Xy},
    table,
};

/// Points in one system of axes, such as effect against precision.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScatterPlot {
    /// Name of the figure's files.
    pub(crate) name: String,
    /// What the figure shows, in sentences.
    pub(crate) caption: String,
    /// What the level axis is, with its unit.
    pub(crate) x_label: String,
    /// What the upright axis is, with its unit.
    pub(crate) y_label: String,
    /// The points.
    pub(crate) points: Vec<ScatterPoint>,
    /// Level lines.
    pub(crate) reference_lines: Vec<ReferenceLine>,
}

/// One point.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScatterPoint {
    /// Written beside the point where there is room; may be empty.
    pub(crate) label: String,
    /// Points of a group have one colour.
    pub(crate) group: String,
    /// Points of a size, such as a model's, have one marker; may be empty.
    pub(crate) size: String,
    /// Value along the level axis.
    pub(crate) x: f64,
    /// Value along the upright axis.
    pub(crate) y: f64,
    /// Ends of the level interval.
    pub(crate) x_interval: Option<(f64, f64)>,
    /// Ends of the upright interval.
    pub(crate) y_interval: Option<(f64, f64)>,
}

const RADIUS: f64 = 3.4;

impl ScatterPlot {
    /// Draws the figure.
    ///
    /// # Errors
    /// If there is no point with two finite values.
    pub(crate) fn draw(&self) -> Result<Figure> {
        Figure::new(&self.name, &self.caption, &self.scene()?, self.csv()?)
    }

    pub(super) fn scene(&self) -> Result<Scene> {
        let drawn: Vec<&ScatterPoint> =
            self.points.iter().filter(|point| point.x.is_finite() && point.y.is_finite()).collect();
        ensure!(!self.points.is_empty(), "figure `{}` has no point", self.name);
        ensure!(!drawn.is_empty(), "figure `{}` has no point with two finite values", self.name);
        let both = |interval| finite(interval).into_iter().flat_map(|(low, high)| [low, high]);
        let x_values = drawn.iter().flat_map(|point| both(point.x_interval).chain([point.x]));
        let y_values = drawn.iter().flat_map(|point| both(point.y_interval).chain([point.y]));
        let references = self.reference_lines.iter().map(|line| line.value);
        let x = Axis::rounded_within(x_values, layout::SINGLE * 0.7, LABEL).expect("a finite value was found");
        let y = Axis::rounded(y_values.chain(references), 5).expect("a finite value was found");
        let grid = Grid {
            width: layout::SINGLE,
            columns: 1,
            panel_height: 230.0,
            titles: vec![""],
            x_label: &self.x_label,
            y_label: &self.y_label,
            left: y.widest(LABEL) + TICK + TICK_GAP,
            below: BELOW,
            // Half of the last tick's label.
            right: (x.widest(LABEL) / 2.0).max(6.0),
            gap: 0.0,
        };
        let mut scene = Scene::default();
        let area = grid.draw(&mut scene)[0];
        let x_place = |value: f64| area.left + x.share(value) * area.width;
        let y_place = |value: f64| area.bottom() - y.share(value) * area.height;
        layout::y_ticks(&mut scene, area, &y, true);
        layout::x_ticks(&mut scene, area, &x, x_place);
        for (index, line) in self.reference_lines.iter().enumerate().filter(|(_, line)| line.value.is_finite()) {
            let (at, dashes) = (y_place(line.value), REFERENCE_DASHES[index % REFERENCE_DASHES.len()]);
            scene.dashed(&[(area.left, at), (area.right(), at)], dashes, 1.2, Ink::GREY);
        }
        layout::spines(&mut scene, area);
        let groups = super::distinct(self.points.iter().map(|point| point.group.as_str()));
        let sizes = super::distinct(self.points.iter().map(|point| point.size.as_str()));
        let mut taken: Vec<Area> = vec![];
        for point in &drawn {
            let ink = ink(place_of(&groups, &point.group));
            let (at_x, at_y) = (x_place(point.x), y_place(point.y));
            if let Some((low, high)) = finite(point.x_interval) {
                error_bar(&mut scene, (x_place(low), at_y), (x_place(high), at_y), ink);
                taken.push(spanned((x_place(low), at_y), (x_place(high), at_y)));
            }
            if let Some((low, high)) = finite(point.y_interval) {
                error_bar(&mut scene, (at_x, y_place(low)), (at_x, y_place(high)), ink);
                taken.push(spanned((at_x, y_place(high)), (at_x, y_place(low))));
            }
        }
        for point in &drawn {
            let at = (x_place(point.x), y_place(point.y));
            scene.marker(marker(place_of(&sizes, &point.size)), at, RADIUS, ink(place_of(&groups, &point.group)));
            taken.push(spanned((at.0 - RADIUS, at.1 - RADIUS), (at.0 + RADIUS, at.1 + RADIUS)));
        }
        for point in drawn.iter().filter(|point| !point.label.is_empty()) {
            name_point(&mut scene, area, &mut taken, (x_place(point.x), y_place(point.y)), &point.label);
        }
        legend::draw(&mut scene, &self.key(&groups, &sizes));
        Ok(scene)
    }

    fn key(&self, groups: &[&str], sizes: &[&str]) -> Vec<Entry> {
        let entry =
            |name: &&str, ink, marker| Entry { name: (*name).to_owned(), sample: Sample::Point { ink, marker } };
        let one_size = sizes.len() < 2;
        let coloured = groups.iter().enumerate().filter(|(_, name)| !name.is_empty());
        let shaped = sizes.iter().enumerate().filter(|(_, name)| !name.is_empty() && !one_size);
        let coloured = coloured.map(|(index, name)| entry(name, ink(index), Marker::Circle));
        let shaped = shaped.map(|(index, name)| entry(name, Ink::DARK, marker(index)));
        coloured.chain(shaped).chain(super::reference_key(&self.reference_lines)).collect()
    }

    fn csv(&self) -> Result<String> {
        let header = ["group", "size", "label", "x", "x_low", "x_high", "y", "y_low", "y_high"];
        let row = |point: &ScatterPoint| {
            let ((x_low, x_high), (y_low, y_high)) = (super::ends(point.x_interval), super::ends(point.y_interval));
            let names = [&point.group, &point.size, &point.label].map(Clone::clone);
            let numbers = [point.x.to_string(), x_low, x_high, point.y.to_string(), y_low, y_high];
            [names.as_slice(), &numbers].concat()
        };
        table(&header, self.points.iter().map(row))
    }
}

fn place_of(names: &[&str], name: &str) -> usize {
    names.iter().position(|known| *known == name).unwrap_or(0)
}

/// What a line or marker covers, with a little room.
fn spanned(from: Xy, to: Xy) -> Area {
    Area { left: from.0 - 1.0, top: from.1 - 1.0, width: to.0 - from.0 + 2.0, height: to.1 - from.1 + 2.0 }
}

/// Writes a point's name where it covers nothing, near the point or with a line to it; not at all where there is no room.
fn name_point(scene: &mut Scene, area: Area, taken: &mut Vec<Area>, at: Xy, label: &str) {
    const NEAR: f64 = 5.5;
    for distance in [NEAR, 14.0, 26.0, 40.0, 60.0] {
        let diagonal = distance * 0.8;
        let middle = super::scene::CAP_HEIGHT * LABEL / 2.0;
        let places = [
            ((distance, middle), Anchor::Start),
            ((-distance, middle), Anchor::End),
            ((0.0, -distance), Anchor::Middle),
            ((0.0, distance + 2.0 * middle), Anchor::Middle),
            ((diagonal, -diagonal), Anchor::Start),
            ((-diagonal, -diagonal), Anchor::End),
            ((diagonal, diagonal + 2.0 * middle), Anchor::Start),
            ((-diagonal, diagonal + 2.0 * middle), Anchor::End),
        ];
        for ((right, down), anchor) in places {
            let text = Text {
                line: label.to_owned(),
                at: (at.0 + right, at.1 + down),
                size: LABEL,
                anchor,
                turned: false,
                ink: Ink::BLACK,
            };
            let covered = text.area();
            if area.contains(&covered) && !taken.iter().any(|taken| taken.overlaps(&covered)) {
                if distance > NEAR {
                    let end = (
                        at.0.clamp(covered.left - 1.0, covered.right() + 1.0),
                        at.1.clamp(covered.top - 1.0, covered.bottom() + 1.0),
                    );
                    scene.path(vec![at, end], 0.5, Ink::GREY);
                }
                taken.push(covered);
                scene.text(label, text.at, LABEL, anchor);
                return;
            }
        }
    }
}
