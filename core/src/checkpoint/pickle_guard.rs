//! What a pickle would cost, found out before it is read.
//!
//! A pickle may name one value many times, and `pytorch-reader` copies a value each time. It bounds the copies of values
//! and text, but not those of the keys of dictionaries, the shapes of tensors, and the names that it joins of nested keys: a
//! pickle of a few kilobytes can take gigabytes. This machine goes through the same instructions and keeps, in place of
//! every value, only its cost.
//!
//! Source: `pickletools` of Python 3.11.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
};

/// Most bytes that all copies of values may have.
const MOST_COPIED: u64 = 128 << 20;
/// Most bytes that the names of all tensors may have.
const MOST_NAMED: u64 = 64 << 20;
/// Bytes of a value without its content.
const VALUE: u64 = 64;
/// Bytes of an index in a name.
const INDEX: u64 = 12;
/// Longest pickle in an archive; `pytorch-reader` refuses longer ones.
const LONGEST: u64 = 100 << 20;

/// Why a file is not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It would take too much memory.
    TooMuch(&'static str),
    /// It ends early, or its instructions make no sense.
    Broken,
    /// A format without a guard.
    Format(&'static str),
}

/// What a value costs.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    /// Bytes of a copy.
    bytes: u64,
    /// Tensors in it.
    leaves: u64,
    /// Bytes of the names of all tensors in it.
    names: u64,
}

/// Goes through the pickles of a file of `torch.save`.
///
/// # Errors
/// [`Refused`].
pub(super) fn check<R: Read + Seek>(mut file: R) -> Result<(), Refused> {
    /// `0x1950a86a20f9469cfc6c`, which begins a file of PyTorch 0.1.10 to 1.5; in bytes and in decimal.
    const LEGACY: [&[u8]; 2] =
        [&[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19], b"119547037146038801333356"];
    let mut head = vec![];
    Read::by_ref(&mut file).take(512).read_to_end(&mut head).map_err(|_| Refused::Broken)?;
    file.seek(SeekFrom::Start(0)).map_err(|_| Refused::Broken)?;
    if head.starts_with(b"PK") {
        return check_archive(file);
    }
    if head.get(257..262) == Some(b"ustar") {
        return Err(Refused::Format("a file of PyTorch before 0.1.10; load it there and save it anew"));
    }
    let start = &head[..head.len().min(64)];
    let is_legacy = LEGACY.iter().any(|magic| start.windows(magic.len()).any(|part| part == *magic));
    // Magic number, version, system, the content, and the keys of the storages.
    let pickles = if is_legacy { 5 } else { 1 };
    let mut reader = BufReader::new(file);
    (0..pickles).try_for_each(|_| Machine::default().run(&mut reader))
}

fn check_archive<R: Read + Seek>(file: R) -> Result<(), Refused> {
    // What is wrong with an archive is told by its reader.
    let Ok(mut archive) = zip::ZipArchive::new(file) else { return Ok(()) };
    let names = archive.file_names().filter_map(Result::ok).filter(|name| name.ends_with("data.pkl"));
    let names: Vec<String> = names.map(std::borrow::Cow::into_owned).collect();
    if names.len() > 1 {
        return Err(Refused::Format("an archive of several files of PyTorch"));
    }
    for name in names {
        if let Ok(entry) = archive.by_name(&name) {
            Machine::default().run(&mut BufReader::new(entry.take(LONGEST)))?;
        }
    }
    Ok(())
}

/// Executes a pickle on costs instead of values.
#[derive(Default)]
struct Machine {
    stack: Vec<Cost>,
    marks: Vec<usize>,
    memo: HashMap<u32, Cost>,
    copied: u64,
}

impl Machine {
    fn run<R: BufRead>(mut self, from: &mut R) -> Result<(), Refused> {
        loop {
            let instruction = byte(from)?;
            if instruction == b'.' {
                return if self.pop()?.names > MOST_NAMED { Err(Refused::TooMuch("names of tensors")) } else { Ok(()) };
            }
            if !self.step(instruction, from)? {
                // The reader stops at the same place, and says why.
                return Ok(());
            }
        }
    }

    /// One instruction; whether it is known.
    fn step<R: BufRead>(&mut self, instruction: u8, from: &mut R) -> Result<bool, Refused> {
        match instruction {
            // PROTO and FRAME say nothing about values.
            0x80 => skip(from, 1)?,
            0x95 => skip(from, 8)?,
            // Numbers, None, True and False.
            b'J' => self.scalar(from, 4)?,
            b'K' => self.scalar(from, 1)?,
            b'M' => self.scalar(from, 2)?,
            b'G' => self.scalar(from, 8)?,
            b'N' | 0x88 | 0x89 => self.scalar(from, 0)?,
            // Text, bytes and long numbers with their length before them.
            b'U' | b'C' | 0x8a | 0x8c => self.counted(from, 1)?,
            b'T' | b'X' | b'B' | 0x8b => self.counted(from, 4)?,
            0x8d | 0x8e | 0x96 => self.counted(from, 8)?,
            // Text and numbers in a line of their own; GLOBAL has two.
            b'I' | b'L' | b'F' | b'V' | b'P' => {
                let len = line(from)?.len() as u64;
                self.push(VALUE + len);
            }
            b'c' => {
                let len = (line(from)?.len() + line(from)?.len()) as u64;
                self.push(VALUE + len);
            }
            // Containers.
            b'(' => self.marks.push(self.stack.len()),
            b')' | b']' | b'}' | 0x8f => self.push(VALUE),
            b't' | b'l' | 0x91 => {
                let items = self.above_mark()?;
                self.stack.push(listed(Cost { bytes: VALUE, ..Cost::default() }, &items));
            }
            0x85..=0x87 => {
                let items = self.top(usize::from(instruction - 0x84))?;
                self.stack.push(listed(Cost { bytes: VALUE, ..Cost::default() }, &items));
            }
            b'a' => {
                let item = self.pop()?;
                let list = self.pop()?;
                self.stack.push(listed(list, &[item]));
            }
            b'e' | 0x90 => {
                let items = self.above_mark()?;
                let list = self.pop()?;
                self.stack.push(listed(list, &items));
            }
            b'd' => {
                let items = self.above_mark()?;
                self.stack.push(keyed(Cost { bytes: VALUE, ..Cost::default() }, &items));
            }
            b's' => {
                let items = self.top(2)?;
                let dictionary = self.pop()?;
                self.stack.push(keyed(dictionary, &items));
            }
            b'u' => {
                let items = self.above_mark()?;
                let dictionary = self.pop()?;
                self.stack.push(keyed(dictionary, &items));
            }
            // The stack.
            b'0' => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => {
                self.above_mark()?;
            }
            b'2' => {
                let top = self.pop()?;
                self.stack.push(top);
                self.copy(top)?;
                self.stack.push(top);
            }
            _ => return self.remembered(instruction, from),
        }
        Ok(true)
    }

    /// Instructions of the memo, and those that make objects.
    fn remembered<R: BufRead>(&mut self, instruction: u8, from: &mut R) -> Result<bool, Refused> {
        match instruction {
            b'g' | b'h' | b'j' => {
                let index = index(instruction == b'g', if instruction == b'h' { 1 } else { 4 }, from)?;
                let value = *self.memo.get(&index).ok_or(Refused::Broken)?;
                self.copy(value)?;
                self.stack.push(value);
            }
            b'p' | b'q' | b'r' | 0x94 => {
                let index = match instruction {
                    0x94 => self.memo.len() as u32,
                    other => index(other == b'p', if other == b'q' { 1 } else { 4 }, from)?,
                };
                let value = self.pop()?;
                self.stack.push(value);
                self.copy(value)?;
                self.memo.insert(index, value);
            }
            // BINPERSID: a storage.
            b'Q' => {
                self.pop()?;
                self.push(VALUE);
            }
            // STACK_GLOBAL
            0x93 => self.joined(2, 0)?,
            // REDUCE and NEWOBJ of a callable and its arguments, BUILD of an object and its state.
            b'R' | 0x81 | b'b' => self.joined(2, 1)?,
            0x92 => self.joined(3, 1)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The `count` values on top become one, with `more` tensors.
    fn joined(&mut self, count: usize, more: u64) -> Result<(), Refused> {
        let parts = self.top(count)?;
        let mut whole = Cost { bytes: VALUE, leaves: more, names: 0 };
        for part in parts {
            whole.bytes = whole.bytes.saturating_add(part.bytes);
            whole.leaves = whole.leaves.saturating_add(part.leaves);
            whole.names = whole.names.saturating_add(part.names);
        }
        // The object in place of which a built one stands in the memo.
        self.copy(whole)?;
        self.stack.push(whole);
        Ok(())
    }

    fn push(&mut self, bytes: u64) {
        self.stack.push(Cost { bytes, ..Cost::default() });
    }

    fn scalar<R: BufRead>(&mut self, from: &mut R, len: u64) -> Result<(), Refused> {
        skip(from, len)?;
        self.push(VALUE);
        Ok(())
    }

    fn counted<R: BufRead>(&mut self, from: &mut R, digits: usize) -> Result<(), Refused> {
        let len = number(from, digits)?;
        skip(from, len)?;
        self.push(VALUE + len);
        Ok(())
    }

    fn copy(&mut self, value: Cost) -> Result<(), Refused> {
        self.copied = self.copied.saturating_add(value.bytes);
        if self.copied > MOST_COPIED { Err(Refused::TooMuch("copies of its values")) } else { Ok(()) }
    }

    fn pop(&mut self) -> Result<Cost, Refused> {
        self.stack.pop().ok_or(Refused::Broken)
    }

    fn top(&mut self, count: usize) -> Result<Vec<Cost>, Refused> {
        let first = self.stack.len().checked_sub(count).ok_or(Refused::Broken)?;
        Ok(self.stack.split_off(first))
    }

    fn above_mark(&mut self) -> Result<Vec<Cost>, Refused> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or(Refused::Broken)?;
        Ok(self.stack.split_off(mark))
    }
}

/// A list with more items.
fn listed(mut list: Cost, items: &[Cost]) -> Cost {
    for item in items {
        list.bytes = list.bytes.saturating_add(item.bytes);
        list.leaves = list.leaves.saturating_add(item.leaves);
        list.names = list.names.saturating_add(item.names).saturating_add(INDEX.saturating_mul(item.leaves));
    }
    list
}

/// A dictionary with more keys, each before its value.
fn keyed(mut dictionary: Cost, items: &[Cost]) -> Cost {
    for pair in items.chunks(2) {
        let [key, value] = [pair[0], pair.get(1).copied().unwrap_or_default()];
        let names = value.names.saturating_add(key.bytes.saturating_mul(value.leaves));
        dictionary.bytes = dictionary.bytes.saturating_add(key.bytes).saturating_add(value.bytes);
        dictionary.leaves = dictionary.leaves.saturating_add(value.leaves);
        dictionary.names = dictionary.names.saturating_add(names);
    }
    dictionary
}

/// An index of the memo, in a line of its own or of `len` bytes.
fn index<R: BufRead>(in_line: bool, len: usize, from: &mut R) -> Result<u32, Refused> {
    if in_line {
        let text = line(from)?;
        return std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()).ok_or(Refused::Broken);
    }
    Ok(number(from, len)? as u32)
}

fn byte<R: BufRead>(from: &mut R) -> Result<u8, Refused> {
    let mut byte = [0];
    from.read_exact(&mut byte).map_err(|_| Refused::Broken)?;
    Ok(byte[0])
}

/// A little-endian number of `len` bytes.
fn number<R: BufRead>(from: &mut R, len: usize) -> Result<u64, Refused> {
    let mut digits = [0; 8];
    from.read_exact(&mut digits[..len]).map_err(|_| Refused::Broken)?;
    Ok(u64::from_le_bytes(digits))
}

fn line<R: BufRead>(from: &mut R) -> Result<Vec<u8>, Refused> {
    let mut text = vec![];
    from.read_until(b'\n', &mut text).map_err(|_| Refused::Broken)?;
    if text.pop() == Some(b'\n') { Ok(text) } else { Err(Refused::Broken) }
}

fn skip<R: BufRead>(from: &mut R, len: u64) -> Result<(), Refused> {
    let skipped = io::copy(&mut Read::by_ref(from).take(len), &mut io::sink()).map_err(|_| Refused::Broken)?;
    if skipped == len { Ok(()) } else { Err(Refused::Broken) }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A dictionary with one key of `len` bytes and no value, memoised under `index`.
    fn keyed_by(len: u32, index: u8) -> Vec<u8> {
        let mut pickle = vec![b'}', b'X'];
        pickle.extend(len.to_le_bytes());
        pickle.extend(std::iter::repeat_n(b'k', len as usize));
        pickle.extend([b'N', b's', b'q', index, b'0']);
        pickle
    }

    fn verdict(body: &[u8]) -> Result<(), Refused> {
        let mut pickle = vec![0x80, 2];
        pickle.extend(body);
        check(Cursor::new(pickle))
    }

    #[test]
    fn copies_of_long_keys_are_counted() {
        let mut pickle = keyed_by(2000, 0);
        // A list of all that is doubled twelve times, then fetched again and again.
        for index in 0..16 {
            pickle.extend([b'h', index, b'h', index, 0x86, b'q', index + 1, b'0']);
        }
        pickle.extend(b"N.");
        assert!(pickle.len() < 4096);
        assert_eq!(verdict(&pickle), Err(Refused::TooMuch("copies of its values")));
    }

    #[test]
    fn names_of_nested_keys_are_counted() {
        let mut pickle = vec![b'}', b'X'];
        pickle.extend(100_000u32.to_le_bytes());
        pickle.extend(std::iter::repeat_n(b'k', 100_000));
        pickle.push(b']');
        pickle.push(b'(');
        // A thousand objects below a key of 100 KB: names of 100 MB.
        pickle.extend(b"NNR".repeat(1000));
        pickle.extend(b"es.");
        assert_eq!(verdict(&pickle), Err(Refused::TooMuch("names of tensors")));
    }

    #[test]
    fn harmless_pickles_pass_and_broken_ones_do_not() {
        assert_eq!(verdict(b"}q\x00X\x01\x00\x00\x00aK\x07s."), Ok(()));
        for broken in [&b""[..], b"}", b"(", b"t.", b"h\x00.", b"X\xff\xff\xff\xff.", b"u.", b"s."] {
            assert_eq!(verdict(broken), Err(Refused::Broken), "{broken:?}");
        }
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert!(matches!(check(Cursor::new(tar)), Err(Refused::Format(_))));
    }
}
