//! Uncompressed samples.

use super::{AudioError, Waveform};

/// How one sample is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Bytes around 128.
    Unsigned8,
    /// Two's complement in 1 to 4 bytes. Fewer valid bits stand at the top of their container.
    Signed(usize),
    /// 32-bit float.
    Float32,
    /// 64-bit float.
    Float64,
    /// ITU-T G.711 A-law.
    ALaw,
    /// ITU-T G.711 µ-law.
    MuLaw,
}

impl Encoding {
    /// Bytes of one sample.
    pub(super) const fn width(self) -> usize {
        match self {
            Self::Unsigned8 | Self::ALaw | Self::MuLaw => 1,
            Self::Signed(width) => width,
            Self::Float32 => 4,
            Self::Float64 => 8,
        }
    }
}

/// Samples of a file, channel by channel within each frame.
#[derive(Debug)]
pub(super) struct Pcm<'a> {
    pub(super) data: &'a [u8],
    pub(super) encoding: Encoding,
    pub(super) big_endian: bool,
    /// At least 1.
    pub(super) channels: usize,
    pub(super) sample_rate: u32,
}

impl Pcm<'_> {
    /// The sound; an incomplete frame at the end is dropped.
    pub(super) fn decode(self) -> Result<Waveform, AudioError> {
        let channels = match self.encoding {
            Encoding::Unsigned8 => self.planes(|[byte]: [u8; 1]| scaled(i32::from(byte) - 128, 8)),
            Encoding::Signed(1) => self.planes(|[byte]: [u8; 1]| scaled(i32::from(byte.cast_signed()), 8)),
            Encoding::Signed(2) => self.planes(|bytes| scaled(i32::from(i16::from_le_bytes(bytes)), 16)),
            Encoding::Signed(3) => self.planes(|[a, b, c]: [u8; 3]| scaled(i32::from_le_bytes([0, a, b, c]) >> 8, 24)),
            Encoding::Signed(_) => self.planes(|bytes| scaled(i32::from_le_bytes(bytes), 32)),
            Encoding::Float32 => self.planes(f32::from_le_bytes),
            Encoding::Float64 => self.planes(|bytes| f64::from_le_bytes(bytes) as f32),
            Encoding::ALaw => self.planes(|[byte]: [u8; 1]| scaled(a_law(byte), 16)),
            Encoding::MuLaw => self.planes(|[byte]: [u8; 1]| scaled(mu_law(byte), 16)),
        };
        Waveform::new(channels, self.sample_rate)
    }

    /// Every channel by itself; `convert` takes little-endian bytes.
    fn planes<const N: usize>(&self, convert: impl Fn([u8; N]) -> f32) -> Vec<Vec<f32>> {
        let (samples, _) = self.data.as_chunks::<N>();
        let sample = |mut bytes: [u8; N]| {
            if self.big_endian {
                bytes.reverse();
            }
            convert(bytes)
        };
        let whole = &samples[..samples.len() - samples.len() % self.channels];
        let plane = |channel: usize| whole.iter().skip(channel).step_by(self.channels).copied().map(&sample).collect();
        (0..self.channels).map(plane).collect()
    }
}

fn scaled(sample: i32, bits: i32) -> f32 {
    (f64::from(sample) * 0.5f64.powi(bits - 1)) as f32
}

/// Source: ITU-T G.711, table 1a, scaled to 16 bits.
fn a_law(byte: u8) -> i32 {
    let byte = byte ^ 0x55;
    let (exponent, mantissa) = (byte >> 4 & 7, i32::from(byte & 0xf) << 4);
    let size = if exponent == 0 { mantissa + 8 } else { (mantissa + 0x108) << (exponent - 1) };
    if byte & 0x80 == 0 { -size } else { size }
}

/// Source: ITU-T G.711, table 2a, scaled to 16 bits.
fn mu_law(byte: u8) -> i32 {
    let byte = !byte;
    let size = (((i32::from(byte & 0xf) << 3) + 0x84) << (byte >> 4 & 7)) - 0x84;
    if byte & 0x80 == 0 { size } else { -size }
}
