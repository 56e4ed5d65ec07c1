//! Compressed samples of a soundfont: Vorbis in Ogg pages.

use anyhow::{Context, Result, ensure};
use lewton::{
    audio::{PreviousWindowRight, read_audio_packet},
    header::{read_header_comment, read_header_ident, read_header_setup},
};

/// Samples of an Ogg Vorbis stream, mixed down to mono; at most `most` of them.
///
/// # Errors
/// What cannot be decoded, or is longer.
pub(super) fn decode(stream: &[u8], most: usize) -> Result<Vec<i16>> {
    let (packets, length) = packets(stream)?;
    let [ident, comment, setup, sound @ ..] = packets.as_slice() else {
        anyhow::bail!("there is no sound in it");
    };
    let bad = |error: lewton::header::HeaderReadError| anyhow::anyhow!("a header cannot be read: {error:?}");
    let ident = read_header_ident(ident).map_err(bad)?;
    read_header_comment(comment).map_err(bad)?;
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
