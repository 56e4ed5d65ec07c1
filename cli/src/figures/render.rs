//! A scene becomes markup and pixels, in the same coordinates.

use anyhow::{Result, anyhow};
use plotters::{
    backend::{BitMapBackend, DrawingBackend, SVGBackend},
    style::{
        Color, FontTransform, RGBColor, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    palette::Ink,
    scene::{Anchor, LINE_HEIGHT, Scene, Shape, Text, Xy, font},
};
use crate::png;

/// Pixels per inch of the PNG.
pub(super) const DPI: u32 = 300;
/// Drawn that many times larger, then averaged: plotters' own smoothing leaves steps.
const OVERSAMPLING: u32 = 2;
/// Units of a drawing of `dpi` pixels per inch, per point.
fn scale(dpi: u32) -> f64 {
    f64::from(dpi * OVERSAMPLING) / 72.0
}

/// Pixels of three bytes, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raster {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixels: Vec<u8>,
}

/// How a backend of plotters understands text.
#[derive(Clone, Copy)]
struct TextHabit {
    /// What it takes for the size, over the em.
    size: f64,
    /// How far its baseline is below the place of a text anchored at its top, over the em.
    baseline: f64,
}

/// `font-size` is the size over 1.24, `dy` of a text anchored at its top 0.76 em.
const SVG: TextHabit = TextHabit { size: 1.24, baseline: 0.76 };
/// The size is the height of a line; the baseline is half of it down.
const BITMAP: TextHabit = TextHabit { size: LINE_HEIGHT, baseline: LINE_HEIGHT / 2.0 };

/// Width and height in pixels, even numbers of units before averaging.
fn pixels(scene: &Scene, dpi: u32) -> (u32, u32) {
    #[expect(clippy::cast_sign_loss, reason = "sizes are positive")]
    let along = |points: f64| ((points * f64::from(dpi) / 72.0).ceil() as u32).max(1);
    (along(scene.width), along(scene.height))
}

/// The scene as SVG, sized in points.
pub(super) fn svg(scene: &Scene) -> Result<String> {
    let (width, height) = pixels(scene, DPI);
    let (width, height) = (width * OVERSAMPLING, height * OVERSAMPLING);
    let mut text = String::new();
    let mut backend = SVGBackend::with_string(&mut text, (width, height));
    draw(scene, &mut backend, SVG, scale(DPI))?;
    drop(backend);
    let printed = format!(r#"width="{width}" height="{height}" viewBox"#);
    let sized = format!(
        r#"width="{:.2}pt" height="{:.2}pt" viewBox"#,
        f64::from(width) / scale(DPI),
        f64::from(height) / scale(DPI)
    );
    Ok(text.replacen(&printed, &sized, 1))
}

/// The scene as PNG at [`DPI`].
pub(super) fn png(scene: &Scene) -> Result<Vec<u8>> {
    let Raster { width, height, pixels } = raster(scene, DPI)?;
    Ok(encode(&pixels, width, height))
}

/// The scene as pixels, `dpi` to the inch.
pub(super) fn raster(scene: &Scene, dpi: u32) -> Result<Raster> {
    let (width, height) = pixels(scene, dpi);
    let (large_width, large_height) = (width * OVERSAMPLING, height * OVERSAMPLING);
    let mut large = vec![255; large_width as usize * large_height as usize * 3];
    let mut backend = BitMapBackend::with_buffer(&mut large, (large_width, large_height));
    draw(scene, &mut backend, BITMAP, scale(dpi))?;
    drop(backend);
    Ok(Raster { width, height, pixels: averaged(&large, width as usize, height as usize) })
}

fn averaged(large: &[u8], width: usize, height: usize) -> Vec<u8> {
    let factor = OVERSAMPLING as usize;
    let mut small = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let mut sum = 0;
                for (dy, dx) in (0..factor).flat_map(|dy| (0..factor).map(move |dx| (dy, dx))) {
                    let pixel = (y * factor + dy) * width * factor + x * factor + dx;
                    sum += u32::from(large[pixel * 3 + channel]);
                }
                small.push((sum / (OVERSAMPLING * OVERSAMPLING)) as u8);
            }
        }
    }
    small
}

fn encode(pixels: &[u8], width: u32, height: u32) -> Vec<u8> {
    let per_metre = (f64::from(DPI) / 0.0254).round();
    #[expect(clippy::cast_sign_loss, reason = "a positive constant")]
    let per_metre = per_metre as u32;
    png::encode(pixels, width, height, &png::Colours::Rgb, Some(per_metre))
}

fn draw<B: DrawingBackend>(scene: &Scene, backend: &mut B, habit: TextHabit, scale: f64) -> Result<()> {
    let place = |at| place(at, scale);
    let (width, height) = backend.get_size();
    let (width, height) = (i32::try_from(width)?, i32::try_from(height)?);
    backend.draw_rect((0, 0), (width, height), &filled(Ink::WHITE), true).map_err(failed)?;
    for shape in &scene.shapes {
        let drawn = match shape {
            Shape::Rect { from, to, ink } => {
                backend.draw_rect(place(*from), place(*to), &filled(*ink), true).map_err(failed)
            }
            Shape::Polygon { points, ink } => {
                backend.fill_polygon(points.iter().map(|point| place(*point)), &filled(*ink)).map_err(failed)
            }
            Shape::Circle { at, radius, ink } => {
                #[expect(clippy::cast_sign_loss, reason = "a radius is positive")]
                let radius = (radius * scale).round() as u32;
                backend.draw_circle(place(*at), radius, &filled(*ink), true).map_err(failed)
            }
            Shape::Path { points, width, ink } => {
                #[expect(clippy::cast_sign_loss, reason = "a width is positive")]
                let width = ((width * scale).round() as u32).max(1);
                let style = ShapeStyle { stroke_width: width, ..filled(*ink) };
                backend.draw_path(points.iter().map(|point| place(*point)), &style).map_err(failed)
            }
            Shape::Text(text) => draw_text(text, backend, habit, scale),
        };
        drawn?;
    }
    backend.present().map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

fn draw_text<B: DrawingBackend>(text: &Text, backend: &mut B, habit: TextHabit, scale: f64) -> Result<()> {
    let em = text.size * scale;
    let horizontal = match text.anchor {
        Anchor::Start => HPos::Left,
        Anchor::Middle => HPos::Center,
        Anchor::End => HPos::Right,
    };
    let up = habit.baseline * text.size;
    let (at, turn) = if text.turned {
        ((text.at.0 - up, text.at.1), FontTransform::Rotate270)
    } else {
        ((text.at.0, text.at.1 - up), FontTransform::None)
    };
    let ink = colour(text.ink);
    let style = TextStyle::from(font(em * habit.size).transform(turn)).color(&ink).pos(Pos::new(horizontal, VPos::Top));
    backend.draw_text(&text.line, &style, place(at, scale)).map_err(failed)
}

fn place((x, y): Xy, scale: f64) -> (i32, i32) {
    ((x * scale).round() as i32, (y * scale).round() as i32)
}

fn colour(ink: Ink) -> plotters::style::RGBAColor {
    let [red, green, blue] = ink.rgb;
    RGBColor(red, green, blue).mix(ink.opacity)
}

fn filled(ink: Ink) -> ShapeStyle {
    colour(ink).filled()
}
