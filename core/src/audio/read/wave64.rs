//! Sony's Wave64: WAV whose chunks have names of 16 bytes and sizes of 64 bits.

use super::{
    AudioError, SoundFormat, Take,
    pcm::Pcm,
    wav::{Format, sound},
};

/// Ends the name of the file.
const RIFF: [u8; 12] = [0x2e, 0x91, 0xcf, 0x11, 0xa5, 0xd6, 0x28, 0xdb, 0x04, 0xc1, 0, 0];
/// Ends the name of every chunk.
const CHUNK: [u8; 12] = [0xf3, 0xac, 0xd3, 0x11, 0x8c, 0xd1, 0, 0xc0, 0x4f, 0x8e, 0xdb, 0x8a];
/// Bytes of a chunk's name and size, which the size includes.
const HEAD: u64 = 24;

fn malformed(reason: impl Into<String>) -> AudioError {
    SoundFormat::Wave64.malformed(reason)
}

/// The samples of a Wave64 file.
pub(super) fn read(bytes: &[u8]) -> Result<Pcm<'_>, AudioError> {
    let mut rest = bytes;
    let head = (rest.take_bytes(16), rest.take_bytes(8), rest.take_bytes(16));
    let (Some(riff), Some(_), Some(wave)) = head else { return Err(malformed("it ends within its header")) };
    if riff[4..] != RIFF || &wave[..4] != b"wave" || wave[4..] != CHUNK {
        return Err(malformed("its header has other names"));
    }
    let mut format = None;
    while let (Some(name), Some(size)) = (rest.take_bytes(16), rest.take()) {
        let body = u64::from_le_bytes(size).checked_sub(HEAD);
        let known = name[4..] == CHUNK;
        if known && &name[..4] == b"data" {
            let format: Format = format.ok_or_else(|| malformed("it has no `fmt ` chunk before its `data` chunk"))?;
            // Without a size, or with the largest, the sound was written to a pipe.
            let promised = body.filter(|&body| body < u64::MAX >> 1 && (body > 0 || rest.is_empty()));
            return format.with(sound(rest, promised, format.encoding.width())?);
        }
        // Chunks begin at multiples of 8 bytes.
        let padded = body.and_then(|body| usize::try_from(body.checked_next_multiple_of(8)?).ok());
        let inside =
            padded.and_then(|padded| rest.take_bytes(padded.min(rest.len())).filter(|_| padded <= bytes.len()));
        let Some(inside) = inside else { return Err(malformed("a chunk ends beyond the file")) };
        if known && &name[..4] == b"fmt " {
            format = Some(Format::read(inside)?);
        }
    }
    Err(malformed("it has no `data` chunk"))
}
