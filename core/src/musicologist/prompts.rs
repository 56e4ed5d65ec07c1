//! Prompt files: the one reader that every command and every user of the library has.

use super::{InputError, shown};

/// A prompt of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptLine {
    /// What the model reads.
    pub text: String,
    /// The concept that `prompts template` writes in front of the prompt. The model does not read it.
    pub concept: Option<String>,
    /// Number of the line in the file, from 1.
    pub line: usize,
}

/// Reads a prompt file: one prompt a line. Blank lines are skipped and white space around a prompt is cut off.
///
/// - Encoding: UTF-8, with or without a byte-order mark; UTF-16 of either byte order with one.
/// - Lines end in `\n`, `\r\n` or `\r`.
/// - A number in front (`12. ` or `12) `) is no part of a prompt. A line without a number is taken whole.
/// - `concept<TAB>prompt`, as `prompts template` writes it: the concept goes into [`PromptLine::concept`]. Either every
///   line has such a tab or none has.
///
/// # Errors
/// [`InputError::Format`], which names the line, for text of another encoding, a NUL, or a tab that separates no concept;
/// [`InputError::Empty`] if no prompt is left.
pub fn read_prompt_lines(bytes: &[u8]) -> Result<Vec<PromptLine>, InputError> {
    let text = decode(bytes)?.replace("\r\n", "\n");
    let mut prompts: Vec<PromptLine> = vec![];
    for (index, line) in text.split(['\n', '\r']).enumerate() {
        let number = index + 1;
        if line.contains('\0') {
            return Err(bad(format!("line {number} is not text: it holds a NUL; save the file as UTF-8")));
        }
        let line = without_number(line);
        if line.is_empty() {
            continue;
        }
        let prompt = with_concept(line, number)?;
        if let Some(first) = prompts.first()
            && first.concept.is_some() != prompt.concept.is_some()
        {
            let (with, without) = if prompt.concept.is_some() { (number, first.line) } else { (first.line, number) };
            return Err(bad(format!(
                "line {with} has a tab and line {without} has none; \
                 expected `concept<TAB>prompt` in every line or in no line"
            )));
        }
        prompts.push(prompt);
    }
    if prompts.is_empty() { Err(InputError::Empty { what: "prompts" }) } else { Ok(prompts) }
}

/// The texts of [`read_prompt_lines`].
///
/// # Errors
/// As [`read_prompt_lines`].
pub fn read_prompts(bytes: &[u8]) -> Result<Vec<String>, InputError> {
    Ok(read_prompt_lines(bytes)?.into_iter().map(|prompt| prompt.text).collect())
}

fn bad(reason: String) -> InputError {
    InputError::Format { what: "prompts", reason }
}

/// The text of a file, by its byte-order mark.
fn decode(bytes: &[u8]) -> Result<String, InputError> {
    match bytes {
        [0xff, 0xfe, rest @ ..] => decode_utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => decode_utf16(rest, u16::from_be_bytes),
        _ => {
            let unmarked = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            let text = std::str::from_utf8(unmarked).map_err(|error| {
                let at = error.valid_up_to();
                let line = unmarked[..at].split(|byte| *byte == b'\n').count();
                let at = at + bytes.len() - unmarked.len();
                bad(format!("line {line} is not text: its byte at index {at} is not UTF-8; save the file as UTF-8"))
            })?;
            Ok(text.to_owned())
        }
    }
}

fn decode_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, InputError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(pairs.len());
    let line = |text: &str| 1 + text.matches('\n').count();
    for decoded in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        let letter =
            decoded.map_err(|_| bad(format!("line {} is not text: half of a UTF-16 pair is missing", line(&text))))?;
        text.push(letter);
    }
    if rest.is_empty() {
        Ok(text)
    } else {
        Err(bad(format!("line {} is not text: the file ends within a UTF-16 letter", line(&text))))
    }
}

/// A line without its number, white space around it cut off.
fn without_number(line: &str) -> &str {
    let line = line.trim();
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = if rest.len() < line.len() { rest.strip_prefix(['.', ')']) } else { None };
    // `4.5 minutes of …` begins with no number of a line.
    rest.filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)).map_or(line, str::trim_start)
}

/// Splits `concept<TAB>prompt`.
fn with_concept(line: &str, number: usize) -> Result<PromptLine, InputError> {
    let prompt = |text: &str, concept: Option<&str>| PromptLine {
        text: text.trim().to_owned(),
        concept: concept.map(|concept| concept.trim().to_owned()),
        line: number,
    };
    match line.split_once('\t') {
        None => Ok(prompt(line, None)),
        Some((concept, text)) if !text.contains('\t') => Ok(prompt(text, Some(concept))),
        Some(_) => Err(bad(format!(
            "line {number} has more than one tab, `{}`; expected one prompt a line, or `concept<TAB>prompt`",
            shown(line)
        ))),
    }
}
