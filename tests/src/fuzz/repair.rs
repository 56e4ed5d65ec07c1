//! Lengths and checksums, mended so that mutations reach the parsers behind them.

/// A safetensors file whose length of the header is that of the JSON object in it.
pub fn safetensors(file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    let Some(header) = file.get(8..) else { return file };
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    let end = header.iter().position(|&byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' if !in_text => depth += 1,
            b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        byte == b'}' && depth == 0 && !in_text
    });
    if let Some(end) = end {
        file[..8].copy_from_slice(&(end as u64 + 1).to_le_bytes());
    }
    file
}

/// An Ogg stream whose pages have the right checksums.
pub fn ogg(file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    let mut at = 0;
    while let Some(next) = file.get(at..).and_then(|rest| rest.windows(4).position(|four| four == b"OggS")) {
        let start = at + next;
        let Some(&segments) = file.get(start + 26) else { break };
        let table = start + 27..start + 27 + usize::from(segments);
        let Some(lengths) = file.get(table.clone()) else { break };
        let end = table.end + lengths.iter().map(|&length| usize::from(length)).sum::<usize>();
        at = start + 4;
        if end <= file.len() {
            file[start + 22..start + 26].fill(0);
            let sum =
                file[start..end].iter().fold(0u32, |sum, &byte| {
                    (0..8).fold(sum ^ u32::from(byte) << 24, |sum, _| {
                        if sum >> 31 == 1 { sum << 1 ^ 0x04c1_1db7 } else { sum << 1 }
                    })
                });
            file[start + 22..start + 26].copy_from_slice(&sum.to_le_bytes());
            at = end;
        }
    }
    file
}

/// A ZIP archive of stored entries, as `torch.save` writes it.
pub fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (vec![], vec![]);
    let word = |value: usize| (value as u16).to_le_bytes();
    let long = |value: usize| (value as u32).to_le_bytes();
    for (name, content) in entries {
        let start = file.len();
        // Version, flags, method, time, date, checksum, sizes, length of the name, no extra fields.
        let mut fields = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        fields.extend(crc32(content).to_le_bytes());
        fields.extend([long(content.len()), long(content.len())].concat());
        fields.extend([word(name.len()), word(0)].concat());
        file.extend([b"PK\x03\x04", fields.as_slice(), name.as_bytes(), content].concat());
        directory.extend([b"PK\x01\x02\x14\0", fields.as_slice(), &[0; 10], &long(start), name.as_bytes()].concat());
    }
    let (start, count) = (file.len(), word(entries.len()));
    file.extend(&directory);
    file.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &long(directory.len()), &long(start), &[0, 0]].concat());
    file
}

/// Content of the first entry of a ZIP archive whose name ends in `suffix`; its entries are stored as they are.
pub fn zip_entry(file: &[u8], suffix: &str) -> Option<Vec<u8>> {
    let number = |at: usize, len: usize| -> Option<usize> {
        Some(file.get(at..at + len)?.iter().rev().fold(0, |sum, &digit| sum << 8 | usize::from(digit)))
    };
    let starts = (0..file.len().saturating_sub(46)).filter(|&at| file[at..].starts_with(b"PK\x01\x02"));
    for at in starts {
        let name = file.get(at + 46..at + 46 + number(at + 28, 2)?)?;
        if name.ends_with(suffix.as_bytes()) {
            let (length, local) = (number(at + 24, 4)?, number(at + 42, 4)?);
            let start = local + 30 + number(local + 26, 2)? + number(local + 28, 2)?;
            return Some(file.get(start..start + length)?.to_vec());
        }
    }
    None
}

fn crc32(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256u32)
        .map(|byte| (0..8).fold(byte, |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 }))
        .collect();
    !bytes.iter().fold(!0u32, |sum, &byte| table[usize::from(sum as u8 ^ byte)] ^ sum >> 8)
}
