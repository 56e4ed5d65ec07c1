//! Compressed sound, decoded by symphonia; Opus by ropus.

mod mp4;
mod ogg;
mod opus;

use std::{
    io::{Cursor, ErrorKind},
    panic::{AssertUnwindSafe, catch_unwind},
};

use symphonia::{
    core::{
        codecs::audio::{
            AudioCodecParameters, AudioDecoder, AudioDecoderOptions,
            well_known::{CODEC_ID_AAC, CODEC_ID_OPUS},
        },
        errors::Error,
        formats::{FormatOptions, FormatReader, TrackType},
        io::{MediaSource, MediaSourceStream, MediaSourceStreamOptions, ReadOnlySource},
        packet::Packet,
    },
    default::{
        codecs::{AacDecoder, AlacDecoder, FlacDecoder, MpaDecoder, VorbisDecoder},
        formats::{AdtsReader, FlacReader, IsoMp4Reader, MpaReader, OggReader},
    },
};

use super::format::without_tags;
use crate::audio::{AudioError, SoundFormat, Waveform};

/// Samples of all channels that one byte of a file may become: FLAC makes 600 of digital silence.
const MOST_PER_BYTE: usize = 4096;
/// Samples that a file of any size may become: 256 MiB.
const ALWAYS: usize = 1 << 26;
/// Samples that no file may become: 16 GiB.
const MOST: usize = 1 << 32;

/// The sound of a compressed file.
pub(super) fn decode(bytes: &[u8], format: SoundFormat) -> Result<Waveform, AudioError> {
    // Other people's decoders: a panic on a damaged file is an error like any other.
    let decoded = catch_unwind(AssertUnwindSafe(|| Decoding::new(bytes, format).run(bytes)));
    let (channels, rate) = decoded.unwrap_or_else(|_| Err(format.malformed("its decoder failed")))?;
    Waveform::new(channels, rate)
}

/// A file while it is decoded.
struct Decoding {
    format: SoundFormat,
    channels: Vec<Vec<f32>>,
    rate: u32,
    /// Samples of all channels that may still come.
    left: usize,
    interleaved: Vec<f32>,
}

impl Decoding {
    fn new(bytes: &[u8], format: SoundFormat) -> Self {
        let left = bytes.len().saturating_mul(MOST_PER_BYTE).clamp(ALWAYS, MOST);
        Self { format, channels: vec![], rate: 0, left, interleaved: vec![] }
    }

    fn run(mut self, bytes: &[u8]) -> Result<(Vec<Vec<f32>>, u32), AudioError> {
        let sound = without_tags(bytes);
        if let Some(fault) = (self.format == SoundFormat::Ogg).then(|| ogg::fault(sound)).flatten() {
            return Err(self.format.malformed(fault));
        }
        let mut reader = self.open(sound)?;
        let mut presented = None;
        // Ogg files may be several streams, one after the other.
        loop {
            let track =
                reader.default_track(TrackType::Audio).ok_or_else(|| self.unsupported("no known sound"))?.clone();
            let parameters = track.codec_params.as_ref().and_then(|parameters| parameters.audio());
            let parameters = parameters.ok_or_else(|| self.unsupported("an unknown codec"))?;
            if self.format == SoundFormat::Mp4 {
                presented = mp4::presented(sound, &track, parameters);
            }
            let again = if parameters.codec == CODEC_ID_OPUS {
                self.opus(&mut *reader, track.id, parameters)?
            } else {
                self.packets(&mut *reader, track.id, parameters)?
            };
            if !again {
                break;
            }
        }
        if let Some(presented) = presented {
            for channel in &mut self.channels {
                *channel = presented.cut(channel);
            }
        }
        Ok((self.channels, self.rate))
    }

    fn open<'a>(&self, sound: &'a [u8]) -> Result<Box<dyn FormatReader + 'a>, AudioError>
    where
        Self: 'a,
    {
        let stream =
            |source: Box<dyn MediaSource + 'a>| MediaSourceStream::new(source, MediaSourceStreamOptions::default());
        let whole = || stream(Box::new(Cursor::new(sound)));
        // Where it can seek, the reader estimates a length from the first frame's bit rate and cuts the sound off there.
        let through = || stream(Box::new(ReadOnlySource::new(sound)));
        let options = FormatOptions::default();
        let reader: Result<Box<dyn FormatReader + 'a>, Error> = match self.format {
            SoundFormat::Flac => FlacReader::try_new(whole(), options).map(|reader| Box::new(reader) as _),
            SoundFormat::Ogg => OggReader::try_new(whole(), options).map(|reader| Box::new(reader) as _),
            SoundFormat::Mp4 => return self.mp4(whole(), options),
            SoundFormat::Adts => AdtsReader::try_new(through(), options).map(|reader| Box::new(reader) as _),
            _ => MpaReader::try_new(through(), options).map(|reader| Box::new(reader) as _),
        };
        reader.map_err(|error| self.error(&error))
    }

    fn mp4<'a>(
        &self,
        mut stream: MediaSourceStream<'a>,
        options: FormatOptions,
    ) -> Result<Box<dyn FormatReader + 'a>, AudioError> {
        // Symphonia's reader expects that a probe has taken the first four bytes.
        std::io::copy(&mut std::io::Read::take(&mut stream, 4), &mut std::io::sink())
            .map_err(|error| self.format.malformed(error.to_string()))?;
        IsoMp4Reader::try_new(stream, options).map(|reader| Box::new(reader) as _).map_err(|error| self.error(&error))
    }

    /// The packets of a stream; whether another stream follows.
    fn packets(
        &mut self,
        reader: &mut dyn FormatReader,
        track: u32,
        parameters: &AudioCodecParameters,
    ) -> Result<bool, AudioError> {
        self.refuse_high_efficiency(parameters)?;
        let mut decoder = self.decoder(parameters)?;
        let mut lost = 0;
        loop {
            let packet = match self.next(reader, track)? {
                Next::Packet(packet) => packet,
                Next::End => break,
                Next::Stream => return self.verified(decoder).map(|()| true),
            };
            match decoder.decode(&packet) {
                Ok(buffer) => {
                    let rate = buffer.spec().rate();
                    let channels = buffer.num_planes();
                    buffer.copy_to_vec_interleaved(&mut self.interleaved);
                    let interleaved = std::mem::take(&mut self.interleaved);
                    if lost > 0 {
                        // The beginning of a stream that was cut out of another lacks what its first frames refer to.
                        self.push(&vec![0.0; lost * channels], channels, rate)?;
                        lost = 0;
                    }
                    self.push(&interleaved, channels, rate)?;
                    self.interleaved = interleaved;
                }
                Err(Error::DecodeError(_))
                    if self.format == SoundFormat::Mpeg && self.channels.is_empty() && lost < 8192 =>
                {
                    lost += packet.dur.get() as usize;
                }
                Err(error) => return Err(self.error(&error)),
            }
        }
        self.verified(decoder).map(|()| false)
    }

    /// FLAC carries a checksum of its samples.
    fn verified(&self, mut decoder: Box<dyn AudioDecoder>) -> Result<(), AudioError> {
        match decoder.finalize().verify_ok {
            Some(false) => Err(self.format.malformed("its samples do not match its checksum")),
            _ => Ok(()),
        }
    }

    fn next(&self, reader: &mut dyn FormatReader, track: u32) -> Result<Next, AudioError> {
        loop {
            match reader.next_packet() {
                Ok(Some(packet)) if packet.track_id == track => return Ok(Next::Packet(packet)),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Next::End),
                Err(Error::ResetRequired) => return Ok(Next::Stream),
                Err(error) => return Err(self.error(&error)),
            }
        }
    }

    fn decoder(&self, parameters: &AudioCodecParameters) -> Result<Box<dyn AudioDecoder>, AudioError> {
        let options = AudioDecoderOptions::default().gapless(true).verify(true);
        let mut registry = symphonia::core::codecs::registry::CodecRegistry::new();
        registry.register_audio_decoder::<AacDecoder>();
        registry.register_audio_decoder::<AlacDecoder>();
        registry.register_audio_decoder::<FlacDecoder>();
        registry.register_audio_decoder::<MpaDecoder>();
        registry.register_audio_decoder::<VorbisDecoder>();
        registry.make_audio_decoder(parameters, &options).map_err(|error| match error {
            Error::Unsupported(_) if parameters.codec == CODEC_ID_AAC => {
                self.unsupported("AAC of another profile than LC, or of more than two channels")
            }
            error => self.error(&error),
        })
    }

    /// HE-AAC keeps its upper octave apart, in a form that symphonia skips without a word.
    fn refuse_high_efficiency(&self, parameters: &AudioCodecParameters) -> Result<(), AudioError> {
        let low = parameters.sample_rate.is_none_or(|rate| rate <= 24_000);
        if parameters.codec != CODEC_ID_AAC {
            return Ok(());
        }
        match mp4::high_efficiency(parameters.extra_data.as_deref().unwrap_or_default()) {
            Some(true) => Err(self.unsupported("HE-AAC")),
            None if low => Err(self.unsupported("AAC at 24 kHz or less that does not say whether it is HE-AAC")),
            _ => Ok(()),
        }
    }

    /// Takes frames of `channels` samples each.
    fn push(&mut self, interleaved: &[f32], channels: usize, rate: u32) -> Result<(), AudioError> {
        if interleaved.is_empty() {
            return Ok(());
        }
        if self.channels.is_empty() {
            self.rate = rate;
            self.channels = vec![vec![]; channels];
        }
        if channels != self.channels.len() || rate != self.rate {
            return Err(self.unsupported("channels or a sample rate that change within the file"));
        }
        self.left = self.left.checked_sub(interleaved.len()).ok_or_else(|| self.unsupported("more sound than fits"))?;
        for (at, channel) in self.channels.iter_mut().enumerate() {
            channel.extend(interleaved.iter().skip(at).step_by(channels));
        }
        Ok(())
    }

    fn unsupported(&self, reason: impl Into<String>) -> AudioError {
        AudioError::Unsupported { format: self.format.name().to_owned(), reason: reason.into() }
    }

    fn error(&self, error: &Error) -> AudioError {
        match error {
            Error::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
                self.format.malformed("it ends before its sound does")
            }
            Error::Unsupported(reason) => self.unsupported(*reason),
            Error::DecodeError(reason) => self.format.malformed(*reason),
            error => self.format.malformed(error.to_string()),
        }
    }
}

/// What comes next in a file.
enum Next {
    Packet(Packet),
    /// Another stream with packets of its own.
    Stream,
    End,
}
