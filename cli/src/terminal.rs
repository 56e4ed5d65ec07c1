//! What reaches the terminal: no control characters of files, no secrets.

use std::{
    io::{self, Write},
    sync::OnceLock,
};

use tonoscope_hub::{HubConfig, Token};

/// `text` for the terminal, over several lines: without secrets, and with escapes for the characters that a terminal obeys.
pub(crate) fn shown(text: &str) -> String {
    static SECRETS: OnceLock<Vec<Token>> = OnceLock::new();
    let secrets = SECRETS.get_or_init(secrets);
    escaped(&secrets.iter().fold(text.to_owned(), |text, secret| secret.hidden_in(&text)))
}

/// As [`shown`], on one line.
pub(crate) fn on_one_line(text: &str) -> String {
    shown(text).replace('\n', " ")
}

/// Writes `text` and a line feed to stderr. Nobody is left to tell if stderr is closed.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{}", shown(text));
}

/// Tokens and passwords that this process may have sent somewhere.
fn secrets() -> Vec<Token> {
    let parse = |text: &str| Token::parse(text, "").ok().flatten();
    let variable = |name: &str| std::env::var(name).ok();
    let named = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY"].into_iter().filter_map(variable);
    let mut secrets: Vec<Token> = named.filter_map(|text| parse(&text)).collect();
    // The token may come from a file.
    secrets.extend(HubConfig::from_env().ok().and_then(|config| config.token));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        for name in [name.to_owned(), name.to_ascii_lowercase()] {
            let proxy = variable(&name).and_then(|address| ureq::Proxy::new(&address).ok());
            secrets.extend(proxy.and_then(|proxy| parse(proxy.password()?)));
        }
    }
    secrets
}

/// `text` with escapes for control characters other than tabs and line feeds, and for those that turn the direction of text.
fn escaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) { push_escape(&mut plain, c) } else { plain.push(c) }
    }
    plain
}

/// Whether a terminal obeys the character instead of showing it.
fn is_obeyed(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && !matches!(c, '\n' | '\t'))
}

/// The escape is JSON's, so that JSON stays what it is.
fn push_escape(text: &mut String, c: char) {
    use std::fmt::Write as _;
    let _ = write!(text, "\\u{:04x}", u32::from(c));
}

/// Results on their way to a terminal or a pipe: text in which [`shown`]'s escapes replace control characters.
///
/// Remembers whether the reader has gone, as after `| head`.
pub(crate) struct Results<'a> {
    out: &'a mut dyn Write,
    /// The beginning of a letter whose end is not written yet.
    begun: Vec<u8>,
    failed: bool,
    closed: bool,
}

impl<'a> Results<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, begun: vec![], failed: false, closed: false }
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether results could not be written.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let result = self.out.write_all(bytes);
        self.remember(result)
    }

    fn remember(&mut self, result: io::Result<()>) -> io::Result<()> {
        self.failed |= result.is_err();
        self.closed |= result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        result
    }
}

impl Write for Results<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
        if self.begun.is_empty() && bytes.iter().all(is_plain) {
            self.put(bytes)?;
            return Ok(bytes.len());
        }
        let text = [&self.begun, bytes].concat();
        let whole = text.len() - begun_letter(&text);
        let shown = escaped(&String::from_utf8_lossy(&text[..whole]));
        self.begun = text[whole..].to_vec();
        self.put(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.begun.is_empty() {
            let rest = String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned();
            self.put(rest.as_bytes())?;
        }
        let result = self.out.flush();
        self.remember(result)
    }
}

/// Bytes at the end of `text` that begin a letter of UTF-8 without ending it.
fn begun_letter(text: &[u8]) -> usize {
    const LONGEST: usize = 4;
    for back in 1..LONGEST.min(text.len() + 1) {
        let byte = text[text.len() - back];
        let expected = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => return 0,
        };
        return if back < expected { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(parts: &[&[u8]]) -> String {
        let mut bytes = vec![];
        let mut out = Results::new(&mut bytes);
        for part in parts {
            out.write_all(part).unwrap();
        }
        out.flush().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn control_characters_become_escapes() {
        assert_eq!(
            escaped("a\u{1b}[2J\tb\n\u{7}\u{9b}\u{202e}\r\u{7f}é琴"),
            "a\\u001b[2J\tb\n\\u0007\\u009b\\u202e\\u000d\\u007fé琴"
        );
        assert_eq!(on_one_line("a\nb"), "a b");
    }

    #[test]
    fn results_are_escaped_however_they_are_cut_into_writes() {
        let text = "plain\té琴\u{1d11e}\u{9b}2J\u{202e}\u{1b}[0m\n";
        let expected = "plain\té琴\u{1d11e}\\u009b2J\\u202e\\u001b[0m\n";
        assert_eq!(written(&[text.as_bytes()]), expected);
        let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(written(&single), expected);
        for length in 2..7 {
            assert_eq!(written(&text.as_bytes().chunks(length).collect::<Vec<_>>()), expected, "{length}");
        }
        assert_eq!(written(&[b"a\xff\xc2", b"b", b"\xe7\x90"]), "a\u{fffd}\u{fffd}b\u{fffd}");
        let json = serde_json::to_string("\u{1b}\u{9b}").unwrap();
        assert_eq!(serde_json::from_str::<String>(&written(&[json.as_bytes()])).unwrap(), "\u{1b}\u{9b}");
    }

    #[test]
    fn a_reader_that_has_gone_is_remembered() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut gone = Gone;
        let mut out = Results::new(&mut gone);
        assert!(!out.is_closed());
        assert!(writeln!(out, "x").is_err() && out.is_closed());
    }
}
