//! General MIDI's programs as families and sources of `NSynth`.

use tonoscope_core::musicologist::{FAMILIES, SOURCES};

/// What a program is to `NSynth`: indices into [`FAMILIES`] and [`SOURCES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) family: usize,
    pub(super) source: usize,
}

impl Kind {
    /// What program `program`, from 0, is. `None`: nothing that `NSynth` has.
    pub(super) fn of(program: u16) -> Option<Self> {
        let (family, source) = match program {
            0 | 1 | 3 | 6 => ("keyboard", "acoustic"),
            2 | 4 | 5 | 7 => ("keyboard", "electronic"),
            8..=15 => ("mallet", "acoustic"),
            16..=18 => ("organ", "electronic"),
            19 | 20 | 21 | 23 => ("organ", "acoustic"),
            24 | 25 => ("guitar", "acoustic"),
            26..=31 => ("guitar", "electronic"),
            32 => ("bass", "acoustic"),
            33..=37 => ("bass", "electronic"),
            38 | 39 => ("bass", "synthetic"),
            40..=46 | 48 | 49 => ("string", "acoustic"),
            50 | 51 => ("string", "synthetic"),
            52 | 53 => ("vocal", "acoustic"),
            54 | 85 | 91 => ("vocal", "synthetic"),
            56..=61 => ("brass", "acoustic"),
            62 | 63 => ("brass", "synthetic"),
            22 | 64..=71 => ("reed", "acoustic"),
            72..=79 => ("flute", "acoustic"),
            80..=84 | 86 | 87 => ("synth_lead", "synthetic"),
            _ => return None,
        };
        let place = |names: &[&str], name| names.iter().position(|known| *known == name);
        Some(Self { family: place(&FAMILIES, family)?, source: place(&SOURCES, source)? })
    }

    /// The pitches that such an instrument is at home in, both ends included.
    pub(super) fn pitches(self) -> (u8, u8) {
        match FAMILIES[self.family] {
            "bass" => (28, 60),
            "flute" => (60, 96),
            "mallet" => (48, 96),
            "guitar" => (40, 84),
            "reed" | "brass" | "vocal" => (46, 82),
            _ => (36, 90),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_and_source_has_programs() {
        let kinds: Vec<Kind> = (0..128).filter_map(Kind::of).collect();
        for (family, name) in FAMILIES.iter().enumerate() {
            assert!(kinds.iter().any(|kind| kind.family == family), "{name}");
        }
        for (source, name) in SOURCES.iter().enumerate() {
            assert!(kinds.iter().any(|kind| kind.source == source), "{name}");
        }
        assert_eq!(kinds.len(), 87);
        assert_eq!(Kind::of(22), Some(Kind { family: 7, source: 0 }));
        assert!(Kind::of(120).is_none() && Kind::of(128).is_none() && Kind::of(u16::MAX).is_none());
    }
}
