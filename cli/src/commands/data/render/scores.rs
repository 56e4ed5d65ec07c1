//! Scores in a folder: Standard MIDI files, and the games' archives (WAD) that hold some.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};

/// Longest file that is read; the largest WADs have some tens of megabytes.
const LONGEST: u64 = 256 << 20;
/// How a Standard MIDI file begins.
const MIDI: &[u8] = b"MThd";

/// The scores of `folder`, by name: files that end in `.mid` or `.midi`, and the MIDI lumps of those in `.wad`.
///
/// # Errors
/// A folder or file that cannot be read; a WAD that contradicts itself; no score at all.
pub(super) fn scores(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let cannot = || format!("cannot read the folder `{}`", folder.display());
    let entries =
        fs::read_dir(folder).with_context(cannot)?.collect::<std::io::Result<Vec<_>>>().with_context(cannot)?;
    let mut paths: Vec<_> = entries.iter().map(fs::DirEntry::path).filter(|path| path.is_file()).collect();
    paths.sort();
    let mut found = vec![];
    for path in paths {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        let is_wad = ending == "wad";
        if !is_wad && ending != "mid" && ending != "midi" {
            continue;
        }
        let cannot = || format!("cannot read `{}`", path.display());
        let length = path.metadata().with_context(cannot)?.len();
        ensure!(length <= LONGEST, "`{}` has {length} bytes, expected at most {LONGEST}", path.display());
        let bytes = fs::read(&path).with_context(cannot)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if is_wad {
            let lumps = lumps(&bytes).with_context(|| format!("`{}`", path.display()))?;
            found.extend(lumps.into_iter().map(|(lump, bytes)| (format!("{name}/{lump}"), bytes.to_vec())));
        } else {
            found.push((name, bytes));
        }
    }
    if found.is_empty() {
        bail!("`{}` holds no score: no `.mid`, no `.midi`, and no `.wad` with one inside", folder.display());
    }
    Ok(found)
}

/// The lumps of a WAD that are MIDI files: four bytes of its kind, how many lumps, where their list is; of each where it
/// is, its length, and a name of eight bytes.
fn lumps(bytes: &[u8]) -> Result<Vec<(String, &[u8])>> {
    const ENTRY: usize = 16;
    let number = |at: usize| -> Option<usize> {
        let four = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes([four[0], four[1], four[2], four[3]]) as usize)
    };
    let begins = bytes.starts_with(b"IWAD") || bytes.starts_with(b"PWAD");
    ensure!(begins, "not a WAD: expected `IWAD` or `PWAD` at its beginning");
    let (Some(count), Some(list)) = (number(4), number(8)) else { bail!("it is cut short") };
    let list = count.checked_mul(ENTRY).and_then(|length| bytes.get(list..list.checked_add(length)?));
    let mut found = vec![];
    for entry in list.context("its list of lumps lies outside the file")?.chunks_exact(ENTRY) {
        let long = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]) as usize;
        let (from, length) = (long(0), long(4));
        let lump = from.checked_add(length).and_then(|until| bytes.get(from..until));
        let Some(lump) = lump.filter(|lump| lump.starts_with(MIDI)) else { continue };
        let name: String = entry[8..].iter().take_while(|byte| byte.is_ascii_graphic()).map(|&b| b as char).collect();
        found.push((name, lump));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wad(lumps: &[(&[u8; 8], &[u8])]) -> Vec<u8> {
        let mut bytes = b"IWAD".to_vec();
        let long = |value: usize| (value as u32).to_le_bytes();
        let body: usize = lumps.iter().map(|(_, lump)| lump.len()).sum();
        bytes.extend(long(lumps.len()));
        bytes.extend(long(12 + body));
        let mut places = vec![];
        for (_, lump) in lumps {
            places.push(bytes.len());
            bytes.extend(*lump);
        }
        for ((name, lump), place) in lumps.iter().zip(places) {
            bytes.extend(long(place));
            bytes.extend(long(lump.len()));
            bytes.extend(*name);
        }
        bytes
    }

    #[test]
    fn the_midi_lumps_of_a_wad_are_found() {
        let whole = wad(&[(b"PLAYPAL\0", b"xxxx"), (b"D_E1M1\0\0", b"MThd123"), (b"D_INTRO\0", b"MThd4")]);
        let found = lumps(&whole).unwrap();
        assert_eq!(found, [("D_E1M1".to_owned(), &b"MThd123"[..]), ("D_INTRO".to_owned(), &b"MThd4"[..])]);
        assert!(lumps(b"MThd").unwrap_err().to_string().contains("not a WAD"));
        for cut in 0..whole.len() {
            // The list comes last: without all of it there is none.
            assert!(lumps(&whole[..cut]).is_err(), "{cut}");
        }
        let mut far = whole.clone();
        let list = whole.len() - 32;
        far[list..list + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(lumps(&far).unwrap().len(), 1, "a lump outside the file is none");
    }
}
