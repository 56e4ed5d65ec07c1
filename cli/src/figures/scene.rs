//! What a figure is made of before it becomes pixels or markup: shapes at places measured in points.

use std::sync::OnceLock;

use plotters::style::{FontDesc, FontFamily, FontStyle, register_font};

use super::palette::{Ink, Marker};

/// Families of the figures' text; the first is the one that is embedded, so that pictures need no font of the system.
pub(super) const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";
/// Height of a line of `DejaVu Sans` over its em: what plotters' bitmap text takes for its size.
pub(super) const LINE_HEIGHT: f64 = 2384.0 / 2048.0;
/// Height of capitals over the em.
pub(super) const CAP_HEIGHT: f64 = 0.73;

static DEJAVU: &[u8] = include_bytes!("../../../data/fonts/DejaVuSans.ttf");

/// A place, points from the upper left corner.
pub(super) type Xy = (f64, f64);

/// Which part of a text stands at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A line of text; its baseline goes through `at`.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) line: String,
    pub(super) at: Xy,
    /// Em, points.
    pub(super) size: f64,
    pub(super) anchor: Anchor,
    /// Reads upwards.
    pub(super) turned: bool,
    pub(super) ink: Ink,
}

/// What can be drawn.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Rect { from: Xy, to: Xy, ink: Ink },
    Polygon { points: Vec<Xy>, ink: Ink },
    Circle { at: Xy, radius: f64, ink: Ink },
    Path { points: Vec<Xy>, width: f64, ink: Ink },
    Text(Text),
}

/// A figure as shapes, in the order in which they cover each other.
#[derive(Debug, Default)]
pub(super) struct Scene {
    /// Points.
    pub(super) width: f64,
    /// Points.
    pub(super) height: f64,
    pub(super) shapes: Vec<Shape>,
}

/// A rectangle, points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Area {
    pub(super) fn right(&self) -> f64 {
        self.left + self.width
    }

    pub(super) fn bottom(&self) -> f64 {
        self.top + self.height
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right() && other.left < self.right() && self.top < other.bottom() && other.top < self.bottom()
    }

    pub(super) fn contains(&self, other: &Self) -> bool {
        self.left <= other.left
            && self.top <= other.top
            && other.right() <= self.right()
            && other.bottom() <= self.bottom()
    }
}

/// Makes the embedded font known to plotters.
pub(super) fn font(size: f64) -> FontDesc<'static> {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    REGISTERED.get_or_init(|| {
        // The font is part of the program; a test reads its metrics.
        let _ = register_font(FAMILY, FontStyle::Normal, DEJAVU);
    });
    FontDesc::new(FontFamily::Name(FAMILY), size, FontStyle::Normal)
}

/// Width of a line of text, points.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    // Measured large, since plotters rounds to whole pixels.
    const EM: f64 = 1000.0;
    let measured = font(EM * LINE_HEIGHT).layout_box(text);
    measured.map_or(0.0, |((left, _), (right, _))| f64::from(right - left) / EM * size)
}

/// Letters of a text that are measured: no line of a figure has as many.
const MOST_LETTERS: usize = 1000;

/// The first `most` letters of `text`.
fn at_most(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end])
}

/// `text`, cut with an ellipsis if it is wider than `width` points.
pub(super) fn shortened(text: &str, size: f64, width: f64) -> String {
    let known = at_most(text, MOST_LETTERS);
    if known.len() == text.len() && text_width(text, size) <= width {
        return text.to_owned();
    }
    let mut kept: Vec<char> = known.chars().collect();
    while kept.len() > 1 {
        kept.pop();
        let candidate = kept.iter().collect::<String>().trim_end().to_owned() + "…";
        if text_width(&candidate, size) <= width {
            return candidate;
        }
    }
    "…".to_owned()
}

/// `text` in lines of at most `width` points, at most `most` of them; what is too long is cut.
pub(super) fn wrapped(text: &str, size: f64, width: f64, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for word in at_most(text, MOST_LETTERS * most).split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    if lines.len() > most {
        let rest = lines.split_off(most.max(1) - 1).join(" ");
        lines.push(rest);
    }
    lines.into_iter().map(|line| shortened(&line, size, width)).collect()
}

impl Text {
    /// What the text covers, its descenders included.
    pub(super) fn area(&self) -> Area {
        let width = text_width(&self.line, self.size);
        let before = match self.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => width / 2.0,
            Anchor::End => width,
        };
        let (above, below) = (CAP_HEIGHT * self.size, 0.24 * self.size);
        let (x, y) = self.at;
        if self.turned {
            Area { left: x - above, top: y - (width - before), width: above + below, height: width }
        } else {
            Area { left: x - before, top: y - above, width, height: above + below }
        }
    }
}

impl Scene {
    pub(super) fn rect(&mut self, from: Xy, to: Xy, ink: Ink) {
        self.shapes.push(Shape::Rect { from, to, ink });
    }

    pub(super) fn polygon(&mut self, points: Vec<Xy>, ink: Ink) {
        self.shapes.push(Shape::Polygon { points, ink });
    }

    pub(super) fn path(&mut self, points: Vec<Xy>, width: f64, ink: Ink) {
        if points.len() > 1 {
            self.shapes.push(Shape::Path { points, width, ink });
        }
    }

    pub(super) fn text(&mut self, text: impl Into<String>, at: Xy, size: f64, anchor: Anchor) {
        let ink = Ink::BLACK;
        self.shapes.push(Shape::Text(Text { line: text.into(), at, size, anchor, turned: false, ink }));
    }

    pub(super) fn turned_text(&mut self, text: impl Into<String>, at: Xy, size: f64, anchor: Anchor) {
        let ink = Ink::BLACK;
        self.shapes.push(Shape::Text(Text { line: text.into(), at, size, anchor, turned: true, ink }));
    }

    /// A path in dashes: their lengths and those of the gaps in turn. None: unbroken.
    pub(super) fn dashed(&mut self, points: &[Xy], dashes: &[f64], width: f64, ink: Ink) {
        if dashes.is_empty() {
            self.path(points.to_vec(), width, ink);
            return;
        }
        let (mut index, mut left) = (0, dashes[0]);
        let mut dash: Vec<Xy> = points.first().copied().into_iter().collect();
        for pair in points.windows(2) {
            let ((x, y), (to_x, to_y)) = (pair[0], pair[1]);
            let length = (to_x - x).hypot(to_y - y);
            let mut done = 0.0;
            while length - done > left {
                done += left;
                let at = (x + (to_x - x) * done / length, y + (to_y - y) * done / length);
                if index % 2 == 0 {
                    dash.push(at);
                    self.path(std::mem::take(&mut dash), width, ink);
                } else {
                    dash = vec![at];
                }
                index = (index + 1) % dashes.len();
                left = dashes[index];
            }
            left -= length - done;
            if index % 2 == 0 {
                dash.push((to_x, to_y));
            }
        }
        if index % 2 == 0 {
            self.path(dash, width, ink);
        }
    }

    /// Diagonals over a rectangle, `gap` points apart.
    pub(super) fn hatch(&mut self, area: Area, gap: f64, width: f64, ink: Ink) {
        let reach = area.width + area.height;
        let mut offset = gap / 2.0;
        while offset < reach {
            // The line x + y = offset from the upper left corner, cut at the sides.
            let start = (offset.min(area.width), (offset - area.width).max(0.0));
            let end = ((offset - area.height).max(0.0), offset.min(area.height));
            let place = |(x, y): Xy| (area.left + x, area.top + y);
            self.path(vec![place(start), place(end)], width, ink);
            offset += gap;
        }
    }

    /// A marker of about `radius` points around `at`.
    pub(super) fn marker(&mut self, marker: Marker, at: Xy, radius: f64, ink: Ink) {
        let corner = |degrees: f64, length: f64| {
            let (sine, cosine) = degrees.to_radians().sin_cos();
            (at.0 + length * radius * cosine, at.1 + length * radius * sine)
        };
        let around = |corners: u32, first: f64, length: f64| -> Vec<Xy> {
            (0..corners).map(|i| corner(first + 360.0 * f64::from(i) / f64::from(corners), length)).collect()
        };
        match marker {
            Marker::Circle => self.shapes.push(Shape::Circle { at, radius, ink }),
            Marker::Square => self.polygon(around(4, 45.0, 1.25), ink),
            Marker::Triangle => self.polygon(around(3, -90.0, 1.35), ink),
            Marker::TriangleDown => self.polygon(around(3, 90.0, 1.35), ink),
            Marker::Diamond => self.polygon(around(4, 0.0, 1.35), ink),
            Marker::Cross | Marker::Plus => {
                let first = if marker == Marker::Cross { 45.0 } else { 0.0 };
                for degrees in [first, first + 90.0] {
                    self.path(vec![corner(degrees, 1.3), corner(degrees + 180.0, 1.3)], radius * 0.65, ink);
                }
            }
            Marker::Star => {
                let points = (0..10).map(|i| corner(-90.0 + 36.0 * f64::from(i), if i % 2 == 0 { 1.5 } else { 0.65 }));
                self.polygon(points.collect(), ink);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_font_is_measured() {
        // DejaVu Sans: a zero is 1303 of 2048 units wide.
        assert!((text_width("00", 12.0) - 2.0 * 12.0 * 1303.0 / 2048.0).abs() < 0.05);
        assert!(text_width("", 12.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_too_long_is_cut_or_wrapped() {
        let cut = shortened("self-attention output", 12.0, 60.0);
        assert!(cut.ends_with('…') && text_width(&cut, 12.0) <= 60.0, "{cut}");
        let lines = wrapped("replace the mean of one concept by another", 12.0, 110.0, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| text_width(line, 12.0) <= 110.0), "{lines:?}");
        assert!(wrapped("", 12.0, 10.0, 2).is_empty());
    }

    #[test]
    fn dashes_cover_their_share_of_a_line() {
        let mut scene = Scene::default();
        scene.dashed(&[(0.0, 0.0), (50.0, 0.0), (50.0, 50.0)], &[3.0, 2.0], 1.0, Ink::BLACK);
        let length: f64 = scene
            .shapes
            .iter()
            .map(|shape| match shape {
                Shape::Path { points, .. } => {
                    points.windows(2).map(|pair| (pair[1].0 - pair[0].0).hypot(pair[1].1 - pair[0].1)).sum::<f64>()
                }
                other => panic!("{other:?}"),
            })
            .sum();
        assert!((length - 60.0).abs() < 1e-6, "{length}");
    }

    #[test]
    fn a_hatch_stays_inside() {
        let mut scene = Scene::default();
        let area = Area { left: 10.0, top: 20.0, width: 7.0, height: 30.0 };
        scene.hatch(area, 2.0, 0.5, Ink::BLACK);
        assert!(scene.shapes.len() > 10);
        for shape in &scene.shapes {
            let Shape::Path { points, .. } = shape else { panic!("{shape:?}") };
            assert!(
                points.iter().all(|(x, y)| (9.99..=17.01).contains(x) && (19.99..=50.01).contains(y)),
                "{points:?}"
            );
        }
    }
}
