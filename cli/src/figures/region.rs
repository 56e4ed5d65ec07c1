//! Points in a plane over the regions in which a classifier decides one way or the other.

use anyhow::{Result, ensure};

use super::{
    Figure, animation,
    axis::Axis,
    layout::{self, BELOW, Grid, LABEL, TICK, TICK_GAP},
    legend::{self, Entry, Sample},
    palette::{Ink, Marker, ink},
    scene::{Area, Scene, Xy},
    table,
};

/// Panels over the same plane, one per classifier.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegionPlot {
    /// Name of the figure's files.
    pub(crate) name: String,
    /// What the figure shows, in sentences.
    pub(crate) caption: String,
    /// What the level axis is.
    pub(crate) x_label: String,
    /// What the upright axis is.
    pub(crate) y_label: String,
    /// Ends of the level axis.
    pub(crate) x: (f64, f64),
    /// Ends of the upright axis.
    pub(crate) y: (f64, f64),
    /// Side by side.
    pub(crate) panels: Vec<RegionPanel>,
    /// In every panel, the later ones above.
    pub(crate) groups: Vec<RegionGroup>,
}

/// Where one classifier decides for the positive class.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegionPanel {
    /// Above the panel.
    pub(crate) title: String,
    /// Rows from below, each from the left, over the whole plane: `true` is positive.
    pub(crate) positive: Vec<Vec<bool>>,
}

/// Points of one kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegionGroup {
    /// In the key.
    pub(crate) name: String,
    /// Its look.
    pub(crate) kind: PointKind,
    /// Places. What is not finite is left out; what is outside is drawn at the edge.
    pub(crate) points: Vec<Xy>,
}

/// What points are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PointKind {
    /// Of the positive class, as its region.
    #[default]
    Positive,
    /// Of the negative class, as its region.
    Negative,
    /// What is followed, above the others.
    Followed,
}

/// Regions in the colours of their points, so light that the points stand out.
const REGIONS: [Ink; 2] = [Ink::solid([222, 235, 245]), Ink::solid([252, 228, 208])];
/// A little beyond the cell, so that no seam shows.
const SEAM: f64 = 0.3;

impl PointKind {
    fn look(self) -> (Ink, Marker, f64) {
        match self {
            Self::Positive => (ink(1), Marker::Square, 2.0),
            Self::Negative => (ink(0), Marker::Circle, 2.0),
            Self::Followed => (Ink::BLACK, Marker::Triangle, 2.7),
        }
    }
}

impl RegionPlot {
    /// Draws the figure.
    ///
    /// # Errors
    /// If there is no panel, or an end of an axis is not finite.
    pub(crate) fn draw(&self) -> Result<Figure> {
        Figure::new(&self.name, &self.caption, &self.scene()?, self.csv()?)
    }

    /// Several of these, one after the other, `milliseconds` each, as GIF.
    ///
    /// # Errors
    /// As [`Self::draw`]; if the figures are not of one size.
    pub(crate) fn animate(plots: &[Self], milliseconds: u16) -> Result<Vec<u8>> {
        let scenes = plots.iter().map(Self::scene).collect::<Result<Vec<_>>>()?;
        animation::gif(&scenes, milliseconds)
    }

    pub(super) fn scene(&self) -> Result<Scene> {
        ensure!(!self.panels.is_empty(), "figure `{}` has no panel", self.name);
        let ends = [self.x.0, self.x.1, self.y.0, self.y.1];
        ensure!(ends.iter().all(|end| end.is_finite()), "figure `{}` has an end that is not finite", self.name);
        let y = Axis::between(self.y.0, self.y.1).expect("the ends are finite");
        let (columns, width) = layout::columns(self.panels.len(), 3);
        let mut grid = Grid {
            width,
            columns,
            panel_height: 0.0,
            titles: self.panels.iter().map(|panel| panel.title.as_str()).collect(),
            x_label: &self.x_label,
            y_label: &self.y_label,
            left: y.widest(LABEL) + TICK + TICK_GAP,
            below: BELOW,
            right: 6.0,
            gap: 20.0,
        };
        grid.panel_height = grid.panel_width().min(260.0);
        let x = Axis::exact(&[self.x.0, self.x.1], grid.panel_width(), LABEL).expect("the ends are finite");
        let mut scene = Scene::default();
        for (index, (area, panel)) in grid.draw(&mut scene).into_iter().zip(&self.panels).enumerate() {
            let place =
                |(px, py): Xy| (area.left + x.share(px) * area.width, area.bottom() - y.share(py) * area.height);
            draw_regions(&mut scene, area, panel);
            for group in &self.groups {
                let (ink, marker, radius) = group.kind.look();
                for point in group.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
                    if group.kind == PointKind::Followed {
                        // A white edge, or points on points would be one blot.
                        scene.marker(marker, place(*point), radius + 0.7, Ink::WHITE);
                    }
                    scene.marker(marker, place(*point), radius, ink);
                }
            }
            for tick in &y.ticks {
                let at = area.bottom() - y.share(*tick) * area.height;
                scene.path(vec![(area.left - TICK, at), (area.left, at)], 0.8, Ink::DARK);
                if index % columns == 0 {
                    let at = (area.left - TICK - TICK_GAP, at + super::scene::CAP_HEIGHT * LABEL / 2.0);
                    scene.text(y.label(*tick), at, LABEL, super::scene::Anchor::End);
                }
            }
            layout::x_ticks(&mut scene, area, &x, |value| area.left + x.share(value) * area.width);
            layout::spines(&mut scene, area);
        }
        legend::draw(&mut scene, &self.key());
        Ok(scene)
    }

    fn key(&self) -> Vec<Entry> {
        let point = |group: &RegionGroup| {
            let (ink, marker, _) = group.kind.look();
            Entry { name: group.name.clone(), sample: Sample::Point { ink, marker } }
        };
        let region = |(index, name): (usize, &str)| Entry {
            name: name.to_owned(),
            sample: Sample::Bar { ink: REGIONS[index], hatched: false },
        };
        let regions = [(1, "decided positive"), (0, "decided negative")].map(region);
        self.groups.iter().map(point).chain(regions).collect()
    }

    fn csv(&self) -> Result<String> {
        let rows = self
            .groups
            .iter()
            .flat_map(|group| group.points.iter().map(|(x, y)| vec![group.name.clone(), x.to_string(), y.to_string()]));
        table(&["group", "x", "y"], rows)
    }
}

/// Negative everywhere, and positive in strips of rows.
fn draw_regions(scene: &mut Scene, area: Area, panel: &RegionPanel) {
    scene.rect((area.left, area.top), (area.right(), area.bottom()), REGIONS[0]);
    let height = area.height / panel.positive.len().max(1) as f64;
    for (index, row) in panel.positive.iter().enumerate() {
        let bottom = area.bottom() - index as f64 * height;
        let top = (bottom - height - SEAM).max(area.top);
        let width = area.width / row.len().max(1) as f64;
        let mut column = 0;
        for run in row.chunk_by(|a, b| a == b) {
            let (from, to) = (column, column + run.len());
            column = to;
            if run[0] {
                let right = (area.left + to as f64 * width + SEAM).min(area.right());
                scene.rect((area.left + from as f64 * width, top), (right, bottom), REGIONS[1]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::scene::Shape;

    fn plot(step: usize) -> RegionPlot {
        let row = |y: usize| (0..20).map(|x| x > y).collect();
        let panel = |title: &str| RegionPanel { title: title.to_owned(), positive: (0..20).map(row).collect() };
        let group = |name: &str, kind, shift: f64| RegionGroup {
            name: name.to_owned(),
            kind,
            points: (0..30)
                .map(|i| ((f64::from(i) * 0.37).sin() + shift, (f64::from(i) * 0.53).cos() - shift))
                .collect(),
        };
        RegionPlot {
            name: "regions".to_owned(),
            caption: "Regions.".to_owned(),
            x_label: "first component".to_owned(),
            y_label: "second component".to_owned(),
            x: (-1.7, 1.7),
            y: (-1.7, 1.7),
            panels: vec![panel("logistic"), panel("SVM")],
            groups: vec![
                group("notes of the concept", PointKind::Positive, 0.3),
                group("other notes", PointKind::Negative, -0.3),
                group("generated", PointKind::Followed, 0.1 * step as f64),
            ],
        }
    }

    #[test]
    fn the_positive_region_is_where_it_is_said_to_be() {
        let scene = plot(0).scene().unwrap();
        let orange: Vec<(Xy, Xy)> = scene
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                Shape::Rect { from, to, ink } if *ink == REGIONS[1] => Some((*from, *to)),
                _ => None,
            })
            .collect();
        // 19 rows have a strip in each of two panels, and the key has one.
        assert_eq!(orange.len(), 2 * 19 + 1);
        let ((left, _), (right, bottom)) = orange[0];
        assert!((right - left) / 19.0 > 5.0 && orange[1].1.1 < bottom, "{orange:?}");
    }

    #[test]
    fn an_animation_has_a_frame_per_step() {
        let plots: Vec<RegionPlot> = (0..3).map(plot).collect();
        let file = RegionPlot::animate(&plots, 500).unwrap();
        let mut reader = gif::DecodeOptions::new().read_info(file.as_slice()).unwrap();
        let mut delays = vec![];
        while let Some(frame) = reader.read_next_frame().unwrap() {
            delays.push(frame.delay);
        }
        assert_eq!(delays, [50, 50, 50]);
        assert!(plots[1].draw().unwrap().csv.lines().count() == 91);
    }

    #[test]
    fn what_cannot_be_drawn_is_told() {
        let mut odd = plot(0);
        odd.x.1 = f64::NAN;
        assert!(odd.draw().is_err());
        odd = plot(0);
        odd.groups[2].points[3].0 = f64::INFINITY;
        odd.groups[2].points[4].0 = 1e300;
        odd.draw().unwrap();
        odd.panels.clear();
        assert!(odd.draw().is_err());
    }
}
