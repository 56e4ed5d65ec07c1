//! Names of files that are made of names from outside, such as those of concepts.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use tonoscope_hub::hex;

/// Longest name that is kept letter by letter, in bytes. File systems allow 255, and a file may be called after two names.
const LONGEST: usize = 100;
/// Bytes that are kept of a longer name.
const KEPT: usize = 60;

/// The file name of `name`, without an ending: different names give different files.
///
/// Letters of ASCII, digits, `-` and `_` stay; every other byte becomes `%` and two digits. A name that would be too long ends
/// with its checksum.
pub(crate) fn file_name(name: &str) -> String {
    bounded(name, encoded(name))
}

/// The file name of two names, `FROM_to_TO`: different pairs give different files.
pub(crate) fn pair_name(from: &str, to: &str) -> String {
    format!("{}_to_{}", apart(from), apart(to))
}

/// As [`file_name`]; of a name that has the word `to` in it, `_` is encoded as well, since it would be taken for the `_to_`
/// between two names.
fn apart(name: &str) -> String {
    let plain = encoded(name);
    let ambiguous = plain.contains('_') && plain.split('_').any(|word| word == "to");
    bounded(name, if ambiguous { plain.replace('_', "%5f") } else { plain })
}

/// `encoded`, or its beginning and the checksum of `name` if it is too long.
fn bounded(name: &str, encoded: String) -> String {
    if encoded.len() <= LONGEST {
        return encoded;
    }
    // Elsewhere a digit follows `%`.
    format!("{}%-{}", &encoded[..KEPT], hex(&Sha256::digest(name)[..16]))
}

fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02x}").expect("a string takes all");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn plain_names_stay_as_they_are() {
        for name in ["guitar", "piano_0012", "Rock-n-roll", "decoder_0_mlp_out"] {
            assert_eq!(file_name(name), name);
        }
        assert_eq!(pair_name("guitar", "piano"), "guitar_to_piano");
        assert_eq!(pair_name("toto", "tone_a"), "toto_to_tone_a");
    }

    #[test]
    fn different_names_give_different_files() {
        let long = "琴".repeat(60);
        let names = [
            "琴", "鼓", "r&b", "r+b", "r b", "r-b", "r_b", "R_b", "é", "e\u{301}", "", "%", "%25", "../x", "..", "a/b",
        ];
        let longs = [long.clone(), format!("{long}琴"), format!("{}鼓", &long[3..])];
        let all: Vec<&str> = names.into_iter().chain(longs.iter().map(String::as_str)).collect();
        let files: BTreeSet<String> = all.iter().map(|name| file_name(name)).collect();
        assert_eq!(files.len(), all.len(), "{files:?}");
        assert!(files.iter().all(|file| file.len() <= LONGEST && !file.contains(['/', '.', '&'])), "{files:?}");
        assert_eq!(file_name("琴"), "%e7%90%b4");
    }

    #[test]
    fn different_pairs_give_different_files() {
        let names = ["a", "to", "a_to", "to_b", "b", "a_to_b", "to_to", "b_to_c", "c", "_", "a_", "_a", "a%5fto", "琴"];
        let mut files = BTreeSet::new();
        for from in names {
            for to in names {
                assert!(files.insert(pair_name(from, to)), "{from} and {to}");
            }
        }
    }
}
