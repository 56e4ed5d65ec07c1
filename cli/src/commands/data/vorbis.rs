//! Compressed samples of a soundfont: Vorbis in Ogg pages.
//!
//! `lewton` allocates what a header says, and panics at some damage. So the sizes in the headers are checked before it sees
//! them, the comments are left out, and its panics become errors.

use anyhow::{Context, Result, ensure};
use lewton::{
    audio::{PreviousWindowRight, read_audio_packet},
    header::{read_header_ident, read_header_setup},
};

use crate::guarded::guarded;

/// Entries of a codebook, and numbers in its table: the largest of `libvorbis` have some thousands and some ten thousands.
const MOST_ENTRIES: u32 = 1 << 16;
const MOST_NUMBERS: u64 = 1 << 20;

/// Samples of an Ogg Vorbis stream, mixed down to mono; at most `most` of them.
///
/// # Errors
/// What cannot be decoded, or is longer.
pub(super) fn decode(stream: &[u8], most: usize) -> Result<Vec<i16>> {
    guarded(|| decoded(stream, most))?
}

fn decoded(stream: &[u8], most: usize) -> Result<Vec<i16>> {
    let (packets, length) = packets(stream)?;
    let [ident, comment, setup, sound @ ..] = packets.as_slice() else {
        anyhow::bail!("there is no sound in it");
    };
    let bad = |error: lewton::header::HeaderReadError| anyhow::anyhow!("a header cannot be read: {error:?}");
    let ident = read_header_ident(ident).map_err(bad)?;
    ensure!(comment.starts_with(b"\x03vorbis"), "its second header is not the comments");
    check_codebooks(setup)?;
    let setup = read_header_setup(setup, ident.audio_channels, (ident.blocksize_0, ident.blocksize_1)).map_err(bad)?;
    let mut window = PreviousWindowRight::new();
    let mut samples: Vec<i16> = vec![];
    for packet in sound {
        let channels = read_audio_packet(&ident, &setup, packet, &mut window)
            .map_err(|error| anyhow::anyhow!("its sound cannot be read: {error:?}"))?;
        let count = channels.len().max(1) as i32;
        for at in 0..channels.first().map_or(0, Vec::len) {
            let sum: i32 = channels.iter().filter_map(|channel| channel.get(at)).map(|&sample| i32::from(sample)).sum();
            samples.push((sum / count) as i16);
        }
        ensure!(samples.len() <= most, "it has more than {most} samples");
    }
    // The last packet may hold more than the sound.
    samples.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    Ok(samples)
}

/// Makes sure that no codebook of the setup header is larger than any encoder makes it.
///
/// Source: Vorbis I specification, sections 3.2.1 and 4.2.4.
fn check_codebooks(setup: &[u8]) -> Result<()> {
    const SYNC: u32 = 0x56_43_42;
    let mut bits =
        Bits { bytes: setup.strip_prefix(b"\x05vorbis").context("its third header is not the setup")?, at: 0 };
    for _ in 0..=bits.take(8)? {
        ensure!(bits.take(24)? == SYNC, "a codebook does not begin where it should");
        let (dimensions, entries) = (bits.take(16)?, bits.take(24)?);
        let numbers = u64::from(dimensions) * u64::from(entries);
        let sane = entries <= MOST_ENTRIES && numbers <= MOST_NUMBERS;
        ensure!(sane, "a codebook has {entries} entries of {dimensions} numbers");
        if bits.take(1)? == 0 {
            let sparse = bits.take(1)? == 1;
            for _ in 0..entries {
                if !sparse || bits.take(1)? == 1 {
                    bits.take(5)?;
                }
            }
        } else {
            bits.take(5)?;
            let mut done = 0;
            while done < entries {
                done += bits.take(u32::BITS - (entries - done).leading_zeros())?;
            }
            ensure!(done == entries, "a codebook has more lengths than entries");
        }
        let values = match bits.take(4)? {
            0 => continue,
            1 => root(entries, dimensions),
            2 => numbers,
            kind => anyhow::bail!("a codebook of kind {kind}"),
        };
        bits.take(32)?;
        bits.take(32)?;
        let each = bits.take(4)? + 1;
        bits.skip(1 + values * u64::from(each))?;
    }
    Ok(())
}

/// The largest number whose power `dimensions` is not above `entries`.
fn root(entries: u32, dimensions: u32) -> u64 {
    let fits = |base: u64| {
        (0..dimensions).try_fold(1u64, |power, _| Some(power * base).filter(|power| *power <= u64::from(entries)))
    };
    (1..=u64::from(entries)).take_while(|base| fits(*base).is_some()).last().unwrap_or(0)
}

/// Numbers of some bits each, the lowest bit first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: u64,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Result<u32> {
        let mut value = 0;
        for bit in 0..count {
            let byte = self.bytes.get((self.at / 8) as usize).context("its setup header is cut short")?;
            value |= u32::from(byte >> (self.at % 8) & 1) << bit;
            self.at += 1;
        }
        Ok(value)
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        self.at = self.at.saturating_add(count);
        ensure!(self.at <= 8 * self.bytes.len() as u64, "its setup header is cut short");
        Ok(())
    }
}

/// The packets of the first stream in Ogg pages, and how many samples they have in all.
///
/// Source: RFC 3533, section 6.
fn packets(mut rest: &[u8]) -> Result<(Vec<Vec<u8>>, u64)> {
    const HEAD: usize = 27;
    let (mut packets, mut open) = (vec![], vec![]);
    let (mut serial, mut length) = (None, u64::MAX);
    while !rest.is_empty() {
        let head =
            rest.get(..HEAD).filter(|head| head.starts_with(b"OggS\0")).context("no Ogg page where one begins")?;
        let position = u64::from_le_bytes(head[6..14].try_into()?);
        let laces = rest.get(HEAD..HEAD + usize::from(head[26])).context("an Ogg page is cut short")?;
        let body = &rest[HEAD + laces.len()..];
        let size = laces.iter().map(|&lace| usize::from(lace)).sum();
        let mut data = body.get(..size).context("an Ogg page is cut short")?;
        rest = &body[size..];
        if *serial.get_or_insert(&head[14..18]) != &head[14..18] {
            continue;
        }
        for &lace in laces {
            let (piece, after) = data.split_at(usize::from(lace));
            open.extend_from_slice(piece);
            data = after;
            // A packet ends with the first piece that is not full.
            if lace < u8::MAX {
                packets.push(std::mem::take(&mut open));
            }
        }
        // -1: no packet ends on this page.
        if position != u64::MAX {
            length = position;
        }
    }
    Ok((packets, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits of numbers, the lowest first.
    fn packed(numbers: &[(u64, u32)]) -> Vec<u8> {
        let bits: Vec<u8> =
            numbers.iter().flat_map(|&(number, count)| (0..count).map(move |bit| (number >> bit & 1) as u8)).collect();
        bits.chunks(8).map(|bits| bits.iter().enumerate().map(|(at, bit)| bit << at).sum()).collect()
    }

    fn setup(dimensions: u64, entries: u64, rest: &[(u64, u32)]) -> Vec<u8> {
        let book = [(0, 8), (0x56_43_42, 24), (dimensions, 16), (entries, 24)];
        [b"\x05vorbis".to_vec(), packed(&[&book, rest].concat())].concat()
    }

    #[test]
    fn a_codebook_of_terabytes_is_refused_by_its_size() {
        // Ordered, all of one length, looked up in a table of one number.
        let rest = [(1, 1), (0, 5), ((1 << 24) - 1, 24), (1, 4), (0, 64), (0, 4), (0, 1), (0, 64)];
        let error = check_codebooks(&setup(65_535, (1 << 24) - 1, &rest)).unwrap_err().to_string();
        assert!(error.contains("16777215 entries of 65535 numbers"), "{error}");
        let small = [(1, 1), (0, 5), (8, 4), (1, 4), (0, 64), (3, 4), (0, 1), (0, 64)];
        check_codebooks(&setup(2, 8, &small)).unwrap();
        assert!(check_codebooks(&setup(2, 8, &small[..2])).unwrap_err().to_string().contains("cut short"));
    }

    #[test]
    fn roots_are_as_the_specification_has_them() {
        for (entries, dimensions, expected) in [(1025, 10, 2), (1024, 10, 2), (1023, 10, 1), (3126, 5, 5), (3124, 5, 4)]
        {
            assert_eq!(root(entries, dimensions), expected);
        }
        assert_eq!((root(0, 15), root(1, 1), root(400, 40)), (0, 1, 1));
    }
}
