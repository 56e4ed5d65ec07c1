//! What symphonia does not read of MP4 files: which part of the decoded sound is presented, and whether it is HE-AAC.
//!
//! Source: ISO/IEC 14496-12, 8.6.6 (edit lists); ISO/IEC 14496-3, 1.6 (`AudioSpecificConfig`); iTunes' `iTunSMPB`.

use std::ops::Range;

use symphonia::core::{codecs::audio::AudioCodecParameters, formats::Track, units::Duration};

use crate::audio::read::Take;

/// Parts of the decoded sound, in samples, in the order in which they are heard.
pub(super) struct Presented(Vec<Range<u64>>);

impl Presented {
    pub(super) fn cut(&self, channel: &[f32]) -> Vec<f32> {
        let inside = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(channel.len());
        let parts = self.0.iter().map(|part| &channel[inside(part.start)..inside(part.end).max(inside(part.start))]);
        // Repeats are nothing that a sound file needs, and would not be bounded by its size.
        let mut left = channel.len();
        let mut cut = vec![];
        for part in parts {
            let part = &part[..part.len().min(left)];
            left -= part.len();
            cut.extend_from_slice(part);
        }
        cut
    }
}

/// What of `track` is presented; `None` where the file says nothing about it.
pub(super) fn presented(file: &[u8], track: &Track, parameters: &AudioCodecParameters) -> Option<Presented> {
    let rate = u64::from(parameters.sample_rate?);
    let movie = inside(file, b"moov")?;
    let found = children(movie).filter(|(kind, _)| kind == b"trak").map(|(_, body)| body).find(|trak| {
        let head = inside(trak, b"tkhd").unwrap_or_default();
        // After the version and flags: times of creation and change, then the number.
        let at = if head.first() == Some(&1) { 20 } else { 12 };
        head.get(at..at + 4).is_some_and(|id| id == track.id.to_be_bytes())
    })?;
    if let Some(part) = itunes(movie).or_else(|| itunes(found)) {
        return Some(Presented(vec![part]));
    }
    let media_scale = inside(found, b"mdia").and_then(|media| timescale(inside(media, b"mdhd")?))?;
    let to_samples =
        |time: u64, scale: u64| u64::try_from((u128::from(time) * u128::from(rate)).div_ceil(u128::from(scale)));
    // The last packet's duration says how much of it is sound.
    let ticks = track.duration.map_or(0, Duration::get);
    let end = if ticks == 0 { u64::MAX } else { to_samples(ticks, media_scale).ok()? };
    let Some(list) = inside(found, b"edts").and_then(|edits| inside(edits, b"elst")) else {
        return Some(Presented(vec![0..end]));
    };
    let movie_scale = timescale(inside(movie, b"mvhd")?)?;
    let mut parts = vec![];
    for (length, start) in edits(list)? {
        // -1 is a pause, which places sound beside a film.
        let Ok(start) = u64::try_from(start) else { continue };
        let start = to_samples(start, media_scale).ok()?;
        let length = if length == 0 { u64::MAX } else { to_samples(length, movie_scale).ok()? };
        parts.push(start..start.saturating_add(length).min(end));
    }
    if parts.is_empty() {
        parts.push(0..end);
    }
    Some(Presented(parts))
}

/// Whether a codec's configuration says that it is HE-AAC (`Some(true)`) or that it is not (`Some(false)`).
pub(super) fn high_efficiency(configuration: &[u8]) -> Option<bool> {
    let mut bits = Bits { bytes: configuration, at: 0 };
    let object = bits.object_type()?;
    bits.frequency()?;
    bits.take(4)?;
    if matches!(object, 5 | 29) {
        return Some(true);
    }
    // Frame length, core coder, extension; then, announced by a pattern, the extension that older decoders skip.
    if object != 2 || bits.take(3)? & 0b011 != 0 {
        return None;
    }
    if bits.take(11)? != 0x2b7 || bits.object_type()? != 5 {
        return None;
    }
    Some(bits.take(1)? == 1)
}

/// Bits from the highest down.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    fn object_type(&mut self) -> Option<u32> {
        match self.take(5)? {
            31 => Some(32 + self.take(6)?),
            object => Some(object),
        }
    }

    fn frequency(&mut self) -> Option<u32> {
        match self.take(4)? {
            15 => self.take(24),
            index => Some(index),
        }
    }
}

/// The boxes in `bytes`: kind and content.
fn children(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let whole = bytes.len();
        let (short, kind) = (u32::from_be_bytes(bytes.take()?), bytes.take()?);
        let (size, head) = match short {
            0 => (whole, 8),
            1 => (usize::try_from(u64::from_be_bytes(bytes.take()?)).ok()?, 16),
            size => (size as usize, 8),
        };
        // The last box may be cut short.
        let body = size.checked_sub(head)?.min(bytes.len());
        Some((kind, bytes.take_bytes(body)?))
    })
}

/// The first box of a kind in `bytes`.
fn inside<'a>(bytes: &'a [u8], kind: &[u8]) -> Option<&'a [u8]> {
    children(bytes).find(|(found, _)| found == kind).map(|(_, body)| body)
}

/// Ticks per second of `mvhd` or `mdhd`; never 0.
fn timescale(head: &[u8]) -> Option<u64> {
    let at = if head.first()? == &1 { 20 } else { 12 };
    let scale = u32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?);
    (scale > 0).then_some(u64::from(scale))
}

/// Length, in ticks of the movie, and start, in ticks of the media, of every edit.
fn edits(mut list: &[u8]) -> Option<Vec<(u64, i64)>> {
    let [version, ..]: [u8; 4] = list.take()?;
    let count = u32::from_be_bytes(list.take()?);
    let mut edits = vec![];
    for _ in 0..count {
        let (length, start) = if version == 1 {
            (u64::from_be_bytes(list.take()?), i64::from_be_bytes(list.take()?))
        } else {
            (u64::from(u32::from_be_bytes(list.take()?)), i64::from(i32::from_be_bytes(list.take()?)))
        };
        let _speed: [u8; 4] = list.take()?;
        edits.push((length, start));
    }
    Some(edits)
}

/// What iTunes and its relatives say: hexadecimal numbers, of which the second to fourth are the samples before the sound,
/// those after it, and its own.
fn itunes(parent: &[u8]) -> Option<Range<u64>> {
    let list = inside(inside(inside(parent, b"udta")?, b"meta")?.get(4..)?, b"ilst")?;
    let named = |body: &&[u8]| inside(body, b"name").is_some_and(|name| name.ends_with(b"iTunSMPB"));
    let body = children(list).filter(|(kind, _)| kind == b"----").map(|(_, body)| body).find(named)?;
    let text = std::str::from_utf8(inside(body, b"data")?.get(8..)?).ok()?;
    let mut numbers = text.split_ascii_whitespace().map(|number| u64::from_str_radix(number, 16));
    let (before, length) = (numbers.nth(1)?.ok()?, numbers.nth(1)?.ok()?);
    (length > 0).then(|| before..before.saturating_add(length))
}
