//! Prompts, one a line.

use super::InputError;

/// Prompts of a text: one a line, blank lines skipped, white space around them cut off.
///
/// A number in front (`12. `), as in the published `prompt.txt`, is no part of a prompt; a line without one is taken
/// whole. Bytes that are not UTF-8 become U+FFFD.
///
/// # Errors
/// [`InputError::Empty`] if no prompt is left.
pub fn read_prompts(bytes: &[u8]) -> Result<Vec<String>, InputError> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.trim_start_matches('\u{feff}').lines().map(without_number);
    let prompts: Vec<String> = lines.filter(|prompt| !prompt.is_empty()).map(str::to_owned).collect();
    if prompts.is_empty() { Err(InputError::Empty { what: "prompts" }) } else { Ok(prompts) }
}

/// A line without its number. The published code cuts at the first `. ` whatever stands before it, which is the same where
/// every line has a number.
fn without_number(line: &str) -> &str {
    let line = line.trim();
    let Some((number, rest)) = line.split_once('.') else { return line };
    let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if numbered && (rest.is_empty() || rest.starts_with(char::is_whitespace)) { rest.trim_start() } else { line }
}
