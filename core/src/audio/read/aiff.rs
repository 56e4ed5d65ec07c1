//! AIFF and AIFC files.
//!
//! Source: Apple, "Audio Interchange File Format: AIFF-C", draft of 1991, and the compression types of `QuickTime`.

use super::{
    AudioError, SoundFormat, Take,
    pcm::{Encoding, Pcm},
    wav::sound,
};

fn malformed(reason: impl Into<String>) -> AudioError {
    SoundFormat::Aiff.malformed(reason)
}

/// The samples of an AIFF or AIFC file.
pub(super) fn read(bytes: &[u8]) -> Result<Pcm<'_>, AudioError> {
    let (mut common, mut body) = (None, None);
    let mut rest = bytes.get(12..).unwrap_or_default();
    let compressed = bytes.get(8..12) == Some(b"AIFC");
    while let (Some(id), Some(size)) = (rest.take::<4>(), rest.take()) {
        let size = u32::from_be_bytes(size);
        match &id {
            b"COMM" => {
                let chunk = rest.get(..size as usize).and_then(|chunk| Common::parse(chunk, compressed));
                common = Some(chunk.ok_or_else(|| malformed("its `COMM` chunk is cut short"))??);
            }
            b"SSND" => {
                let start = rest.get(..8).ok_or_else(|| malformed("its `SSND` chunk is cut short"))?;
                let offset = u32::from_be_bytes([start[0], start[1], start[2], start[3]]) as usize;
                let inside = rest[8..].get(offset..).ok_or_else(|| malformed("its `SSND` chunk is cut short"))?;
                // Programs that write to a pipe do not know the size.
                let known = size > 0 && size < 0x7f00_0000;
                body = Some((inside, known.then(|| u64::from(size).saturating_sub(8 + offset as u64))));
                if !known {
                    break;
                }
            }
            _ => {}
        }
        let padded = size as usize + size as usize % 2;
        rest = rest.get(padded..).unwrap_or_default();
    }
    let common: Common = common.ok_or_else(|| malformed("it has no `COMM` chunk"))?;
    let (body, size) = body.ok_or_else(|| malformed("it has no `SSND` chunk"))?;
    let width = common.encoding.width();
    let stated = u64::from(common.frames) * (common.channels * width) as u64;
    // The frames count; the chunk may be padded.
    let promised = match size {
        Some(size) if stated == 0 => Some(size),
        Some(size) => Some(stated.min(size)),
        None => Some(stated).filter(|&stated| stated > 0 && stated <= body.len() as u64),
    };
    let Common { encoding, big_endian, channels, sample_rate, .. } = common;
    Ok(Pcm { data: sound(body, promised, width)?, encoding, big_endian, channels, sample_rate })
}

/// What a `COMM` chunk says.
struct Common {
    encoding: Encoding,
    big_endian: bool,
    channels: usize,
    frames: u32,
    sample_rate: u32,
}

impl Common {
    fn parse(mut chunk: &[u8], compressed: bool) -> Option<Result<Self, AudioError>> {
        let channels = usize::from(u16::from_be_bytes(chunk.take()?));
        let frames = u32::from_be_bytes(chunk.take()?);
        let bits = u16::from_be_bytes(chunk.take()?);
        let sample_rate = extended(chunk.take()?).round() as u32;
        let kind = if compressed { chunk.take()? } else { *b"NONE" };
        let integer = match bits {
            1..=32 => Ok(Encoding::Signed(usize::from(bits.div_ceil(8)))),
            _ => Err(unsupported(format!("{bits}-bit integers"))),
        };
        let encoding = match &kind {
            b"NONE" | b"twos" | b"sowt" => integer,
            b"raw " if bits <= 8 => Ok(Encoding::Unsigned8),
            b"in24" => Ok(Encoding::Signed(3)),
            b"in32" => Ok(Encoding::Signed(4)),
            b"fl32" | b"FL32" => Ok(Encoding::Float32),
            b"fl64" | b"FL64" => Ok(Encoding::Float64),
            b"alaw" | b"ALAW" => Ok(Encoding::ALaw),
            b"ulaw" | b"ULAW" => Ok(Encoding::MuLaw),
            kind => Err(unsupported(format!("compressed samples (`{}`)", kind.escape_ascii()))),
        };
        if channels == 0 {
            return Some(Err(malformed("it has no channels")));
        }
        let big_endian = &kind != b"sowt";
        Some(encoding.map(|encoding| Self { encoding, big_endian, channels, frames, sample_rate }))
    }
}

/// A number of IEEE 754's 80-bit extended precision; 0 if it is negative.
fn extended(bytes: [u8; 10]) -> f64 {
    let [high, low, mantissa @ ..] = bytes;
    let exponent = i32::from(u16::from_be_bytes([high, low]));
    if exponent >= 0x7fff {
        return 0.0;
    }
    u64::from_be_bytes(mantissa) as f64 * 2f64.powi(exponent - 16_383 - 63)
}

fn unsupported(reason: impl Into<String>) -> AudioError {
    AudioError::Unsupported { format: SoundFormat::Aiff.name().to_owned(), reason: reason.into() }
}
