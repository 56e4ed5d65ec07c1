//! WAV files and their 64-bit relatives RF64 (EBU Tech 3306) and BW64 (ITU-R BS.2088).

use super::{
    AudioError, SoundFormat, Take,
    pcm::{Encoding, Pcm},
};

/// The GUID of a `WAVE_FORMAT_EXTENSIBLE` sample format, after the two bytes that are a plain format's number.
const SUBFORMAT: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];
/// The same for Ambisonics: plain samples, other channels.
const AMBISONIC: [u8; 14] = [0, 0, 0x21, 7, 0xd3, 0x11, 0x86, 0x44, 0xc8, 0xc1, 0xca, 0, 0, 0];

fn malformed(reason: impl Into<String>) -> AudioError {
    SoundFormat::Wav.malformed(reason)
}

/// The samples of a WAV, RF64 or BW64 file.
pub(super) fn read(bytes: &[u8]) -> Result<Pcm<'_>, AudioError> {
    let form = bytes.get(8..12).ok_or_else(|| malformed("it ends within its header"))?;
    if form != b"WAVE" {
        return Err(malformed(format!("its form is `{}`, expected `WAVE`", form.escape_ascii())));
    }
    let (mut format, mut long) = (None, None);
    let mut at = 12;
    while let Some(chunk) = Chunk::at(bytes, at) {
        let body = &bytes[at + 8..];
        if &chunk.id == b"data" {
            let format: Format = format.ok_or_else(|| malformed("it has no `fmt ` chunk before its `data` chunk"))?;
            let promised = promised(chunk.size, long, body, format.width());
            return format.with(sound(body, promised, format.encoding.width())?);
        }
        let Some(inside) = body.get(..chunk.size as usize) else {
            return Err(malformed(format!("it ends within its `{}` chunk", chunk.id.escape_ascii())));
        };
        match &chunk.id {
            b"fmt " => format = Some(Format::read(inside)?),
            // Sizes of the file and of `data`, 64 bits each.
            b"ds64" => long = inside.get(8..16).and_then(|size| size.try_into().ok()).map(u64::from_le_bytes),
            _ => {}
        }
        at = chunk.next(bytes);
    }
    Err(malformed(if format.is_none() { "it ends within its header" } else { "it has no `data` chunk" }))
}

/// The part of `body` that is sound. `promised` bytes; to the end of the file where that is unknown.
pub(super) fn sound(body: &[u8], promised: Option<u64>, width: usize) -> Result<&[u8], AudioError> {
    let Some(promised) = promised else { return Ok(body) };
    let inside = usize::try_from(promised).ok().and_then(|promised| body.get(..promised));
    let samples = |bytes: u64| usize::try_from(bytes / width as u64).unwrap_or(usize::MAX);
    inside.ok_or(AudioError::Truncated { promised: samples(promised), found: body.len() / width })
}

/// Bytes that a `data` chunk of `size` promises; none where a program that wrote to a pipe could not know.
fn promised(size: u32, long: Option<u64>, body: &[u8], frame: usize) -> Option<u64> {
    let beyond = body.len() < size as usize;
    match (size, long) {
        (u32::MAX, Some(long)) if (1..u64::MAX >> 1).contains(&long) => Some(long),
        // ffmpeg; some subtract the header.
        (u32::MAX, _) => None,
        (size, _) if size == u32::MAX - 36 && beyond => None,
        // SoX rounds 0x7FFF_F000 down to whole frames, arecord stops at 2 GiB.
        (size, _) if beyond && (0x7fff_f000 - frame as u64..=0x8000_0000).contains(&u64::from(size)) => None,
        // A file without sound, or a program that never came back to write the size.
        (0, _) if !are_chunks(body) => None,
        (size, _) => Some(u64::from(size)),
    }
}

/// Whether `bytes` are nothing but chunks.
fn are_chunks(bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some(chunk) = Chunk::at(bytes, at).filter(|chunk| chunk.is_plausible(bytes.len())) {
        at = chunk.next(bytes);
    }
    at >= bytes.len()
}

/// Head of a part of a RIFF file.
struct Chunk {
    id: [u8; 4],
    size: u32,
    at: usize,
}

impl Chunk {
    fn at(bytes: &[u8], at: usize) -> Option<Self> {
        let mut rest = bytes.get(at..)?;
        Some(Self { id: rest.take()?, size: u32::from_le_bytes(rest.take()?), at })
    }

    /// Where the next chunk begins. A chunk of odd length is followed by a pad byte, which some programs forget.
    fn next(&self, bytes: &[u8]) -> usize {
        let end = self.at + 8 + self.size as usize;
        let plausible = |at: usize| Self::at(bytes, at).is_some_and(|chunk| chunk.is_plausible(bytes.len()));
        let forgotten = !plausible(end + 1) && plausible(end);
        if self.size % 2 == 1 && !forgotten { end + 1 } else { end }
    }

    /// Whether this can be the head of a chunk in a file of `length` bytes.
    fn is_plausible(&self, length: usize) -> bool {
        let named = self.id.iter().all(|byte| (b' '..=b'~').contains(byte));
        named && (&self.id == b"data" || self.size as usize <= length.saturating_sub(self.at + 8))
    }
}

/// What a `fmt ` chunk says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    pub(super) encoding: Encoding,
    channels: usize,
    sample_rate: u32,
}

impl Format {
    pub(super) fn read(chunk: &[u8]) -> Result<Self, AudioError> {
        Self::parse(chunk).ok_or_else(|| malformed("its `fmt ` chunk is cut short"))?
    }

    fn parse(mut chunk: &[u8]) -> Option<Result<Self, AudioError>> {
        let mut tag = u16::from_le_bytes(chunk.take()?);
        let channels = usize::from(u16::from_le_bytes(chunk.take()?));
        let sample_rate = u32::from_le_bytes(chunk.take()?);
        let _bytes_per_second: [u8; 4] = chunk.take()?;
        let frame = usize::from(u16::from_le_bytes(chunk.take()?));
        let bits = u16::from_le_bytes(chunk.take()?);
        if tag == 0xfffe {
            // Length of the extension, valid bits, loudspeakers. Valid bits stand at the top of their container, where
            // some programs fill the rest too: all of it is read.
            let _: [u8; 8] = chunk.take()?;
            tag = u16::from_le_bytes(chunk.take()?);
            let rest: [u8; 14] = chunk.take()?;
            if rest != SUBFORMAT && rest != AMBISONIC {
                return Some(Err(unsupported("samples of an unknown format")));
            }
        }
        if channels == 0 || frame % channels != 0 || frame == 0 {
            let reason = format!("its header contradicts itself: {channels} channels in frames of {frame} bytes");
            return Some(Err(malformed(reason)));
        }
        let encoding = encoding(tag, frame / channels, bits);
        Some(encoding.map(|encoding| Self { encoding, channels, sample_rate }))
    }

    /// Bytes of a frame.
    fn width(self) -> usize {
        self.channels * self.encoding.width()
    }

    /// `data` in this format.
    #[expect(clippy::unnecessary_wraps, reason = "ends functions that can fail")]
    pub(super) fn with(self, data: &[u8]) -> Result<Pcm<'_>, AudioError> {
        let Self { encoding, channels, sample_rate } = self;
        Ok(Pcm { data, encoding, big_endian: false, channels, sample_rate })
    }
}

/// The encoding of samples of `bits` in `width` bytes.
fn encoding(tag: u16, width: usize, bits: u16) -> Result<Encoding, AudioError> {
    let fits = bits > 0 && usize::from(bits) <= 8 * width;
    match (tag, width) {
        (1 | 3 | 6 | 7, _) if !fits => {
            Err(malformed(format!("its header contradicts itself: {bits}-bit samples in {width} bytes")))
        }
        (1, 1) => Ok(Encoding::Unsigned8),
        (1, 2..=4) => Ok(Encoding::Signed(width)),
        (3, 4) if bits == 32 => Ok(Encoding::Float32),
        (3, 8) if bits == 64 => Ok(Encoding::Float64),
        (6, 1) => Ok(Encoding::ALaw),
        (7, 1) => Ok(Encoding::MuLaw),
        (1, _) => Err(unsupported(format!("{bits}-bit integers in {width} bytes"))),
        (3, _) => Err(unsupported(format!("{bits}-bit floats in {width} bytes"))),
        (tag, _) => Err(unsupported(match tag {
            2 => "Microsoft ADPCM".to_owned(),
            0x11 => "IMA ADPCM".to_owned(),
            0x31 => "GSM 6.10".to_owned(),
            0x50 => "MPEG layer II inside".to_owned(),
            0x55 => "MP3 inside".to_owned(),
            0xff | 0x1600 | 0x1610 => "AAC inside".to_owned(),
            0x160..=0x163 => "Windows Media Audio inside".to_owned(),
            tag => format!("compressed samples (format 0x{tag:04x})"),
        })),
    }
}

fn unsupported(reason: impl Into<String>) -> AudioError {
    AudioError::Unsupported { format: SoundFormat::Wav.name().to_owned(), reason: reason.into() }
}
