//! ZIP archives whose entries are stored as they are, which is how `torch.save` writes them.
//!
//! Source: PKWARE, "APPNOTE.TXT - .ZIP File Format Specification", 4.3.

use super::{TorchTensorError, unreadable};

/// Entries of an archive that holds one tensor: far fewer.
const MAX_ENTRIES: usize = 1000;

/// Name and content of each entry of a ZIP archive whose entries are stored as they are.
pub(super) fn entries(file: &[u8]) -> Result<Vec<(String, &[u8])>, TorchTensorError> {
    const END: usize = 22;
    const LONGEST_COMMENT: usize = 65_535;
    let cut = || unreadable("the archive is cut short");
    let first = file.len().saturating_sub(END + LONGEST_COMMENT);
    let end = (first..(file.len() + 1).saturating_sub(END)).rev().find(|&at| file[at..].starts_with(b"PK\x05\x06"));
    let end = end.ok_or_else(|| unreadable("it is no ZIP archive"))?;
    let (count, mut at) = (number(file, end + 10, 2).ok_or_else(cut)?, number(file, end + 16, 4).ok_or_else(cut)?);
    if count > MAX_ENTRIES || at == u32::MAX as usize {
        return Err(unreadable("the archive is larger than that of a tensor"));
    }
    let mut all = vec![];
    for _ in 0..count {
        if file.get(at..at.saturating_add(4)) != Some(b"PK\x01\x02") {
            return Err(cut());
        }
        let field = |offset: usize, len: usize| number(file, at + offset, len).ok_or_else(cut);
        let (method, stored, len) = (field(10, 2)?, field(20, 4)?, field(24, 4)?);
        let (name_len, extra, comment, local) = (field(28, 2)?, field(30, 2)?, field(32, 2)?, field(42, 4)?);
        let name = file.get(at + 46..at + 46 + name_len).ok_or_else(cut)?;
        let name = String::from_utf8_lossy(name).into_owned();
        if method != 0 || stored != len {
            return Err(unreadable(format!("`{}` in it is compressed", name.escape_default())));
        }
        // The entry's own header repeats the name, with other extra fields.
        let (skip_name, skip_extra) =
            (number(file, local + 26, 2).ok_or_else(cut)?, number(file, local + 28, 2).ok_or_else(cut)?);
        let start = local + 30 + skip_name + skip_extra;
        let content = file.get(start..start.saturating_add(len)).ok_or_else(cut)?;
        all.push((name, content));
        at += 46 + name_len + extra + comment;
    }
    Ok(all)
}

/// A little-endian number of `len` bytes at `at`.
pub(super) fn number(bytes: &[u8], at: usize, len: usize) -> Option<usize> {
    let digits = bytes.get(at..at.checked_add(len)?)?;
    digits.iter().rev().try_fold(0usize, |sum, &digit| Some(sum.checked_mul(256)? + usize::from(digit)))
}
