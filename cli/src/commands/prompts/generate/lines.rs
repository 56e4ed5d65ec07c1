//! The prompts in an answer, whatever its form.

use serde_json::Value;

use crate::llm::json_values;

/// Letters of a prompt.
const SHORTEST: usize = 15;
const LONGEST: usize = 600;

/// A line of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Prompt(String),
    /// Too short or too long for a prompt, or no text.
    Unusable,
}

impl Line {
    /// The line with its prompt changed.
    pub(super) fn map(self, change: impl Fn(String) -> String) -> Self {
        if let Self::Prompt(prompt) = self { Self::Prompt(change(prompt)) } else { self }
    }
}

/// The prompts in `text`: a JSON list, on its own or in an object, possibly cut off; else the numbered lines, or all lines.
pub(super) fn lines(text: &str) -> Vec<Line> {
    let mut found = vec![];
    for value in json_values(text, &['{', '[']) {
        collect(value, &mut found);
    }
    if found.is_empty() && text.contains(['{', '[']) {
        // A list without its end: its texts one by one, the names of fields among them being too short for prompts.
        let texts = json_values(text, &['"']).into_iter().filter_map(|value| value.as_str().map(prompt));
        found = texts.filter(|line| *line != Line::Unusable).collect();
    }
    if !found.is_empty() {
        return found;
    }
    let all = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("```"));
    // Where some lines are numbered, the others are talk.
    if all().any(is_numbered) {
        all().filter(|line| is_numbered(line)).map(prompt).collect()
    } else {
        all().map(prompt).collect()
    }
}

fn collect(value: Value, found: &mut Vec<Line>) {
    match value {
        Value::Array(values) => values.into_iter().for_each(|value| match value {
            Value::String(text) => found.push(prompt(&text)),
            Value::Object(_) | Value::Array(_) => collect(value, found),
            _ => found.push(Line::Unusable),
        }),
        Value::Object(object) => object.into_iter().for_each(|(name, value)| match value {
            Value::String(text) if name == "prompt" => found.push(prompt(&text)),
            Value::Object(_) | Value::Array(_) => collect(value, found),
            _ => {}
        }),
        _ => {}
    }
}

fn is_numbered(line: &str) -> bool {
    without_number(line).len() < line.len()
}

/// `line` without `12. `, `12) ` or `- ` in front.
fn without_number(line: &str) -> &str {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let has_number = rest.len() < line.len();
    let rest = if has_number { rest.strip_prefix(['.', ')']) } else { line.strip_prefix(['-', '*', '•']) };
    // `4.5 minutes of` is no number of a line.
    rest.filter(|rest| rest.starts_with(char::is_whitespace)).map_or(line, str::trim_start)
}

fn prompt(text: &str) -> Line {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let bare =
        without_number(&one_line).trim_matches(|c: char| matches!(c, '"' | '“' | '”' | '*') || c.is_whitespace());
    let plain = bare.chars().filter(|c| !c.is_control()).collect::<String>();
    let letters = plain.chars().count();
    // A prompt says at least two things.
    if (SHORTEST..=LONGEST).contains(&letters) && plain.contains(' ') { Line::Prompt(plain) } else { Line::Unusable }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(text: &str) -> Vec<String> {
        let usable = |line| if let Line::Prompt(prompt) = line { Some(prompt) } else { None };
        lines(text).into_iter().filter_map(usable).collect()
    }

    #[test]
    fn prompts_are_found_in_all_forms_of_an_answer() {
        let both = ["A calm song for harp at 60 BPM.", "An R&B jam, 4.5 minutes long."];
        let forms = [
            r#"{"prompts": ["A calm song for harp at 60 BPM.", "2. An R&B jam, 4.5 minutes long."]}"#,
            r#"```json
            [{"prompt": "A calm song for harp at 60 BPM."}, {"prompt": "An R&B jam, 4.5 minutes long."}]
            ```"#,
            r#"{"prompts": ["A calm song for harp at 60 BPM.", "An R&B jam, 4.5 minutes long.", "A cut off pro"#,
            "Here you are, as you have wished:\n\n1. A calm song for harp at 60 BPM.  \n2) An R&B jam, 4.5 minutes long.\n\nEnjoy all of them!",
            "- \"A calm song for harp at 60 BPM.\"\n- An R&B jam,\t4.5 minutes long.",
            "A calm song for harp at 60 BPM.\n\nAn R&B jam, 4.5 minutes long.",
        ];
        for form in forms {
            assert_eq!(prompts(form), both, "{form}");
        }
    }

    #[test]
    fn what_is_no_prompt_is_counted_as_such() {
        assert_eq!(lines(r#"["short", 3, null]"#), [Line::Unusable, Line::Unusable, Line::Unusable]);
        assert_eq!(lines(&format!("1. {}", "long ".repeat(200))), [Line::Unusable]);
        assert_eq!(lines(""), []);
        assert_eq!(prompts("[\"Two lines\\nin one prompt\\u0000 here\"]"), ["Two lines in one prompt here"]);
    }
}
