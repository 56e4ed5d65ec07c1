//! Pictures one after the other, as GIF.
//!
//! Reference: `CompuServe`, "Graphics Interchange Format, Version 89a", 1990.

use std::{borrow::Cow, collections::HashMap};

use anyhow::{Context, Result, ensure};
use gif::{DisposalMethod, Encoder, Frame, Repeat};

use super::{
    render::{Raster, raster},
    scene::Scene,
};

/// Pixels per inch: a figure of one column fills a third of a screen.
const DPI: u32 = 144;
/// Most colours of a GIF.
const COLOURS: usize = 256;

type Rgb = [u8; 3];

/// The scenes, all of one size, each shown for `milliseconds`, over and over.
///
/// # Errors
/// If there is none, their sizes differ, or they are larger than a GIF can be.
pub(super) fn gif(scenes: &[Scene], milliseconds: u16) -> Result<Vec<u8>> {
    let frames = scenes.iter().map(|scene| raster(scene, DPI)).collect::<Result<Vec<_>>>()?;
    encode(&frames, milliseconds)
}

fn encode(frames: &[Raster], milliseconds: u16) -> Result<Vec<u8>> {
    let first = frames.first().context("an animation without a frame")?;
    let same = frames.iter().all(|frame| (frame.width, frame.height) == (first.width, first.height));
    ensure!(same, "the frames of an animation differ in size");
    let size = |pixels: u32| u16::try_from(pixels).context("a figure too large for a GIF");
    let (width, height) = (size(first.width)?, size(first.height)?);
    let colours = Colours::of(frames);
    let mut file = vec![];
    let mut encoder = Encoder::new(&mut file, width, height, &colours.palette.concat())?;
    encoder.set_repeat(Repeat::Infinite)?;
    let mut shown: Option<Vec<u8>> = None;
    for frame in frames {
        let indices = colours.indices(frame);
        // Only what changes is written, over what is there.
        let changed = shown.as_ref().map_or((0, 0, width, height), |shown| changed(shown, &indices, width, height));
        let (left, top, width_changed, height_changed) = changed;
        let row = |y: u16| {
            let start = usize::from(y) * usize::from(width) + usize::from(left);
            &indices[start..start + usize::from(width_changed)]
        };
        encoder.write_frame(&Frame {
            delay: milliseconds / 10,
            dispose: DisposalMethod::Keep,
            left,
            top,
            width: width_changed,
            height: height_changed,
            buffer: Cow::Owned((top..top + height_changed).flat_map(row).copied().collect()),
            ..Frame::default()
        })?;
        shown = Some(indices);
    }
    drop(encoder);
    Ok(file)
}

/// Left, top, width and height of the least rectangle outside which nothing changes; one pixel if nothing does.
fn changed(before: &[u8], after: &[u8], width: u16, height: u16) -> (u16, u16, u16, u16) {
    let wide = usize::from(width);
    let differs = |y: &u16| before[usize::from(*y) * wide..][..wide] != after[usize::from(*y) * wide..][..wide];
    let (Some(top), Some(bottom)) = ((0..height).find(differs), (0..height).rev().find(differs)) else {
        return (0, 0, 1, 1);
    };
    let differs = |x: &u16| {
        (top..=bottom).any(|y| {
            let at = usize::from(y) * wide + usize::from(*x);
            before[at] != after[at]
        })
    };
    let left = (0..width).find(differs).unwrap_or(0);
    let right = (0..width).rev().find(differs).unwrap_or(left);
    (left, top, right - left + 1, bottom - top + 1)
}

/// The colours of all frames, and what stands for each.
struct Colours {
    palette: Vec<Rgb>,
    index: HashMap<Rgb, u8>,
}

impl Colours {
    /// All colours if they are few enough. Else the most frequent ones, no two of them close together, and for every other
    /// the nearest: figures have few colours, and what is between them are the edges of shapes.
    fn of(frames: &[Raster]) -> Self {
        let mut counts: HashMap<Rgb, u64> = HashMap::new();
        for frame in frames {
            for pixel in frame.pixels.as_chunks::<3>().0 {
                *counts.entry(*pixel).or_default() += 1;
            }
        }
        let mut ranked: Vec<(Rgb, u64)> = counts.into_iter().collect();
        ranked.sort_by_key(|(colour, count)| (std::cmp::Reverse(*count), *colour));
        let mut palette: Vec<Rgb> = vec![];
        // Wider and wider apart, until what is left is near what was taken.
        for apart in [0, 64, 256, 1024, 4096] {
            palette.clear();
            for (colour, _) in &ranked {
                if palette.len() < COLOURS && palette.iter().all(|taken| distance(*taken, *colour) >= apart) {
                    palette.push(*colour);
                }
            }
            let far =
                |(colour, _): &(Rgb, u64)| distance(palette[nearest(&palette, *colour)], *colour) > apart.max(64) * 4;
            if ranked.len() <= COLOURS || (apart > 0 && !ranked.iter().any(far)) {
                break;
            }
        }
        let index = ranked.iter().map(|(colour, _)| (*colour, nearest(&palette, *colour) as u8)).collect();
        Self { palette, index }
    }

    fn indices(&self, frame: &Raster) -> Vec<u8> {
        frame.pixels.as_chunks::<3>().0.iter().map(|pixel| self.index.get(pixel).copied().unwrap_or(0)).collect()
    }
}

fn nearest(palette: &[Rgb], colour: Rgb) -> usize {
    (0..palette.len()).min_by_key(|index| distance(palette[*index], colour)).unwrap_or(0)
}

fn distance(one: Rgb, other: Rgb) -> u32 {
    one.iter().zip(other).map(|(one, other)| u32::from(one.abs_diff(other)).pow(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(file: &[u8]) -> (u16, u16, Vec<(u16, Vec<Rgb>)>) {
        let mut reader = gif::DecodeOptions::new().read_info(file).unwrap();
        let (width, height) = (reader.width(), reader.height());
        let palette: Vec<Rgb> = reader.global_palette().unwrap().as_chunks::<3>().0.to_vec();
        let mut screen = vec![[0; 3]; usize::from(width) * usize::from(height)];
        let mut frames = vec![];
        while let Some(frame) = reader.read_next_frame().unwrap() {
            for (index, colour) in frame.buffer.iter().enumerate() {
                let (x, y) = (index % usize::from(frame.width), index / usize::from(frame.width));
                let at = (usize::from(frame.top) + y) * usize::from(width) + usize::from(frame.left) + x;
                screen[at] = palette[usize::from(*colour)];
            }
            frames.push((frame.delay, screen.clone()));
        }
        (width, height, frames)
    }

    fn frame(pixel: impl Fn(u32, u32) -> Rgb) -> Raster {
        let (width, height) = (40, 30);
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(|x| pixel(x, y)).collect::<Vec<_>>()).collect();
        Raster { width, height, pixels }
    }

    #[test]
    fn few_colours_come_back_exactly_and_changes_alone_are_written() {
        let frames: Vec<Raster> =
            [5, 17, 17].map(|at| frame(|x, y| if x == at && y > 9 { [255, 0, 9] } else { [x as u8, 0, 0] })).into();
        let file = encode(&frames, 500).unwrap();
        let (width, height, shown) = decoded(&file);
        assert_eq!((width, height, shown.len()), (40, 30, 3));
        for ((delay, pixels), frame) in shown.iter().zip(&frames) {
            assert_eq!((*delay, pixels.as_slice()), (50, frame.pixels.as_chunks::<3>().0));
        }
        assert_eq!(changed(&[0, 0, 0, 0, 0, 1], &[0, 0, 0, 0, 2, 1], 3, 2), (1, 1, 1, 1));
    }

    #[test]
    fn many_colours_become_near_ones() {
        let frames = [frame(|x, y| [(x * 6) as u8, (y * 8) as u8, ((x + y) * 3) as u8])];
        let (_, _, shown) = decoded(&encode(&frames, 20).unwrap());
        let far = shown[0].1.iter().zip(frames[0].pixels.as_chunks::<3>().0);
        let most = far.map(|(got, want)| distance(*got, *want)).max().unwrap();
        assert!(most < 40 * 40, "{most}");
    }

    #[test]
    fn frames_of_other_sizes_are_refused() {
        let small = Raster { width: 1, height: 1, pixels: vec![0; 3] };
        assert!(encode(&[frame(|_, _| [0; 3]), small], 500).is_err());
        assert!(encode(&[], 500).is_err());
    }
}
