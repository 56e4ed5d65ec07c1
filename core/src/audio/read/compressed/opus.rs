//! Opus in Ogg.
//!
//! Source: RFC 7845, sections 4 and 5.

use ropus::OpusMSDecoder;
use symphonia::core::{codecs::audio::AudioCodecParameters, formats::FormatReader};

use super::{Decoding, Next};
use crate::audio::{AudioError, SoundFormat, read::Take};

/// Opus always decodes to this.
const RATE: u32 = 48_000;
/// Samples of the longest packet, 120 ms.
const LONGEST: usize = 5760;

/// By number of channels, Vorbis' channels in the order of a WAV file.
const ORDERS: [&[usize]; 9] = [
    &[],
    &[0],
    &[0, 1],
    &[0, 2, 1],
    &[0, 1, 2, 3],
    &[0, 2, 1, 3, 4],
    &[0, 2, 1, 5, 3, 4],
    &[0, 2, 1, 6, 5, 3, 4],
    &[0, 2, 1, 7, 5, 6, 3, 4],
];

/// The first packet of a stream.
struct Head {
    channels: u8,
    /// Samples that the encoder needed to get going.
    skip: usize,
    /// Factor of the samples.
    gain: f32,
    streams: u8,
    /// Streams of two channels; they come first.
    coupled: u8,
    /// Which decoded channel each channel is, in the order of a WAV file.
    mapping: Vec<u8>,
}

impl Head {
    fn parse(mut packet: &[u8]) -> Option<Self> {
        let (_signature, [_version, channels]) = (packet.take_bytes(8)?, packet.take::<2>()?);
        let skip = usize::from(u16::from_le_bytes(packet.take()?));
        let _rate_before: [u8; 4] = packet.take()?;
        // 1/256 dB.
        let gain = 10f32.powf(f32::from(i16::from_le_bytes(packet.take()?)) / (20.0 * 256.0));
        let [family] = packet.take()?;
        let (streams, coupled, mapping) = if family == 0 {
            (1, channels.checked_sub(1)?, (0..channels).collect())
        } else {
            let [streams, coupled] = packet.take()?;
            let mapping = packet.take_bytes(usize::from(channels))?;
            let order = if family == 1 { ORDERS.get(mapping.len()).copied().unwrap_or_default() } else { &[] };
            let ordered = order.iter().map(|&channel| mapping[channel]);
            (streams, coupled, if order.is_empty() { mapping.to_vec() } else { ordered.collect() })
        };
        Some(Self { channels, skip, gain, streams, coupled, mapping })
    }
}

impl Decoding {
    /// The packets of an Opus stream; whether another stream follows.
    pub(super) fn opus(
        &mut self,
        reader: &mut dyn FormatReader,
        track: u32,
        parameters: &AudioCodecParameters,
    ) -> Result<bool, AudioError> {
        if self.format != SoundFormat::Ogg {
            return Err(self.unsupported("Opus"));
        }
        let head = parameters.extra_data.as_deref().and_then(Head::parse);
        let head = head.ok_or_else(|| self.format.malformed("its Opus header is cut short"))?;
        let [count, streams, coupled] = [head.channels, head.streams, head.coupled].map(i32::from);
        let mut decoder = OpusMSDecoder::new(RATE.cast_signed(), count, streams, coupled, &head.mapping)
            .map_err(|_| self.format.malformed("its Opus header contradicts itself"))?;
        let channels = usize::from(head.channels);
        let mut skip = head.skip * channels;
        let mut samples = vec![0i16; LONGEST * channels];
        loop {
            let packet = match self.next(reader, track)? {
                Next::Packet(packet) => packet,
                Next::End => return Ok(false),
                Next::Stream => return Ok(true),
            };
            let data = (!packet.data.is_empty()).then_some(&*packet.data);
            let data = data.ok_or_else(|| self.format.malformed("an Opus packet is empty"))?;
            let frames = decoder.decode(Some(data), data.len() as i32, &mut samples, LONGEST as i32, false);
            let frames = frames.map_err(|_| self.format.malformed("an Opus packet is damaged"))?;
            let wanted = (frames as usize).saturating_sub(packet.trim_end.get() as usize) * channels;
            let skipped = skip.min(wanted);
            skip -= skipped;
            let floats = samples[skipped..wanted].iter().map(|&sample| f32::from(sample) / 32_768.0 * head.gain);
            self.push(&floats.collect::<Vec<_>>(), channels, RATE)?;
        }
    }
}
