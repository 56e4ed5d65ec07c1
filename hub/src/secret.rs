//! Secrets, and texts without them.

use std::fmt;
use std::ops::Range;

use super::HubError;

/// Letters of a secret in a row that are hidden. What is shorter is no secret.
const LEAST: usize = 8;
/// How often a text is unescaped: servers escape what is escaped already.
const LEVELS: usize = 3;

/// An access token. It never shows: neither in `Debug` nor in any error.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token from `text`, surrounding white space ignored; `None` if nothing is left.
    /// `source` names where it was found, for the error.
    ///
    /// # Errors
    /// [`HubError::BadSetting`] where it holds characters that no token has.
    pub fn parse(text: &str, source: &str) -> Result<Option<Self>, HubError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        if text.chars().all(|c| c.is_ascii_graphic()) {
            return Ok(Some(Self(text.to_owned())));
        }
        Err(HubError::BadSetting {
            setting: source.to_owned(),
            reason: "the token holds white space or characters outside ASCII".into(),
        })
    }

    /// The value of the `Authorization` header.
    #[must_use]
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// `text` with `…` for the token, where a server has sent it back: as a whole or in parts of eight letters and more, in
    /// upper and lower case, with blanks and invisible letters within, escaped as in JSON, URLs or HTML, in hexadecimal
    /// digits, and in Base64. A token of less than eight letters is no secret.
    ///
    /// Note: hide before a text is cut, since a cut may leave less than eight letters.
    #[must_use]
    pub fn hidden_in(&self, text: &str) -> String {
        if self.0.len() < LEAST || text.len() < LEAST {
            return text.to_owned();
        }
        let mut letters = visible(text);
        let mut secret: Vec<Range<usize>> = vec![];
        let forms = Form::all(self.0.as_bytes());
        for level in 0..=LEVELS {
            for form in &forms {
                form.find(&letters, &mut secret);
            }
            if level < LEVELS && !unescape(&mut letters) {
                break;
            }
        }
        without(text, secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A letter and where in the text it comes from.
struct Letter {
    value: char,
    from: Range<usize>,
}

/// The letters of `text` that can be seen.
fn visible(text: &str) -> Vec<Letter> {
    let letter = |(at, value): (usize, char)| Letter { value, from: at..at + value.len_utf8() };
    text.char_indices().map(letter).filter(|letter| is_visible(letter.value)).collect()
}

fn is_visible(c: char) -> bool {
    !(c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'))
}

/// A way in which a secret is written: its windows of `width` letters.
struct Form {
    width: usize,
    any_case: bool,
    /// Windows, a byte a letter, sorted.
    windows: Vec<u128>,
}

impl Form {
    fn all(secret: &[u8]) -> Vec<Self> {
        let mut forms = vec![Self::new([secret.to_ascii_lowercase()], LEAST, true)];
        let hexadecimal: String = secret.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(digit).collect();
        forms.push(Self::new([hexadecimal.into_bytes()], 2 * LEAST, true));
        // Base64 depends on how many bytes stand in front, such as the user's name.
        let encoded = (0..3).map(|before| base64(secret, before));
        forms.push(Self::new(encoded, (4 * LEAST).div_ceil(3), false));
        forms
    }

    fn new(texts: impl IntoIterator<Item = Vec<u8>>, width: usize, any_case: bool) -> Self {
        let mut windows = vec![];
        for text in texts {
            windows.extend(text.windows(width).map(packed));
        }
        windows.sort_unstable();
        Self { width, any_case, windows }
    }

    /// Adds the places in the text whose letters are this form's.
    fn find(&self, letters: &[Letter], found: &mut Vec<Range<usize>>) {
        let mask = u128::MAX >> (128 - 8 * self.width);
        let (mut window, mut length) = (0_u128, 0);
        for (at, letter) in letters.iter().enumerate() {
            let Some(byte) = u8::try_from(letter.value).ok().filter(u8::is_ascii) else {
                length = 0;
                continue;
            };
            // URLs have another Base64 than mails.
            let byte = match byte {
                byte if self.any_case => byte.to_ascii_lowercase(),
                b'-' => b'+',
                b'_' => b'/',
                byte => byte,
            };
            window = ((window << 8) | u128::from(byte)) & mask;
            length += 1;
            if length >= self.width && self.windows.binary_search(&window).is_ok() {
                found.push(letters[at + 1 - self.width].from.start..letter.from.end);
            }
        }
    }
}

fn packed(window: &[u8]) -> u128 {
    window.iter().fold(0, |packed, byte| (packed << 8) | u128::from(*byte))
}

fn digit(value: u8) -> Option<char> {
    char::from_digit(value.into(), 16)
}

/// The letters of Base64 that `secret` alone decides when `before` bytes stand in front of it.
fn base64(secret: &[u8], before: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |at: usize| secret.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    // A letter is six bits; the first whole one begins where the bytes in front end.
    let skipped = (6 - 8 * before % 6) % 6;
    let letters = (8 * secret.len()).saturating_sub(skipped) / 6;
    let letter = |index: usize| (0..6).fold(0, |value, at| (value << 1) | bit(skipped + 6 * index + at));
    (0..letters).map(|index| ALPHABET[usize::from(letter(index))]).collect()
}

/// Replaces escapes by what they stand for; `false`: there are none.
fn unescape(letters: &mut Vec<Letter>) -> bool {
    let mut plain = Vec::with_capacity(letters.len());
    let (mut at, mut any) = (0, false);
    while at < letters.len() {
        let (value, length) = escape(&letters[at..]).unwrap_or((letters[at].value, 1));
        any |= length > 1;
        let from = letters[at].from.start..letters[at + length - 1].from.end;
        if is_visible(value) {
            plain.push(Letter { value, from });
        }
        at += length;
    }
    *letters = plain;
    any
}

/// The letter that `letters` begin with an escape of, and how many letters that takes.
fn escape(letters: &[Letter]) -> Option<(char, usize)> {
    let at = |index: usize| letters.get(index).map(|letter| letter.value);
    let number = |first: usize, digits: usize, radix: u32| {
        (first..first + digits).try_fold(0, |value: u32, index| Some(value * radix + at(index)?.to_digit(radix)?))
    };
    match at(0)? {
        '%' => Some((char::from_u32(number(1, 2, 16)?)?, 3)),
        '\\' => match at(1)? {
            'u' if at(2) == Some('{') => {
                let digits = (1..=6).find(|digits| at(3 + digits) == Some('}'))?;
                Some((char::from_u32(number(3, digits, 16)?)?, 4 + digits))
            }
            'u' => Some((char::from_u32(number(2, 4, 16)?)?, 6)),
            'x' => Some((char::from_u32(number(2, 2, 16)?)?, 4)),
            // Invisible anyway.
            'n' | 'r' | 't' | 'b' | 'f' => Some(('\0', 2)),
            other => Some((other, 2)),
        },
        '&' => {
            const LONGEST: usize = 10;
            let end = (1..=LONGEST).find(|index| at(*index) == Some(';'))?;
            let name: String = (1..end).filter_map(at).collect();
            Some((entity(&name)?, end + 1))
        }
        _ => None,
    }
}

/// A character of HTML by its name or number.
fn entity(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let value = match number.strip_prefix(['x', 'X']) {
            Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
            None => number.parse(),
        };
        return char::from_u32(value.ok()?);
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "sol" => '/',
        "plus" => '+',
        "equals" => '=',
        "hyphen" | "dash" => '-',
        "lowbar" | "UnderBar" => '_',
        "period" => '.',
        "colon" => ':',
        "num" => '#',
        "percnt" => '%',
        "commat" => '@',
        "excl" => '!',
        "dollar" => '$',
        "ast" => '*',
        "shy" | "zwnj" | "zwj" | "nbsp" | "Tab" | "NewLine" => '\0',
        _ => return None,
    })
}

/// `text` with `…` for the places `secret`.
fn without(text: &str, mut secret: Vec<Range<usize>>) -> String {
    secret.sort_by_key(|range| range.start);
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    for range in secret {
        if range.end <= at {
            continue;
        }
        // Places that touch are one.
        if range.start > at || (at == 0 && shown.is_empty()) {
            shown.push_str(&text[at..range.start.max(at)]);
            shown.push('…');
        }
        at = range.end;
    }
    shown.push_str(&text[at..]);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-SECRETsecret/12345+abcXYZ";

    fn hidden(text: &str) -> String {
        Token::parse(KEY, "test").unwrap().unwrap().hidden_in(text)
    }

    fn escaped(with: impl Fn(u8) -> String) -> String {
        KEY.bytes().map(with).collect()
    }

    #[test]
    fn a_token_is_hidden_in_every_escaping() {
        let each = |with: &dyn Fn(u8) -> String| escaped(with);
        let json = each(&|byte| format!("\\u{byte:04x}"));
        let forms = [
            KEY.to_owned(),
            KEY.to_uppercase(),
            KEY.replace('/', "\\/"),
            json.clone(),
            json.replace('\\', "\\\\"),
            each(&|byte| format!("\\x{byte:02x}")),
            each(&|byte| format!("%{byte:02X}")),
            each(&|byte| format!("%25{byte:02x}")),
            each(&|byte| format!("&#{byte};")),
            each(&|byte| format!("&#x{byte:x};")),
            each(&|byte| format!("&amp;#x{byte:x};")),
            KEY.replace('/', "%2F").replace('+', "%2b"),
            KEY.replace('/', "&sol;").replace('+', "&plus;"),
            each(&|byte| format!("{byte:02x}")),
            format!("{}\u{200b}{}", &KEY[..5], &KEY[5..]),
            format!("{}\u{7}{}\n{}", &KEY[..5], &KEY[5..9], &KEY[9..]),
            format!("{}\\n{}&shy;{}", &KEY[..5], &KEY[5..9], &KEY[9..]),
        ];
        for form in forms {
            assert_eq!(hidden(&format!("bad key {form} given")), "bad key … given", "{form}");
        }
    }

    #[test]
    fn a_token_is_hidden_in_base64_whatever_stands_in_front_of_it() {
        // `printf %s "$before$KEY" | base64`
        let known = [
            "c2stU0VDUkVUc2VjcmV0LzEyMzQ1K2FiY1hZWg==",
            "OnNrLVNFQ1JFVHNlY3JldC8xMjM0NSthYmNYWVo=",
            "dTpzay1TRUNSRVRzZWNyZXQvMTIzNDUrYWJjWFla",
            "bWU6c2stU0VDUkVUc2VjcmV0LzEyMzQ1K2FiY1hZWg",
        ];
        for text in known {
            let shown = hidden(&format!("Basic {text}"));
            assert!(shown.starts_with("Basic ") && shown.contains('…') && shown.len() < 20, "{shown}");
        }
    }

    #[test]
    fn parts_of_eight_letters_are_hidden_and_less_is_not() {
        assert_eq!(hidden("key sk-SECRETsec and tail"), "key … and tail");
        assert_eq!(hidden(&format!("xx{}", &KEY[..27])), "xx…");
        assert_eq!(hidden(&KEY[20..28]), "…");
        assert_eq!(hidden("\\u0073ecret/12345 there"), "… there");
        for harmless in
            ["key sk-SECR", "12345+a", "", "a secret", "100% \\ &amp; \u{e9}\u{7434}\\u12", "%2", "&#;", "\\u{}"]
        {
            assert_eq!(hidden(harmless), harmless);
        }
        assert_eq!(hidden("\u{7434}sk-SECRETsec\u{7434} sk-SECRETsec"), "\u{7434}…\u{7434} …");
        let word = Token::parse("ollama", "test").unwrap().unwrap();
        assert_eq!(word.hidden_in("ollama is here"), "ollama is here");
    }

    #[test]
    fn long_texts_take_no_time() {
        let started = std::time::Instant::now();
        let text = "\\u0073k-SECRE&#x54;%20 ".repeat(20_000);
        assert!(hidden(&text).len() < text.len());
        assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    }
}
