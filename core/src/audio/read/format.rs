//! Which kind of file some bytes are.

use super::AudioError;

/// A kind of sound file that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoundFormat {
    /// WAV, RF64 and BW64: integers of 8 to 32 bits, floats of 32 and 64 bits, A-law, µ-law.
    Wav,
    /// Sony's Wave64, with the same samples.
    Wave64,
    /// AIFF and AIFC, with the same samples.
    Aiff,
    /// FLAC.
    Flac,
    /// MPEG audio, layers II and III (MP3).
    Mpeg,
    /// Vorbis, Opus or FLAC in Ogg.
    Ogg,
    /// AAC or ALAC in MP4 (M4A).
    Mp4,
    /// AAC without a container (ADTS).
    Adts,
}

impl SoundFormat {
    /// Extensions of the files that are read, in lower case.
    pub const EXTENSIONS: [&str; 16] = [
        "wav", "wave", "bwf", "rf64", "w64", "aif", "aiff", "aifc", "flac", "mp3", "mp2", "ogg", "oga", "opus", "m4a",
        "aac",
    ];

    /// Which kind the file with this content is. Its name plays no part.
    ///
    /// # Errors
    /// [`AudioError::Unread`] for a known kind that is not read, [`AudioError::Unknown`] for anything else.
    pub fn of(bytes: &[u8]) -> Result<Self, AudioError> {
        let rest = without_tags(bytes);
        let at = |from: usize, to: usize| rest.get(from..to).unwrap_or_default();
        match (at(0, 4), at(8, 12)) {
            (b"RIFF", b"AVI ") => return Err(AudioError::Unread { format: "AVI".to_owned() }),
            (b"RIFF", b"sfbk") => return Err(AudioError::Unknown { begins: "it is a soundfont".to_owned() }),
            (b"RIFF" | b"RF64" | b"BW64", _) => return Ok(Self::Wav),
            (b"riff", _) => return Ok(Self::Wave64),
            (b"FORM", b"AIFF" | b"AIFC") => return Ok(Self::Aiff),
            (b"fLaC", _) => return Ok(Self::Flac),
            (b"OggS", _) => return Ok(Self::Ogg),
            _ => {}
        }
        if at(4, 8) == b"ftyp" {
            return Ok(Self::Mp4);
        }
        if let Some(format) = mpeg(rest) {
            return Ok(format);
        }
        if let Some((_, name)) = UNREAD.iter().find(|(magic, _)| rest.starts_with(magic)) {
            return Err(AudioError::Unread { format: (*name).to_owned() });
        }
        if let Some((_, name)) = NO_SOUND.iter().find(|(magic, _)| rest.starts_with(magic)) {
            return Err(AudioError::Unknown { begins: format!("it is {name}") });
        }
        if rest.len() < bytes.len() {
            // Only MP3 files begin with an ID3 tag and then have bytes that say nothing.
            return Ok(Self::Mpeg);
        }
        Err(AudioError::Unknown { begins: begins(bytes) })
    }

    /// Its name, as in `not a WAV file`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wav => "WAV",
            Self::Wave64 => "Wave64",
            Self::Aiff => "AIFF",
            Self::Flac => "FLAC",
            Self::Mpeg => "MP3",
            Self::Ogg => "Ogg",
            Self::Mp4 => "MP4",
            Self::Adts => "AAC",
        }
    }

    /// Its media type if browsers play it.
    pub const fn media_type(self) -> Option<&'static str> {
        match self {
            Self::Wav => Some("audio/wav"),
            Self::Flac => Some("audio/flac"),
            Self::Mpeg => Some("audio/mpeg"),
            Self::Ogg => Some("audio/ogg"),
            Self::Mp4 => Some("audio/mp4"),
            Self::Adts => Some("audio/aac"),
            Self::Wave64 | Self::Aiff => None,
        }
    }

    /// An error of a file of this kind that is malformed.
    pub(super) fn malformed(self, reason: impl Into<String>) -> AudioError {
        let article =
            if matches!(self, Self::Mpeg | Self::Mp4 | Self::Aiff | Self::Adts | Self::Ogg) { "an" } else { "a" };
        AudioError::Malformed { format: format!("{article} {}", self.name()), reason: reason.into() }
    }
}

/// Kinds of sound that are not read, by their first bytes.
const UNREAD: [(&[u8], &str); 20] = [
    (&[0x30, 0x26, 0xb2, 0x75], "Windows Media (WMA)"),
    (&[0x1a, 0x45, 0xdf, 0xa3], "Matroska or WebM"),
    (b"caff", "Core Audio (CAF)"),
    (b"wvpk", "WavPack"),
    (b"MAC ", "Monkey's Audio (APE)"),
    (b"MPCK", "Musepack"),
    (b"MP+", "Musepack"),
    (b"TTA1", "True Audio (TTA)"),
    (b"#!AMR", "AMR"),
    (b".snd", "Sun AU"),
    (b"RIFX", "big-endian WAV (RIFX)"),
    (b"DSD ", "DSD (DSF)"),
    (b"FRM8", "DSD (DSDIFF)"),
    (b".RMF", "RealMedia"),
    (b"ADIF", "AAC in ADIF"),
    (&[0x0b, 0x77], "AC-3"),
    (&[0x7f, 0xfe, 0x80, 0x01], "DTS"),
    (b"FORM", "IFF"),
    (b"Creative Voice File", "Creative Voice (VOC)"),
    (b"FLV\x01", "Flash video"),
];

/// Files that people take for sound, by their first bytes.
const NO_SOUND: [(&[u8], &str); 5] = [
    (b"MThd", "MIDI, notes without sound"),
    (b"PK\x03\x04", "a ZIP archive"),
    (&[0x1f, 0x8b], "a gzip archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"version https://git-lfs", "a Git LFS pointer, whose file was not fetched"),
];

/// What follows the `ID3v2` tags that some programs put before sound of any kind.
pub(super) fn without_tags(mut bytes: &[u8]) -> &[u8] {
    while let (true, Some(head)) = (bytes.starts_with(b"ID3"), bytes.get(..10)) {
        let size = head[6..].iter().fold(0, |size, &byte| size << 7 | usize::from(byte & 0x7f));
        let footer = if head[5] & 0x10 == 0 { 0 } else { 10 };
        // A tag longer than the file: nothing can be said about what follows.
        let Some(rest) = bytes.get(10 + size + footer..) else { return &bytes[bytes.len()..] };
        bytes = rest;
    }
    bytes
}

/// MPEG audio or AAC, by the header of a first frame; some programs put zeros before it.
fn mpeg(bytes: &[u8]) -> Option<SoundFormat> {
    let zeros = bytes.iter().position(|&byte| byte != 0)?;
    let &[0xff, second, third, _] = bytes.get(zeros..zeros + 4)? else { return None };
    if second & 0xf6 == 0xf0 {
        return Some(SoundFormat::Adts).filter(|_| third >> 2 & 0xf < 13);
    }
    let (version, layer, rate) = (second >> 3 & 3, second >> 1 & 3, third >> 2 & 3);
    let header = second & 0xe0 == 0xe0 && version != 1 && matches!(layer, 1 | 2) && third >> 4 != 15 && rate != 3;
    header.then_some(SoundFormat::Mpeg)
}

/// The first bytes of a file, for a message.
fn begins(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "it is empty".to_owned();
    }
    let first = &bytes[..bytes.len().min(12)];
    format!("it begins with `{}`", first.escape_ascii())
}
