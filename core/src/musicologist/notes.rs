//! Notes of `NSynth`.

use std::{borrow::Cow, collections::HashSet, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor},
};

use super::{InputError, shown};

/// Families of instruments by their number.
pub const FAMILIES: [&str; 11] =
    ["bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal"];

/// Sources of sound by their number.
pub const SOURCES: [&str; 3] = ["acoustic", "electronic", "synthetic"];

/// Qualities of a note by their place in its list.
pub const QUALITIES: [&str; 10] = [
    "bright",
    "dark",
    "distortion",
    "fast_decay",
    "long_release",
    "multiphonic",
    "nonlinear_env",
    "percussive",
    "reverb",
    "tempo-synced",
];

/// Longest name of a note, in bytes; `NSynth`'s have some 30.
const LONGEST_NAME: usize = 120;

/// What `examples.json` says of a note; fields are named as there.
///
/// Texts that many notes have are held once for all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Number of the note.
    pub note: i64,
    /// Its name and that of its sound file: `bass_synthetic_068-049-025`. Letters, digits, `-`, `_` and `.` alone.
    pub note_str: String,
    /// Number of the instrument.
    pub instrument: i64,
    /// Name of the instrument, such as `bass_synthetic_068`.
    #[serde(serialize_with = "text")]
    pub instrument_str: Arc<str>,
    /// MIDI pitch.
    pub pitch: i64,
    /// MIDI velocity.
    pub velocity: i64,
    /// Samples per second of the sound file.
    pub sample_rate: u32,
    /// For each of [`QUALITIES`] 1 or 0.
    pub qualities: Vec<u8>,
    /// Names of the qualities that it has.
    #[serde(serialize_with = "texts")]
    pub qualities_str: Vec<Arc<str>>,
    /// Number of the family.
    pub instrument_family: i64,
    /// Name of the family, one of [`FAMILIES`].
    #[serde(serialize_with = "text")]
    pub instrument_family_str: Arc<str>,
    /// Number of the source.
    pub instrument_source: i64,
    /// Name of the source, one of [`SOURCES`].
    #[serde(serialize_with = "text")]
    pub instrument_source_str: Arc<str>,
}

// serde itself writes shared texts only with a feature that would be another one for everything that uses serde.
fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

fn texts<S: Serializer>(texts: &[Arc<str>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(texts.iter().map(|text| &**text))
}

/// A note on its way out of the text.
#[derive(Deserialize)]
struct RawNote<'a> {
    note: i64,
    #[serde(borrow)]
    note_str: Cow<'a, str>,
    instrument: i64,
    #[serde(borrow)]
    instrument_str: Cow<'a, str>,
    pitch: i64,
    velocity: i64,
    sample_rate: u32,
    qualities: Vec<u8>,
    #[serde(borrow)]
    qualities_str: Vec<Cow<'a, str>>,
    instrument_family: i64,
    #[serde(borrow)]
    instrument_family_str: Cow<'a, str>,
    instrument_source: i64,
    #[serde(borrow)]
    instrument_source_str: Cow<'a, str>,
}

/// Texts that were met before.
#[derive(Default)]
struct Pool(HashSet<Arc<str>>);

impl Pool {
    fn take(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.0.insert(new.clone());
        new
    }
}

impl RawNote<'_> {
    /// What contradicts itself, if anything. A name becomes that of a file, so it must not lead anywhere else.
    fn contradiction(&self, key: &str) -> Option<String> {
        if self.note_str != key {
            return Some(format!("its `note_str` is `{}`", shown(&self.note_str)));
        }
        if !is_plain(key) {
            return Some(
                "it is named as no file of `NSynth` is: letters, digits, `-`, `_` and `.` were expected".into(),
            );
        }
        if !is_plain(&self.instrument_str) {
            return Some(format!("its instrument is called `{}`", shown(&self.instrument_str)));
        }
        let words = [&self.instrument_family_str, &self.instrument_source_str].into_iter().chain(&self.qualities_str);
        if let Some(word) = words.into_iter().find(|word| !is_plain(word)) {
            return Some(format!("its family, source or a quality is called `{}`", shown(word)));
        }
        if self.qualities.len() != QUALITIES.len() {
            return Some(format!("it has {} qualities, expected {}", self.qualities.len(), QUALITIES.len()));
        }
        None
    }

    fn note(self, pool: &mut Pool) -> Note {
        Note {
            note: self.note,
            note_str: self.note_str.into_owned(),
            instrument: self.instrument,
            instrument_str: pool.take(&self.instrument_str),
            pitch: self.pitch,
            velocity: self.velocity,
            sample_rate: self.sample_rate,
            qualities: self.qualities,
            qualities_str: self.qualities_str.iter().map(|quality| pool.take(quality)).collect(),
            instrument_family: self.instrument_family,
            instrument_family_str: pool.take(&self.instrument_family_str),
            instrument_source: self.instrument_source,
            instrument_source_str: pool.take(&self.instrument_source_str),
        }
    }
}

/// Whether `name` can be the name of a file in any folder, and of nothing outside it.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= LONGEST_NAME && !name.starts_with('.') && name.bytes().all(plain)
}

/// The notes of an object of notes by name, in the order of the text.
struct Notes(Vec<Note>);

impl<'de> Deserialize<'de> for Notes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByName;

        impl<'de> Visitor<'de> for ByName {
            type Value = Notes;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of notes by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Notes, A::Error> {
                let (mut notes, mut pool) = (vec![], Pool::default());
                while let Some((key, raw)) = map.next_entry::<Cow<'de, str>, RawNote<'de>>()? {
                    if let Some(reason) = raw.contradiction(&key) {
                        let error = InputError::Note { key: shown(&key), reason };
                        return Err(A::Error::custom(error));
                    }
                    notes.push(raw.note(&mut pool));
                }
                Ok(Notes(notes))
            }
        }

        deserializer.deserialize_map(ByName)
    }
}

/// Notes of an `examples.json`, in the order of the file; read in one pass.
///
/// # Errors
/// [`InputError::Format`] says in which line what is wrong: also a name that could be the path of a file elsewhere, and a
/// name that occurs twice. [`InputError::Empty`] if there is no note.
pub fn read_notes(bytes: &[u8]) -> Result<Vec<Note>, InputError> {
    const WHAT: &str = "notes";
    let error = |reason: String| InputError::Format { what: WHAT, reason };
    let Notes(notes) = serde_json::from_slice(bytes).map_err(|cause| error(cause.to_string()))?;
    let mut names = HashSet::with_capacity(notes.len());
    if let Some(twice) = notes.iter().find(|note| !names.insert(note.note_str.as_str())) {
        return Err(error(format!("note `{}` occurs twice", twice.note_str)));
    }
    if notes.is_empty() { Err(InputError::Empty { what: WHAT }) } else { Ok(notes) }
}
