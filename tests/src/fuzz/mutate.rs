//! Mutated copies of seeds.

/// Longest input.
const LONGEST: usize = 1 << 18;

/// Numbers at which parsers go wrong.
const NUMBERS: [u64; 26] = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    31,
    32,
    63,
    64,
    100,
    127,
    128,
    255,
    256,
    1 << 15,
    (1 << 16) - 1,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    (1 << 63) - 1,
    u64::MAX,
];

/// Numbers and words of text formats.
const WORDS: [&str; 36] = [
    "0",
    "1",
    "-1",
    "2",
    "0.5",
    "-0",
    "1e308",
    "1e-320",
    "1e999",
    "255",
    "65536",
    "2147483647",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "99999999999999999999",
    "NaN",
    "null",
    "true",
    "false",
    "\"\"",
    "\"a\"",
    "[]",
    "{}",
    "[0]",
    "[[]]",
    "\u{feff}",
    "\u{0}",
    "é",
    "鼓",
    "\n",
    ",",
    "\"",
    "\\u0000",
    "\u{1b}[2J",
];

/// What opens a level, and what closes it.
const NESTED: [(&str, &str); 7] =
    [("[", "]"), ("{\"a\":", "}"), ("(", ")"), ("- ", ""), ("[", ""), ("{", "}"), ("a.", "")];

/// A small generator of random numbers: `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if `end` is 0.
    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A range of at most `most` bytes.
    fn range(&mut self, len: usize, most: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        let length = self.below(most.min(len - start) + 1);
        start..start + length
    }
}

/// Input `number` of `parser`: one of the `seeds` at first, mutated copies later.
pub fn mutated(parser: &str, seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
    if let Some(seed) = usize::try_from(number).ok().and_then(|number| seeds.get(number)) {
        return seed.clone();
    }
    // FNV-1a: parsers with equal seeds get different inputs.
    let name = parser
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut dice = Dice(name ^ number.wrapping_mul(0xd134_2543_de82_ef95));
    let mut input = seeds[dice.below(seeds.len())].clone();
    let is_text = std::str::from_utf8(&input).is_ok();
    let most = 1 << dice.below(4);
    let changes = 1 + dice.below(most);
    for _ in 0..changes {
        if is_text && dice.below(3) > 0 {
            change_text(&mut input, &mut dice);
        } else {
            change(&mut input, seeds, &mut dice);
        }
    }
    input.truncate(LONGEST);
    input
}

/// One change that knows nothing of the format.
fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], dice: &mut Dice) {
    let len = input.len();
    let at = dice.below(len);
    match dice.below(16) {
        0..=2 if len > 0 => input[at] ^= 1 << dice.below(8),
        3 | 4 if len > 0 => input[at] = dice.next() as u8,
        5 => input.truncate(at),
        6 => {
            let bytes: Vec<u8> = (0..=dice.below(16)).map(|_| dice.next() as u8).collect();
            input.splice(at..at, bytes);
        }
        7 => drop(input.drain(dice.range(len, 64))),
        8 => {
            let block = input[dice.range(len, 256)].to_vec();
            input.splice(at..at, block);
        }
        9 => {
            let block = input[dice.range(len, 64)].to_vec();
            let end = (at + block.len()).min(len);
            input[at..end].copy_from_slice(&block[..end - at]);
        }
        10..=12 => {
            let size = dice.of(&[1, 2, 4, 8]);
            let number = dice.of(&NUMBERS).wrapping_add(dice.of(&[0, 0, 1, u64::MAX]));
            let bytes = if dice.below(2) == 0 {
                number.to_le_bytes()[..size].to_vec()
            } else {
                number.to_be_bytes()[8 - size..].to_vec()
            };
            let end = (at + size).min(len);
            input[at..end].copy_from_slice(&bytes[..end - at]);
        }
        13 => {
            let other = &seeds[dice.below(seeds.len())];
            let from = dice.below(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        14 => {
            let other = &seeds[dice.below(seeds.len())];
            let block = other[dice.range(other.len(), 128)].to_vec();
            input.splice(at..at, block);
        }
        _ => nest(input, at, dice),
    }
}

/// One change of a text: its words, numbers, lines and brackets.
fn change_text(input: &mut Vec<u8>, dice: &mut Dice) {
    let words = words(input);
    let word = words[dice.below(words.len())].clone();
    match dice.below(10) {
        0..=2 => drop(input.splice(word, dice.of(&WORDS).bytes())),
        3 => drop(input.drain(word)),
        4 => {
            let text = input[word.clone()].to_vec();
            input.splice(word.start..word.start, text);
        }
        5 => {
            let text = input[words[dice.below(words.len())].clone()].to_vec();
            input.splice(word, text);
        }
        6 => {
            // A number that is there, changed.
            let numbers: Vec<_> = words
                .iter()
                .filter(|word| input[(*word).clone()].first().is_some_and(u8::is_ascii_digit))
                .cloned()
                .collect();
            if let Some(word) = numbers.get(dice.below(numbers.len())) {
                input.splice(word.clone(), dice.of(&NUMBERS).to_string().bytes());
            }
        }
        7 => {
            let starts: Vec<usize> = (0..input.len()).filter(|&at| at == 0 || input[at - 1] == b'\n').collect();
            let line = dice.below(starts.len());
            if let Some(&start) = starts.get(line) {
                let end = starts.get(line + 1).copied().unwrap_or(input.len());
                let text = input[start..end].to_vec();
                if dice.below(2) == 0 { drop(input.drain(start..end)) } else { drop(input.splice(start..start, text)) }
            }
        }
        8 => {
            let text = input[word.clone()].repeat(1 << dice.below(10));
            input.splice(word, text.into_iter().take(LONGEST));
        }
        _ => nest(input, word.start, dice),
    }
}

/// Opens many levels at `at`, and closes as many or none.
fn nest(input: &mut Vec<u8>, at: usize, dice: &mut Dice) {
    let (open, close) = dice.of(&NESTED);
    // Deep ones are rare: they make long inputs.
    let most = if dice.below(16) == 0 { 16 } else { 9 };
    let levels = 1 << dice.below(most);
    let text = [open.repeat(levels), close.repeat(levels)].concat();
    input.splice(at..at, text.into_bytes());
}

/// Runs of letters, runs of digits, and single other bytes; one empty word if there is nothing.
fn words(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    let kind = |byte: u8| match byte {
        b'0'..=b'9' | b'.' => 1,
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => 2,
        _ => 0,
    };
    let mut words = vec![];
    let mut start = 0;
    for at in 1..=text.len() {
        let is_end = at == text.len() || kind(text[at]) != kind(text[at - 1]) || kind(text[at]) == 0;
        if is_end {
            words.push(start..at);
            start = at;
        }
    }
    if words.is_empty() {
        words.push(0..0);
    }
    words
}
