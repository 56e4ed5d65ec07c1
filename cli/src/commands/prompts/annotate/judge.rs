//! Whether an answer can be believed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tonoscope_core::musicologist::Annotation;
use tonoscope_hub::printable;

use crate::commands::prompts::asking::essence;
use crate::llm::{Answer, json_values};

/// A tempo beyond this is none.
const FASTEST: f64 = 1000.0;

/// Words that are no aspects, of one prompt, that are told.
const MOST_UNKNOWN: usize = 10;

/// What an answer says of one prompt.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It can be used.
    Good {
        /// With the prompt as it was asked about.
        annotation: Annotation,
        /// Words that are no aspects.
        left_out: Vec<String>,
    },
    /// It cannot, and why.
    Bad(String),
}

/// What an object of the answer says.
#[derive(Debug, Clone, PartialEq)]
struct Record {
    /// In the order of the list of aspects.
    aspects: Vec<String>,
    unknown: Vec<String>,
    bpm: f64,
}

/// Whether two names are of one aspect: case, and what stands between words, do not matter.
pub(super) fn same_aspect(one: &str, other: &str) -> bool {
    essence(one) == essence(other)
}

/// What `answer` says of each of the prompts `asked`, no two of which are the same.
///
/// With `lenient`, words that are no aspects are left out; otherwise they make an answer bad.
pub(super) fn judge(answer: &Answer, asked: &[&str], aspects: &[String], lenient: bool) -> Vec<Verdict> {
    let values = json_values(&answer.text, &['{', '[']);
    let has_json = !values.is_empty();
    let mut objects = vec![];
    for value in values {
        collect(value, &mut objects);
    }
    let mut of: BTreeMap<usize, Vec<Result<Record, String>>> = BTreeMap::new();
    for object in &objects {
        if let Some(at) = subject(object, asked) {
            let records = of.entry(at).or_default();
            let record = record(object, aspects);
            // Said twice in the same words is said once.
            if !records.contains(&record) {
                records.push(record);
            }
        }
    }
    let missing = match (&answer.refusal, answer.cut) {
        (Some(why), _) => format!("the model refuses to answer: {why}"),
        (None, true) => "not in the answer, which is cut off".to_owned(),
        (None, false) if !has_json => "no JSON in the answer".to_owned(),
        (None, false) => "not in the answer".to_owned(),
    };
    let verdict = |(at, prompt): (usize, &&str)| match of.remove(&at).as_deref() {
        None => Verdict::Bad(missing.clone()),
        Some([Ok(record)]) if lenient || record.unknown.is_empty() => Verdict::Good {
            annotation: Annotation { prompt: (*prompt).to_owned(), aspects: record.aspects.clone(), bpm: record.bpm },
            left_out: record.unknown.clone(),
        },
        Some([Ok(record)]) => {
            let words: Vec<String> = record.unknown.iter().map(|word| format!("`{word}`")).collect();
            Verdict::Bad(format!("not in the list of aspects: {}", words.join(", ")))
        }
        Some([Err(why)]) => Verdict::Bad(why.clone()),
        Some(_) => Verdict::Bad("annotated more than once, and differently".to_owned()),
    };
    asked.iter().enumerate().map(verdict).collect()
}

/// The objects in `value` that may be annotations, however deep they are.
fn collect(value: Value, objects: &mut Vec<Map<String, Value>>) {
    match value {
        Value::Object(object) if object.contains_key("aspects") => objects.push(object),
        Value::Object(object) => object.into_iter().for_each(|(_, inner)| collect(inner, objects)),
        Value::Array(values) => values.into_iter().for_each(|inner| collect(inner, objects)),
        _ => {}
    }
}

/// Which of the prompts an object is about: by its text, or by its number where it has no text.
fn subject(object: &Map<String, Value>, asked: &[&str]) -> Option<usize> {
    if let Some(text) = object.get("prompt").and_then(Value::as_str) {
        let exact = |text: &str| asked.iter().position(|prompt| *prompt == text);
        if let Some(at) = exact(text.trim()) {
            return Some(at);
        }
        // A number that was copied, other quotes, a full stop more or less.
        let plain = essence(without_number(text));
        let mut alike = asked.iter().enumerate().filter(|(_, prompt)| essence(prompt) == plain);
        let first = alike.next();
        return first.filter(|_| alike.next().is_none() && !plain.is_empty()).map(|(at, _)| at);
    }
    let number = ["number", "index", "id"].iter().find_map(|name| object.get(*name)?.as_u64())?;
    usize::try_from(number).ok()?.checked_sub(1).filter(|at| *at < asked.len())
}

fn without_number(text: &str) -> &str {
    let text = text.trim();
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = if rest.len() < text.len() { rest.strip_prefix(['.', ')']) } else { None };
    rest.map_or(text, str::trim_start)
}

/// Aspects and tempo of an object; the error is what is wrong with it.
fn record(object: &Map<String, Value>, aspects: &[String]) -> Result<Record, String> {
    let words: Vec<String> = match object.get("aspects") {
        Some(Value::Array(values)) => {
            let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            values.iter().map(word).collect()
        }
        Some(Value::String(list)) => list.split(',').map(str::to_owned).collect(),
        _ => return Err("its aspects are no list".to_owned()),
    };
    let (mut found, mut unknown) = (vec![false; aspects.len()], vec![]);
    for word in words.iter().map(|word| word.trim()).filter(|word| !word.is_empty()) {
        match aspects.iter().position(|aspect| is_meant(aspect, word)) {
            Some(at) => found[at] = true,
            None => unknown.push(printable(word)),
        }
    }
    unknown.sort();
    unknown.dedup();
    unknown.truncate(MOST_UNKNOWN);
    let aspects = aspects.iter().zip(found).filter(|(_, found)| *found).map(|(aspect, _)| aspect.clone()).collect();
    Ok(Record { aspects, unknown, bpm: tempo(object.get("bpm"))? })
}

/// `Synth lead` and `drums` are what is meant by them.
fn is_meant(aspect: &str, word: &str) -> bool {
    same_aspect(aspect, word) || word.strip_suffix(['s', 'S']).is_some_and(|word| same_aspect(aspect, word))
}

fn tempo(value: Option<&Value>) -> Result<f64, String> {
    let number = match value {
        None | Some(Value::Null) => Some(0.0),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => {
            let text = text.trim().to_lowercase();
            text.trim_end_matches("bpm").trim_end().parse().ok()
        }
        _ => None,
    };
    number.filter(|bpm| (0.0..=FASTEST).contains(bpm)).ok_or_else(|| "its tempo is no number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: [&str; 3] = ["A drum solo at 90 BPM.", "A flute tune.", "An organ piece, \"grand\"."];

    fn verdicts(text: &str, lenient: bool) -> Vec<Verdict> {
        let aspects: Vec<String> = ["drum", "flute", "organ", "synth_lead", "bright sound"].map(str::to_owned).to_vec();
        judge(&Answer { text: text.to_owned(), cut: false, refusal: None }, &ASKED, &aspects, lenient)
    }

    fn good(at: usize, aspects: &[&str], bpm: f64) -> Verdict {
        let aspects = aspects.iter().map(|&aspect| aspect.to_owned()).collect();
        Verdict::Good { annotation: Annotation { prompt: ASKED[at].to_owned(), aspects, bpm }, left_out: vec![] }
    }

    fn bad(why: &str) -> Verdict {
        Verdict::Bad(why.to_owned())
    }

    #[test]
    fn prompts_are_recognised_in_any_order_and_dress() {
        let all = [good(0, &["drum"], 90.0), good(1, &["flute", "bright sound"], 0.0), good(2, &["organ"], 0.0)];
        let lines = r#"
            {"prompt": "An organ piece, “grand”", "aspects": ["Organ"], "bpm": null}
            {"prompt": "2. A flute tune.", "aspects": ["Bright Sound", "FLUTE", "flute"]}
            {"prompt": "a drum solo at 90 bpm", "aspects": "drums", "bpm": "90 BPM"}"#;
        assert_eq!(verdicts(lines, false), all);
        let numbered = r#"{"annotations": [{"number": 1, "aspects": ["drum"], "bpm": 90}, {"id": 3, "aspects": ["organ"]},
            {"index": 2, "aspects": ["flute", "bright_sound"], "bpm": 0.0}, {"id": 4, "aspects": []}, {"id": 0, "aspects": []}]}"#;
        assert_eq!(verdicts(numbered, false), all);
        let nested = format!("<think>{{hm}}</think> Here: {{\"data\": {{\"x\": {numbered}}}}} Done.");
        assert_eq!(verdicts(&nested, false), all);
    }

    #[test]
    fn what_cannot_be_believed_is_bad_and_says_why() {
        let missing = "not in the answer";
        let twice = r#"[{"prompt": "A flute tune.", "aspects": ["flute"]}, {"prompt": "A flute tune.", "aspects": ["organ"]},
            {"prompt": "A flute song.", "aspects": ["flute"]}]"#;
        let twice_bad = bad("annotated more than once, and differently");
        assert_eq!(verdicts(twice, true), [bad(missing), twice_bad, bad(missing)]);
        let same = r#"[{"prompt": "A flute tune.", "aspects": ["flute"]}, {"prompt": "A flute tune", "aspects": ["flutes"], "bpm": 0}]"#;
        assert_eq!(verdicts(same, false)[1], good(1, &["flute"], 0.0));
        let broken = r#"[{"prompt": "A flute tune.", "aspects": 3}, {"prompt": "A drum solo at 90 BPM.", "aspects": [], "bpm": "fast"},
            {"prompt": "An organ piece, \"grand\".", "aspects": [], "bpm": -1}]"#;
        let no_number = "its tempo is no number";
        assert_eq!(verdicts(broken, true), [bad(no_number), bad("its aspects are no list"), bad(no_number)]);
        assert_eq!(verdicts("I cannot do that.", true)[0], bad("no JSON in the answer"));
        let answer = Answer { text: String::new(), cut: false, refusal: Some("no".into()) };
        assert_eq!(judge(&answer, &ASKED[..1], &[], true), [bad("the model refuses to answer: no")]);
        let answer = Answer { text: "[{".into(), cut: true, refusal: None };
        assert_eq!(judge(&answer, &ASKED[..1], &[], true), [bad("not in the answer, which is cut off")]);
    }

    #[test]
    fn invented_aspects_are_bad_until_they_are_left_out() {
        let text = r#"{"prompt": "A flute tune.", "aspects": ["flute", "majestic", 7, "majestic"]}"#;
        assert_eq!(verdicts(text, false)[1], bad("not in the list of aspects: `7`, `majestic`"));
        let Verdict::Good { annotation, left_out } = verdicts(text, true).remove(1) else { panic!() };
        assert_eq!(
            (annotation.aspects, left_out),
            (vec!["flute".to_owned()], vec!["7".to_owned(), "majestic".to_owned()])
        );
    }

    #[test]
    fn half_an_answer_gives_what_is_whole_in_it() {
        let text = r#"{"annotations": [{"prompt": "A drum solo at 90 BPM.", "aspects": ["drum"], "bpm": 90}, {"prompt": "A flute tune.", "asp"#;
        let missing = "not in the answer";
        assert_eq!(verdicts(text, false), [good(0, &["drum"], 90.0), bad(missing), bad(missing)]);
    }
}
