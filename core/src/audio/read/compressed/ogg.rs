//! Checks an Ogg file before it is read: symphonia passes over a damaged page, and the sound would lack a piece.
//!
//! Source: RFC 3533, section 6.

use crate::audio::read::Take;

/// Bytes of a page before its table of segments.
const HEAD: usize = 27;
/// Where in the head its checksum is.
const CHECKSUM: std::ops::Range<usize> = 22..26;

/// What is wrong with the pages of `file`.
pub(super) fn fault(file: &[u8]) -> Option<String> {
    let table = table();
    let mut rest = file;
    while rest.starts_with(b"OggS") {
        let at = file.len() - rest.len();
        let Some(size) = size(rest) else { return Some(format!("it ends within the page at byte {at}")) };
        let page = &rest[..size];
        let mut stated = &page[CHECKSUM];
        let stated = stated.take().map(u32::from_le_bytes);
        // The checksum is taken as if it were zero itself.
        let bytes = page.iter().enumerate().map(|(at, &byte)| if CHECKSUM.contains(&at) { 0 } else { byte });
        let found = bytes.fold(0u32, |sum, byte| sum << 8 ^ table[usize::from((sum >> 24) as u8 ^ byte)]);
        if stated != Some(found) {
            return Some(format!("the page at byte {at} does not match its checksum"));
        }
        rest = &rest[size..];
    }
    // Some programs put tags behind the last page.
    let more = rest.windows(4).any(|bytes| bytes == b"OggS");
    more.then(|| format!("no page begins at byte {}", file.len() - rest.len()))
}

/// Length of the page that `bytes` begin with.
fn size(bytes: &[u8]) -> Option<usize> {
    let segments = usize::from(*bytes.get(HEAD - 1)?);
    let lengths = bytes.get(HEAD..HEAD + segments)?;
    let size = HEAD + segments + lengths.iter().map(|&length| usize::from(length)).sum::<usize>();
    (size <= bytes.len()).then_some(size)
}

/// Remainders of the polynomial 0x04C11DB7, by byte.
fn table() -> [u32; 256] {
    let step = |sum: u32| sum << 1 ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 };
    std::array::from_fn(|byte| (0..8).fold((byte as u32) << 24, |sum, _| step(sum)))
}
